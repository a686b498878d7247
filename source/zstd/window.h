/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sparse window: those bytes before a checkpoint that blocks behind it copy from.
 *
 * At zstd's usual levels that is a few per cent of the window, so a checkpoint costs little.  While
 * the pass sees which bytes are used, they are collected in the order of their use; at the end they
 * are put in order and packed.
 *
 * Positions are bytes of output.  A VmaZstdWindow owns its copies and belongs to one thread.
 */
#pragma once

#include <glib.h>

/* The latest output, as a ring: the byte at position p is at p % size. */
typedef struct {
  guint8 *data;
  guint64 size;
} VmaZstdRing;

typedef struct VmaZstdWindow VmaZstdWindow;

/* A window of the positions [start, end). */
VmaZstdWindow *vma_zstd_window_new (guint64 start, guint64 end);
void vma_zstd_window_free (VmaZstdWindow *window);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaZstdWindow, vma_zstd_window_free)

/* The bytes [from, to), inside the window and the ring, are used. */
void vma_zstd_window_use (VmaZstdWindow *window, const VmaZstdRing *ring, guint64 from, guint64 to);

/* The first position that is used; the window's end where none is. */
guint64 vma_zstd_window_first (const VmaZstdWindow *window);

/* The bytes of memory that what was collected takes. */
gsize vma_zstd_window_cost (const VmaZstdWindow *window);

/*
 * The bytes used, packed, as a part of the last `content` bytes of the window (at least those from
 * the first use on).  `*unpacked` is the size before compression.
 */
GByteArray *vma_zstd_window_pack (VmaZstdWindow *window, guint64 content, gsize *unpacked);

/*
 * Fills content[0..size), zeroed by the caller, from what vma_zstd_window_pack() made of a window
 * with as much content.  FALSE where that does not fit: it may be anything.
 */
gboolean vma_zstd_window_unpack (const guint8 *packed, gsize packed_size, gsize unpacked,
                                 guint8 *content, gsize size);
