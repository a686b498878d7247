/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/tables.h"

#include <string.h>

const VmaZstdRepeats vma_zstd_repeats_initial = { { 1, 4, 8 } };

void
vma_zstd_tables_reset (VmaZstdTables *tables)
{
  memset (tables, 0, sizeof *tables);
}

gboolean
vma_zstd_repeats_known (const VmaZstdRepeats *repeats)
{
  return repeats->offset[0] != 0 && repeats->offset[1] != 0 && repeats->offset[2] != 0;
}

void
vma_zstd_tables_apply_literals (VmaZstdTables *tables, const VmaZstdLiteralsSection *section)
{
  if (section->huffman == NULL)
    return;
  memcpy (tables->huffman, section->huffman, section->huffman_size);
  tables->huffman_size = (guint8)section->huffman_size;
}

gboolean
vma_zstd_tables_apply_sequences (VmaZstdTables *tables, const VmaZstdSequencesSection *section)
{
  static const VmaZstdTableKind kinds[] = {
    [VMA_ZSTD_MODE_PREDEFINED] = VMA_ZSTD_TABLE_PREDEFINED,
    [VMA_ZSTD_MODE_RLE] = VMA_ZSTD_TABLE_RLE,
    [VMA_ZSTD_MODE_FSE] = VMA_ZSTD_TABLE_FSE,
  };

  if (section->count == 0)
    return TRUE;
  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++) {
    VmaZstdTable *table = &tables->fse[i];
    gsize size = section->tables[i].size;

    if (section->tables[i].mode == VMA_ZSTD_MODE_REPEAT) {
      if (table->kind == VMA_ZSTD_TABLE_UNSET)
        return FALSE;
      continue;
    }
    if (size > sizeof table->description)
      return FALSE;
    table->kind = (guint8)kinds[section->tables[i].mode];
    table->size = (guint8)size;
    memcpy (table->description, section->tables[i].description, size);
  }
  return TRUE;
}

GByteArray *
vma_zstd_tables_pin (const VmaZstdTables *tables, const guint8 *body, gsize size, gboolean *found)
{
  static const VmaZstdAlphabet order[VMA_ZSTD_ALPHABETS]
      = { VMA_ZSTD_LITERALS, VMA_ZSTD_OFFSETS, VMA_ZSTD_MATCHES };
  VmaZstdLiteralsSection literals;
  VmaZstdSequencesSection sequences;
  GByteArray *pinned;
  guint8 modes;
  gboolean any = FALSE;

  *found = FALSE;
  if (!vma_zstd_literals_section_parse (body, size, &literals)
      || !vma_zstd_sequences_section_parse (body + literals.size, size - literals.size, &sequences)
      || sequences.count == 0)
    return NULL;
  *found = TRUE;
  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++)
    any |= sequences.tables[i].mode == VMA_ZSTD_MODE_REPEAT
           && tables->fse[i].kind == VMA_ZSTD_TABLE_RLE;
  if (!any)
    return NULL;

  pinned = g_byte_array_sized_new ((guint)size + VMA_ZSTD_ALPHABETS);
  g_byte_array_append (pinned, body, (guint)(literals.size + sequences.mode_at + 1));
  modes = body[literals.size + sequences.mode_at];
  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++) {
    VmaZstdAlphabet alphabet = order[i];
    guint shift = vma_zstd_mode_shift (alphabet);

    if (sequences.tables[alphabet].mode == VMA_ZSTD_MODE_REPEAT
        && tables->fse[alphabet].kind == VMA_ZSTD_TABLE_RLE) {
      modes = (guint8)((modes & ~(3u << shift)) | ((guint)VMA_ZSTD_MODE_RLE << shift));
      g_byte_array_append (pinned, tables->fse[alphabet].description, 1);
    } else if (sequences.tables[alphabet].size > 0) {
      g_byte_array_append (pinned, sequences.tables[alphabet].description,
                           (guint)sequences.tables[alphabet].size);
    }
  }
  pinned->data[literals.size + sequences.mode_at] = modes;
  g_byte_array_append (pinned, sequences.bits, (guint)sequences.bits_size);
  return pinned;
}
