/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pass over a zstd file that decodes all of it once and finds its checkpoints on the way: the
 * pass_*() functions of VmaCodec.
 *
 * libzstd decodes, one block at a time, and verifies the frames' checksums.  A pass that began
 * inside a frame cannot verify that frame's: the sum covers bytes that it has not seen.
 *
 * Memory: the decoder's window and a ring of the same size and a few MiB, both bounded by
 * limits->memory (VMA_ERROR_UNSUPPORTED where that is not enough), and at most a quarter of it for
 * an open checkpoint.  One thread, and a second one of its own where there is a processor for it.
 */
#pragma once

#include "source/codec.h"

typedef enum {
  VMA_ZSTD_PASS_DEFAULT = 0,
  VMA_ZSTD_PASS_ONE_THREAD = 1 << 0,
  VMA_ZSTD_PASS_TWO_THREADS = 1 << 1, /* however many processors there are */
  VMA_ZSTD_PASS_THOROUGH = 1 << 2,    /* check every match of every block: slow */
} VmaZstdPassFlags;

VmaPass *vma_zstd_pass_new (const VmaCheckpoint *from, const VmaCodecLimits *limits,
                            const VmaPassSink *sink, GError **error);
VmaPass *vma_zstd_pass_new_with (const VmaCheckpoint *from, const VmaCodecLimits *limits,
                                 const VmaPassSink *sink, VmaZstdPassFlags flags, GError **error);
gboolean vma_zstd_pass_feed (VmaPass *pass, const guint8 *bytes, gsize size, GError **error);
gboolean vma_zstd_pass_end (VmaPass *pass, GError **error);
void vma_zstd_pass_free (VmaPass *pass);

/* In how many frames the analysis lost its way, for tests: 0 for what encoders really write. */
guint vma_zstd_pass_given_up (VmaPass *pass);
