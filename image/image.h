/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A readable disk: the cluster map of a device, and the source its bytes come from.
 *
 * The one read engine: everything that reads a disk goes through here.  An image belongs to its
 * archive (a window to whoever made it).  Any thread may call anything at any time; no lock is taken on the way of a read.
 *
 * A cluster that is missing or bad is an error, never zeros.  What the scan has not come to yet is
 * waited for.
 */
#pragma once

#include "image/archive.h"

VmaArchive *vma_image_archive (VmaImage *image);
const VmaDevice *vma_image_device (VmaImage *image);

/*
 * A stretch of a disk as an image of its own, such as a partition; it must lie inside the disk, which is no
 * vmstate.  Offsets count from its start.  Freed by the caller, before the archive.
 */
VmaImage *vma_image_new_window (VmaImage *disk, guint64 offset, guint64 length);
void vma_image_free_window (VmaImage *window);
gboolean vma_image_is_window (VmaImage *image);
guint64 vma_image_start (VmaImage *image); /* of a window on its disk; 0 for others */

/*
 * The exact size in bytes.  For vmstate that is known only when the index is finished, and is waited
 * for: FALSE with an error when cancelled.
 */
gboolean vma_image_size (VmaImage *image, guint64 *size, GCancellable *cancellable, GError **error);

/* Whether size, counts and reads of [offset, offset + size) need no waiting. */
gboolean vma_image_size_is_known (VmaImage *image);
gboolean vma_image_is_ready (VmaImage *image, guint64 offset, gsize size);

/*
 * Reads up to `size` bytes; short only at the end of the disk, 0 at or behind it.  -1 with
 * VMA_ERROR_MISSING (cluster not in the archive, or bad), _IO, _DAMAGED, _CANCELLED: then nothing in
 * `buffer` counts.
 */
gssize vma_image_pread (VmaImage *image, void *buffer, gsize size, guint64 offset,
                        GCancellable *cancellable, GError **error);

typedef enum {
  VMA_SPAN_DATA,    /* stored */
  VMA_SPAN_ZERO,    /* reads as zeros, takes no space */
  VMA_SPAN_MISSING, /* cannot be read */
} VmaSpanKind;

/* A stretch of a disk of one kind.  Bytes of the disk; `source` is its place in the archive. */
typedef struct {
  VmaSpanKind kind;
  guint64 start, end;
  guint64 source; /* of `start`; for VMA_SPAN_DATA; in the base, where the cluster is there */
} VmaSpan;

/*
 * The span that begins at `offset` (inside the disk).  It is contiguous in the archive, and may stop
 * short of where its kind ends.  Waits for the index.  FALSE with an error when cancelled, or
 * when the index failed.
 */
gboolean vma_image_span (VmaImage *image, guint64 offset, VmaSpan *span, GCancellable *cancellable,
                         GError **error);

/*
 * SEEK_DATA and SEEK_HOLE: the first byte at or after `offset` that is stored (or missing: it must not
 * pass for a hole), or that is zero; the disk's size where there is none.  Granularity 4 KiB.
 */
gboolean vma_image_next_data (VmaImage *image, guint64 offset, guint64 *found,
                              GCancellable *cancellable, GError **error);
gboolean vma_image_next_hole (VmaImage *image, guint64 offset, guint64 *found,
                              GCancellable *cancellable, GError **error);
