/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frame and block headers of the zstd format (RFC 8878, 3.1.1 and 3.1.2).
 *
 * Pure functions over bytes, any thread.  Nothing is owned.
 */
#pragma once

#include <glib.h>

#define VMA_ZSTD_MAGIC 0xFD2FB528u
#define VMA_ZSTD_SKIPPABLE_MAGIC 0x184D2A50u /* to ...5F */

#define VMA_ZSTD_FRAME_HEADER_MAX 18
#define VMA_ZSTD_SKIPPABLE_HEADER 8
#define VMA_ZSTD_BLOCK_HEADER 3
#define VMA_ZSTD_CHECKSUM 4

/* What a block can give at most, whatever the window. */
#define VMA_ZSTD_BLOCK_MAX (128u << 10)

/* `zstd --long=31`: what libzstd decodes at most. */
#define VMA_ZSTD_WINDOW_MAX (G_GUINT64_CONSTANT (1) << 31)

#define VMA_ZSTD_CONTENT_UNKNOWN G_MAXUINT64

typedef struct {
  gboolean skippable;
  guint32 skip; /* skippable: bytes behind the header */

  guint64 window;  /* bytes that matches may reach back */
  guint64 content; /* bytes the frame says to give, or VMA_ZSTD_CONTENT_UNKNOWN */
  gboolean checksum;
} VmaZstdFrame;

typedef enum {
  VMA_ZSTD_BLOCK_RAW,
  VMA_ZSTD_BLOCK_RLE,
  VMA_ZSTD_BLOCK_COMPRESSED,
} VmaZstdBlockType;

typedef struct {
  VmaZstdBlockType type;
  gboolean last;
  guint32 size; /* raw, RLE: bytes it gives */
  guint32 body; /* bytes behind the header */
} VmaZstdBlock;

/*
 * Reads the header of a frame.  Returns how many bytes it takes; where that is more than `size`,
 * ask again with as many (`frame` is not filled then, and the number may grow).  -1 and
 * VMA_ERROR_DAMAGED where no frame begins here, VMA_ERROR_UNSUPPORTED for legacy formats,
 * dictionaries and windows over VMA_ZSTD_WINDOW_MAX.
 */
gssize vma_zstd_frame_parse (const guint8 *data, gsize size, VmaZstdFrame *frame, GError **error);

/* Reads the header of a block.  FALSE where it is not valid. */
gboolean vma_zstd_block_parse (const guint8 data[VMA_ZSTD_BLOCK_HEADER], VmaZstdBlock *block);

/* Writes the header of a block. */
void vma_zstd_block_write (guint8 data[VMA_ZSTD_BLOCK_HEADER], VmaZstdBlockType type, gboolean last,
                           guint32 size);

/* log2 of the smallest power of two that is not under `window`, and of at least one full block. */
guint vma_zstd_window_log (guint64 window);

/* The header of a frame that says nothing but its window.  Returns its size, 6. */
#define VMA_ZSTD_PLAIN_HEADER 6
gsize vma_zstd_frame_write_plain (guint8 data[VMA_ZSTD_PLAIN_HEADER], guint window_log);
