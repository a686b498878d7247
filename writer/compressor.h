/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compresses a stream on several threads, as independent frames, and appends them to an output in
 * order; at the end a seek table where the format has one.
 *
 * Owns its threads and buffers: 2 * threads + 1 frames of some 6 MiB and their compressed forms.
 * write() and finish() belong to one thread at a time.
 */
#pragma once

#include "writer/output.h"
#include "writer/writer.h"

typedef struct VmaCompressor VmaCompressor;

VmaCompressor *vma_compressor_new (VmaOutput *output, VmaCompression kind, int level,
                                   guint threads, GError **error);
void vma_compressor_free (VmaCompressor *compressor);

/*
 * The next bytes, which will be in one frame: a frame ends between two calls, never inside one.
 * size <= VMA_EXTENT_MAX_SIZE, or less than a frame's header.  Errors of earlier frames come up here.
 */
gboolean vma_compressor_write (VmaCompressor *compressor, const guint8 *data, gsize size,
                               GError **error);

/* Waits for all frames, and writes the seek table. */
gboolean vma_compressor_finish (VmaCompressor *compressor, GError **error);

/* Compressed bytes so far. */
guint64 vma_compressor_written (VmaCompressor *compressor);
