/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a zstd decoder carries from block to block besides the window: the latest description of
 * each entropy table, word for word as the stream had it, and the three repeat offsets.
 *
 * Plain structures without pointers: copied by assignment.  Pure functions, any thread.
 */
#pragma once

#include "source/zstd/sections.h"

#include <glib.h>

typedef enum {
  VMA_ZSTD_TABLE_UNSET, /* no block had sequences so far */
  VMA_ZSTD_TABLE_PREDEFINED,
  VMA_ZSTD_TABLE_RLE,
  VMA_ZSTD_TABLE_FSE,
} VmaZstdTableKind;

typedef struct {
  guint8 kind; /* VmaZstdTableKind */
  guint8 size; /* of `description` */
  guint8 description[VMA_ZSTD_FSE_DESCRIPTION_MAX];
} VmaZstdTable;

typedef struct {
  guint8 huffman_size; /* 0: no block described one so far */
  guint8 huffman[VMA_ZSTD_HUFFMAN_DESCRIPTION_MAX];
  VmaZstdTable fse[VMA_ZSTD_ALPHABETS];
} VmaZstdTables;

/* 0 where an offset is not known. */
typedef struct {
  guint32 offset[3];
} VmaZstdRepeats;

/* What a frame begins with. */
void vma_zstd_tables_reset (VmaZstdTables *tables);
extern const VmaZstdRepeats vma_zstd_repeats_initial;

/* Whether all three are known. */
gboolean vma_zstd_repeats_known (const VmaZstdRepeats *repeats);

/* Takes over what a block says about the Huffman table, and about the other three. */
void vma_zstd_tables_apply_literals (VmaZstdTables *tables, const VmaZstdLiteralsSection *section);
gboolean vma_zstd_tables_apply_sequences (VmaZstdTables *tables,
                                          const VmaZstdSequencesSection *section);

/*
 * A dictionary cannot hold a table of one symbol, so a decoder that was resumed cannot repeat one.
 * Where the compressed block `body` does that, returns a copy of it that describes them anew, else
 * NULL. To be applied to the first block with sequences behind a checkpoint (`*found`).
 */
GByteArray *vma_zstd_tables_pin (const VmaZstdTables *tables, const guint8 *body, gsize size,
                                 gboolean *found);
