/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk of an overlay: blocks of the scratch file over an image.
 *
 * Owned by its overlay.  Any thread may call anything; a read takes no lock, nor does a write of
 * blocks that were written before.
 *
 * A block that cannot be read from the archive is an error for who reads it or writes a part of it;
 * once written as a whole it is as good as any.
 */
#pragma once

#include "overlay/overlay.h"

/* As vma_image_pread(). */
gssize vma_overlay_pread (VmaOverlayDisk *disk, void *buffer, gsize size, guint64 offset,
                          GCancellable *cancellable, GError **error);

/*
 * Returns how much was written: less than `size` where the disk ends or the scratch file is full.
 * -1 where it is nothing: VMA_ERROR_NO_SPACE, VMA_ERROR_INVALID (at or behind the end of the disk),
 * and what a read may fail with.
 */
gssize vma_overlay_pwrite (VmaOverlayDisk *disk, const void *buffer, gsize size, guint64 offset,
                           GCancellable *cancellable, GError **error);

/*
 * From now on these bytes are zeros; space is given back.  VMA_ERROR_UNSUPPORTED where the file
 * system of the scratch file cannot.
 */
gboolean vma_overlay_zero (VmaOverlayDisk *disk, guint64 offset, guint64 size,
                           GCancellable *cancellable, GError **error);

/* Whether the call can do without waiting for the index.  `is_ready_to_write` is for zero, too. */
gboolean vma_overlay_is_ready_to_read (VmaOverlayDisk *disk, guint64 offset, gsize size);
gboolean vma_overlay_is_ready_to_write (VmaOverlayDisk *disk, guint64 offset, guint64 size);

/* As vma_image_next_data() and _hole(). */
gboolean vma_overlay_next_data (VmaOverlayDisk *disk, guint64 offset, guint64 *found,
                                GCancellable *cancellable, GError **error);
gboolean vma_overlay_next_hole (VmaOverlayDisk *disk, guint64 offset, guint64 *found,
                                GCancellable *cancellable, GError **error);

/*
 * Blocks that are stored somewhere, if `below` are in the archive.  The index must be finished.  An
 * upper bound: what was zeroed again may be counted.
 */
guint64 vma_overlay_stored_blocks (VmaOverlayDisk *disk, guint64 below);

/* When it was last written to, in seconds since the epoch; 0: never since it was opened. */
gint64 vma_overlay_mtime (VmaOverlayDisk *disk);
