/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies disks out of an archive into their targets.
 *
 * Two ways.  In archive order, in one thread: the data of each extent in large pieces, as they come;
 * works with a pipe, and is the fastest where one disk is written to.  By disk, in several threads, through
 * the images: for archives of many disks and targets that take their time.
 *
 * Both fail unless the whole archive proves sound.  Errors have the archive's or the target's name in
 * front.
 */
#pragma once

#include "image/archive.h"
#include "tool/target.h"
#include "tool/verbose.h"

typedef struct {
  VmaArchive *archive;
  ToolTarget *targets[VMA_MAX_DEVICES]; /* by device id; NULL: not wanted */
  ToolVerbose verbose;
} ToolCopy;

gboolean tool_copy_in_archive_order (ToolCopy *copy, GError **error);

/* The archive's index must be finished. */
gboolean tool_copy_by_disk (ToolCopy *copy, guint jobs, GError **error);
