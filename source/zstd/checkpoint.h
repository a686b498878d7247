/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a checkpoint inside a frame, and its serialised form: VmaCheckpoint.state.
 *
 * The serialised form is untrusted when it comes back: every number is checked against what it can
 * be at most, and nothing is allocated by what it says before that.  Its integrity (and that it
 * belongs to this file) is for the sidecar that keeps it.
 *
 * Pure functions, any thread.
 */
#pragma once

#include "source/zstd/tables.h"

#include <glib.h>

/*
 * What the blocks from the checkpoint to the next one give, so that they can be decoded in one go
 * and no further than wanted.  Blocks of the full 128 KiB are not listed, neither are those whose
 * size their header tells: what remains is little.
 */
typedef struct {
  gboolean known;     /* FALSE: there would be too many to list */
  gboolean ends;      /* the frame ends with the last of these blocks */
  guint64 size;       /* bytes that all of them give */
  guint32 count;      /* of exceptions */
  const guint8 *list; /* for each the compressed blocks skipped, and its size; varints */
  gsize list_size;
} VmaZstdBlocks;

typedef struct {
  guint64 window;    /* of the frame */
  guint64 position;  /* bytes that the frame gave before the checkpoint */
  gboolean checksum; /* the frame ends with one */
  VmaZstdRepeats repeats;
  VmaZstdTables tables;
  VmaZstdBlocks blocks;

  guint64 content;      /* bytes before the checkpoint that a decoder needs, with the gaps */
  const guint8 *packed; /* by vma_zstd_window_pack() */
  gsize packed_size;
  gsize unpacked;
} VmaZstdCheckpoint;

GBytes *vma_zstd_checkpoint_serialise (const VmaZstdCheckpoint *checkpoint);

/*
 * The result points into `state`.  FALSE and VMA_ERROR_DAMAGED where it is not what
 * vma_zstd_checkpoint_serialise() makes.
 */
gboolean vma_zstd_checkpoint_parse (const guint8 *state, gsize size, VmaZstdCheckpoint *checkpoint,
                                    GError **error);

/* Walks over VmaZstdBlocks: what each compressed block gives, in their order. */
typedef struct {
  VmaZstdBlocks blocks;
  guint64 skip; /* full blocks before the next exception */
} VmaZstdBlockSizes;

void vma_zstd_block_sizes_begin (VmaZstdBlockSizes *sizes, const VmaZstdBlocks *blocks);
guint32 vma_zstd_block_sizes_next (VmaZstdBlockSizes *sizes);

/* The list of exceptions, as it is made. */
typedef struct {
  VmaZstdBlocks blocks; /* `list` is not set */
  guint64 skipped;
  GByteArray *list;
} VmaZstdBlockList;

void vma_zstd_block_list_clear (VmaZstdBlockList *list);
/* A block that gives `size` bytes. */
void vma_zstd_block_list_add (VmaZstdBlockList *list, gboolean compressed, guint32 size);
