/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies the disks of an archive into a writer.
 *
 * Errors of the archive have its path in front; progress is shown.
 */
#pragma once

#include "image/image.h"
#include "tool/progress.h"
#include "writer/writer.h"

typedef struct {
  VmaArchive *archive;
  VmaArchive *other;                 /* where what the first has lost is taken from; or NULL */
  VmaWriter *writer;
  guint8 streams[VMA_MAX_DEVICES];   /* by device id: the writer's stream; 0: not wanted */
} ToolRepack;

/* Disk by disk, ascending; the indexes must be finished. */
gboolean tool_repack_by_disk (ToolRepack *repack, GError **error);

/* As the clusters come: one pass; needs no index. */
gboolean tool_repack_in_archive_order (ToolRepack *repack, GError **error);
