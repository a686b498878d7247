/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map file of extract -r: which disk goes where.  A line each:
 *
 *   [format=raw:][throttling.bps=N:][throttling.group=G:][cache=C:]{0|1}:DEVNAME=PATH
 *   skip=DEVNAME
 *
 * ended by "done", an empty line or the end of the file.  1: zeros must be written, the target may hold
 * anything.  Throttling and cache are accepted and ignored.
 */
#pragma once

#include "image/archive.h"

typedef struct {
  gboolean mentioned, skip, write_zeros;
  char *path; /* NULL where it is skipped */
} ToolMapLine;

typedef struct {
  ToolMapLine lines[VMA_MAX_DEVICES]; /* by device id */
} ToolMap;

/* Reads the map: a file, a FIFO, or "-" for standard input.  Errors name file and line. */
ToolMap *tool_map_read (const char *path, VmaArchive *archive, GError **error);
void tool_map_free (ToolMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ToolMap, tool_map_free)
