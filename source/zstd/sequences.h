/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decodes the sequences of a block: how many literals, then which match, from how far back.
 *
 * A VmaZstdSequencer keeps the decoding tables that it built last, since blocks often repeat
 * theirs; it belongs to one thread.
 */
#pragma once

#include "source/zstd/frame.h"
#include "source/zstd/tables.h"

#include <glib.h>

typedef struct {
  guint32 literals;
  guint32 match;
  guint32 offset; /* 0: not known, because the repeat offsets were not */
} VmaZstdSequence;

/* A block has at most this many, as a match is three bytes at least. */
#define VMA_ZSTD_SEQUENCES_MAX (VMA_ZSTD_BLOCK_MAX / 3)

/* The bitstream is read from its end, with whole words: so much must be readable around it. */
#define VMA_ZSTD_BITS_PAD 16

typedef struct VmaZstdSequencer VmaZstdSequencer;

VmaZstdSequencer *vma_zstd_sequencer_new (void);
void vma_zstd_sequencer_free (VmaZstdSequencer *sequencer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaZstdSequencer, vma_zstd_sequencer_free)

/*
 * Decodes `count` sequences from bits[0..size), with VMA_ZSTD_BITS_PAD readable bytes before and
 * behind.  `tables` are the ones in effect (the block's own were applied), `repeats` is carried on;
 * unknown ones stay unknown until they are replaced.  `*literals` and `*matches` are the bytes that
 * all sequences take from the literals and copy.  Returns the sequences, valid until the next call,
 * or NULL where the stream is not valid.
 */
const VmaZstdSequence *vma_zstd_sequencer_decode (VmaZstdSequencer *sequencer,
                                                  const VmaZstdTables *tables, const guint8 *bits,
                                                  gsize size, guint32 count,
                                                  VmaZstdRepeats *repeats, guint32 *literals,
                                                  guint32 *matches);
