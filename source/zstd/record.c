/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/record.h"

#include "source/zstd/sequences.h"

#include <string.h>

static void
copy_sequences (VmaZstdRecord *record, const guint8 *data, gsize size)
{
  gsize needed = size + 2 * VMA_ZSTD_BITS_PAD;

  if (needed > record->room) {
    g_free (record->buffer);
    record->room = needed + needed / 2;
    record->buffer = g_malloc0 (record->room);
  }
  record->sequences = record->buffer + VMA_ZSTD_BITS_PAD;
  record->sequences_size = size;
  memcpy (record->sequences, data, size);
}

void
vma_zstd_record_set_body (VmaZstdRecord *record, const VmaZstdBlock *block, const guint8 *body)
{
  VmaZstdLiteralsSection literals;

  record->last = block->last;
  record->compressed = block->type == VMA_ZSTD_BLOCK_COMPRESSED;
  if (!record->compressed)
    return;
  record->valid = vma_zstd_literals_section_parse (body, block->body, &literals);
  if (!record->valid)
    return;
  record->literals = literals.literals;
  record->huffman_size = literals.huffman_size;
  if (literals.huffman_size > 0)
    memcpy (record->huffman, literals.huffman, literals.huffman_size);
  copy_sequences (record, body + literals.size, block->body - literals.size);
}

void
vma_zstd_record_clear (VmaZstdRecord *record)
{
  g_free (record->buffer);
  *record = (VmaZstdRecord){ 0 };
}

void
vma_zstd_record_swap (VmaZstdRecord *a, VmaZstdRecord *b)
{
  VmaZstdRecord t = *a;

  *a = *b;
  *b = t;
}
