/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libzstd, fed with one block at a time, from a frame's beginning or from a checkpoint inside.
 *
 * Owns a decoding context, and knows its traps: one that was given a dictionary is used for nothing
 * else.  Belongs to one thread.  Errors have no offset: the caller puts it in front.
 */
#pragma once

#include "source/codec.h"
#include "source/zstd/checkpoint.h"
#include "source/zstd/frame.h"

typedef struct VmaZstdDecoder VmaZstdDecoder;

VmaZstdDecoder *vma_zstd_decoder_new (const VmaCodecLimits *limits, GError **error);
void vma_zstd_decoder_free (VmaZstdDecoder *decoder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaZstdDecoder, vma_zstd_decoder_free)

/* VMA_ERROR_UNSUPPORTED where `bytes` for a window of `window` bytes are more than the limit. */
gboolean vma_zstd_check_memory (guint64 bytes, guint64 window, const VmaCodecLimits *limits,
                                GError **error);

/* Sets the error that libzstd's return value `code` means. */
void vma_zstd_set_error (GError **error, gsize code);

/* A frame begins, with this header. */
gboolean vma_zstd_decoder_begin (VmaZstdDecoder *decoder, const guint8 *header, gsize size,
                                 GError **error);

/* Takes a frame up inside. */
gboolean vma_zstd_decoder_resume (VmaZstdDecoder *decoder, const VmaZstdCheckpoint *state,
                                  GError **error);

/*
 * Decodes a block.  `*given` is what it gave; where it would give more than `room`, it gives as
 * many and the decoder is at its end: it can only begin anew.
 */
gboolean vma_zstd_decoder_block (VmaZstdDecoder *decoder, const VmaZstdBlock *block,
                                 const guint8 *body, guint8 *out, gsize room, gsize *given,
                                 GError **error);

/*
 * Compares the frame's checksum, or does nothing where the last block had no room.  Not after
 * resume: the sum covers what was before, so it is just left out.
 */
gboolean vma_zstd_decoder_checksum (VmaZstdDecoder *decoder,
                                    const guint8 checksum[VMA_ZSTD_CHECKSUM], GError **error);
