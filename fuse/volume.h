/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is behind a file of kind VMA_NODE_IMAGE: its image, or, with -o overlay, the overlay's disk
 * over it, or the window on that.  Offsets are those of the file.  The functions are those of
 * image/image.h and overlay/disk.h; any thread.
 */
#pragma once

#include "fuse/mounted.h"

gboolean vma_volume_is_writable (VmaMounted *mounted, const VmaNode *node);

gboolean vma_volume_is_ready_to_read (VmaMounted *mounted, const VmaNode *node, guint64 offset,
                                      gsize size);
gssize vma_volume_pread (VmaMounted *mounted, const VmaNode *node, void *buffer, gsize size,
                         guint64 offset, GCancellable *cancellable, GError **error);

/* SEEK_DATA and SEEK_HOLE. */
gboolean vma_volume_seek (VmaMounted *mounted, const VmaNode *node, int whence, guint64 offset,
                          guint64 *found, GError **error);

/* Of volumes that are writable. */
gboolean vma_volume_is_ready_to_write (VmaMounted *mounted, const VmaNode *node, guint64 offset,
                                       guint64 size);
gssize vma_volume_pwrite (VmaMounted *mounted, const VmaNode *node, const void *buffer, gsize size,
                          guint64 offset, GError **error);
gboolean vma_volume_zero (VmaMounted *mounted, const VmaNode *node, guint64 offset, guint64 size,
                          GError **error);

/* What the overlay makes of the number of blocks that are stored in the archive. */
guint64 vma_volume_stored_blocks (VmaMounted *mounted, const VmaNode *node, guint64 below);

/* When it was last written to; 0: not. */
gint64 vma_volume_mtime (VmaMounted *mounted, const VmaNode *node);
