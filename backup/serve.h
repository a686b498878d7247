/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service: takes orders for backups, and keeps a list of them until they are forgotten.
 *
 * Each backup is a process of its own, `vmabackup run --json`, whose events are read here: one that
 * crashes takes no other along.
 *
 * Locking: handle() is a VmaControlHandler and may run in many threads; the rest is for one.
 */
#pragma once

#include "backup/control.h"

#include <gio/gio.h>

typedef struct VmaService VmaService;

/* `program` is vmabackup itself. */
VmaService *vma_service_new (const char *program);

JsonNode *vma_service_handle (gpointer service, VmaClient *client, const char *command,
                              JsonObject *arguments, GError **error);

/* Where events go; before the first order. */
void vma_service_set_control (VmaService *service, VmaControl *control);

/* Cancels all backups, and takes no more orders. */
void vma_service_cancel_all (VmaService *service);

/* When none runs any more and the control was stopped. */
void vma_service_free (VmaService *service);

/* How many run now. */
guint vma_service_running (VmaService *service);
