/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One frame of a compressed archive, and the table that tells where each is.  Pure; a VmaFramer belongs to one
 * thread.
 *
 * zstd: a frame with its content size and checksum.  The table is the zstd seekable format's: a skippable frame
 * with {compressed size, size} of each, and a footer.  lz4: a frame with its content size, independent
 * blocks of at most 4 MiB and a content checksum; no table, the sizes stand in front of each block.
 */
#pragma once

#include "writer/writer.h"

typedef struct VmaFramer VmaFramer;

VmaFramer *vma_framer_new (VmaCompression kind, int level, GError **error);
void vma_framer_free (VmaFramer *framer);

/* What `size` bytes can become at most. */
gsize vma_framer_bound (VmaFramer *framer, gsize size);

/* Compresses data[0..size) into out[0..room); the frame's size, or 0 and an error. */
gsize vma_framer_compress (VmaFramer *framer, const guint8 *data, gsize size, guint8 *out,
                           gsize room, GError **error);

typedef struct {
  guint32 compressed;
  guint32 size;
} VmaFrameSizes;

/* The seek table for these frames (VmaFrameSizes), or NULL where the format has none. */
GByteArray *vma_seek_table (VmaCompression kind, GArray *frames);
