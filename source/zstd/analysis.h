/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the checkpoints of a zstd stream while something else decodes it.
 *
 * It is told of every frame and every block in their order, after libzstd has accepted them.  At
 * the first block boundary that is far enough from the last checkpoint a new one is opened: the
 * tables are known from the descriptions, the repeat offsets from the sequences of the last few
 * blocks. For the next window's worth of output it then looks at every match, and keeps what is
 * copied from before the checkpoint.  A checkpoint is given away when the next one is opened or its
 * frame ends, so that it can say what the blocks until there give.
 *
 * Only some blocks have their sequences decoded, so this costs a fraction of decoding itself.
 * Where a block is not as expected although libzstd took it, the rest of its frame goes without
 * checkpoints; that never fails the pass.
 *
 * Owns copies of the last blocks' sequences and the open checkpoint.  One thread at a time; the
 * ring must hold the last window of output before the block at hand, and all of that block.
 */
#pragma once

#include "source/codec.h"
#include "source/zstd/checkpoint.h"
#include "source/zstd/frame.h"
#include "source/zstd/record.h"
#include "source/zstd/window.h"

#include <glib.h>

typedef struct VmaZstdAnalysis VmaZstdAnalysis;

/* Takes over a checkpoint; its state belongs to the callee. */
typedef void (*VmaZstdEmit) (gpointer data, VmaCheckpoint *checkpoint);

/* `thorough` decodes the sequences of all blocks, to check every match: slow. */
VmaZstdAnalysis *vma_zstd_analysis_new (const VmaCodecLimits *limits, const VmaZstdRing *ring,
                                        gboolean thorough, VmaZstdEmit emit, gpointer data);
void vma_zstd_analysis_free (VmaZstdAnalysis *analysis);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaZstdAnalysis, vma_zstd_analysis_free)

/* The pass begins at this checkpoint rather than at the file's beginning; `state` NULL: at a frame.
 */
void vma_zstd_analysis_resume (VmaZstdAnalysis *analysis, guint64 out,
                               const VmaZstdCheckpoint *state);

/* A frame begins at `in`, its output at `out`. */
void vma_zstd_analysis_frame (VmaZstdAnalysis *analysis, guint64 in, guint64 out,
                              const VmaZstdFrame *frame);

/*
 * A block was decoded.  The record's contents may be exchanged for others.  FALSE and
 * VMA_ERROR_DAMAGED where a match reaches out of the window.
 */
gboolean vma_zstd_analysis_block (VmaZstdAnalysis *analysis, VmaZstdRecord *record, GError **error);

/* The stream breaks off here: gives away what is open. */
void vma_zstd_analysis_cut (VmaZstdAnalysis *analysis);

/* How many frames had to be given up, for tests. */
guint vma_zstd_analysis_given_up (const VmaZstdAnalysis *analysis);
