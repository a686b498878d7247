/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is lost of the disks of a damaged archive.
 *
 * Looks at a finished index; walks the maps only of disks of which anything may be lost.
 */
#pragma once

#include "base/json-put.h"
#include "tool/reader.h"

typedef struct {
  const VmaDevice *device;
  guint64 size;   /* of the disk; for vmstate what was found of it */
  guint64 lost;   /* bytes */
  GArray *ranges; /* ToolRange: bytes of the disk, ascending, apart from each other */
} ToolLoss;

/* A ToolLoss for each device of the archive.  `unreadable` may be NULL.  NULL when cancelled. */
GPtrArray *tool_loss_find (VmaArchive *archive, const GArray *unreadable, GError **error);

/* Disks of which something is lost. */
guint tool_loss_count (const GPtrArray *losses);

/* Lines on stdout, and the same as members of the JSON object that is open. */
void tool_loss_print (VmaArchive *archive, const GPtrArray *losses, const GArray *unreadable);
void tool_loss_json (VmaArchive *archive, const GPtrArray *losses, const GArray *unreadable,
                     JsonBuilder *json);
