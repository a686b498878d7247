/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a disk is written to: a fresh file, or a file or block device that was there before.
 *
 * A target belongs to one thread.  Errors name the target.
 */
#pragma once

#include <glib.h>

typedef struct ToolTarget ToolTarget;

/* The size will be known at the end only (vmstate). */
#define TOOL_SIZE_LATER G_MAXUINT64

/*
 * How much larger than its disk an existing target may be: storages round sizes up.
 */
#define TOOL_TARGET_SLACK (4u * 1024 * 1024)

/*
 * A new file `name` in the directory `dir_fd`; must not exist.  Zeros need not be written.  `shown` is the
 * name for messages.
 */
ToolTarget *tool_target_create (int dir_fd, const char *name, const char *shown, guint64 size,
                                GError **error);

/*
 * A raw file or block device for a disk of `size` bytes.  With `write_zeros` it may hold anything, and
 * zeros are written (or the space given back); without, it is known to be all zero.
 */
ToolTarget *tool_target_open (const char *path, guint64 size, gboolean write_zeros, GError **error);

/* What lies behind the disk's end is left out. */
gboolean tool_target_write (ToolTarget *target, const void *data, gsize size, guint64 offset,
                            GError **error);

/* Zeros, where they must be written.  Neighbouring calls are put together. */
gboolean tool_target_zero (ToolTarget *target, guint64 offset, guint64 size, GError **error);

/* All was written: gives a fresh file its exact `size`, and brings everything to the medium. */
gboolean tool_target_finish (ToolTarget *target, guint64 size, GError **error);

/* Whether two targets are the same file or device. */
gboolean tool_target_is_same (const ToolTarget *a, const ToolTarget *b);

void tool_target_free (ToolTarget *target);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ToolTarget, tool_target_free)
