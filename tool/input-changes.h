/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk over NBD, of which only what has changed since a backup is read (input-changes.c).
 */
#pragma once

#include "image/image.h"
#include "tool/input.h"

/*
 * `bitmap` is QEMU's name of the dirty bitmap; `archive` is the backup since which it was kept,
 * with its index complete, and outlives the disk.  Nobody can tell whether it really is that one:
 * that is up to the caller.
 */
ToolInput *tool_input_changes (const char *uri, const char *name, const char *bitmap,
                               VmaArchive *archive, guint threads, GError **error);
