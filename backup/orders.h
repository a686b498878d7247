/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The `backup` command's arguments as a command line of `vmabackup run`.  Pure, but for
 * descriptors.
 */
#pragma once

#include "backup/control.h"

typedef struct {
  char *id;
  char **argv; /* NULL-terminated */
  GArray *fds; /* int: numbers 3, 4, ... in the new process; owned */
} VmaOrder;

/*
 * Descriptors that are named as "fd:NAME" are taken from the client.  Errors are VMA_CONTROL_ERROR.
 */
VmaOrder *vma_order_new (const char *program, VmaClient *client, JsonObject *arguments,
                         GError **error);
void vma_order_free (VmaOrder *order);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaOrder, vma_order_free)
