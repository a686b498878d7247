/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/sections.h"

#include "source/zstd/frame.h"
#include "vma/bytes.h"

enum { LITERALS_RAW, LITERALS_RLE, LITERALS_HUFFMAN, LITERALS_TREELESS };

/* Little-endian, of `width` bytes (at most 5). */
static guint64
get_le (const guint8 *data, gsize width)
{
  guint64 value = 0;

  for (gsize i = 0; i < width; i++)
    value |= (guint64)data[i] << (8 * i);
  return value;
}

static gboolean
parse_plain (const guint8 *body, gsize size, VmaZstdLiteralsSection *section)
{
  static const guint8 widths[4] = { 1, 2, 1, 3 };
  static const guint8 shifts[4] = { 3, 4, 3, 4 };
  guint format = (body[0] >> 2) & 3;
  gsize width = widths[format];

  if (size < width)
    return FALSE;
  section->literals = (guint32)(get_le (body, width) >> shifts[format]);
  section->size = width + ((body[0] & 3) == LITERALS_RLE ? 1 : section->literals);
  return section->literals <= VMA_ZSTD_BLOCK_MAX && section->size <= size;
}

static gboolean
parse_packed (const guint8 *body, gsize size, VmaZstdLiteralsSection *section)
{
  static const guint8 widths[4] = { 3, 3, 4, 5 };
  static const guint8 size_bits[4] = { 10, 10, 14, 18 };
  guint format = (body[0] >> 2) & 3;
  gsize width = widths[format];
  guint32 mask = (1u << size_bits[format]) - 1;

  if (size < width)
    return FALSE;
  guint64 header = get_le (body, width);
  gsize packed = (guint32)(header >> (4 + size_bits[format])) & mask;
  section->literals = (guint32)(header >> 4) & mask;
  section->size = width + packed;
  if (section->literals > VMA_ZSTD_BLOCK_MAX || section->size > size)
    return FALSE;
  if ((body[0] & 3) == LITERALS_TREELESS)
    return TRUE;

  if (packed == 0)
    return FALSE;
  /* Weights packed with FSE in so many bytes, or so many of them in four bits each. */
  guint head = body[width];
  section->huffman = body + width;
  section->huffman_size = 1 + (head < 128 ? head : (head - 126) / 2);
  return section->huffman_size <= packed;
}

gboolean
vma_zstd_literals_section_parse (const guint8 *body, gsize size, VmaZstdLiteralsSection *section)
{
  *section = (VmaZstdLiteralsSection){ 0 };
  if (size == 0)
    return FALSE;
  if ((body[0] & 3) <= LITERALS_RLE)
    return parse_plain (body, size, section);
  return parse_packed (body, size, section);
}

guint
vma_zstd_mode_shift (VmaZstdAlphabet alphabet)
{
  static const guint8 shifts[VMA_ZSTD_ALPHABETS] = {
    [VMA_ZSTD_LITERALS] = 6,
    [VMA_ZSTD_OFFSETS] = 4,
    [VMA_ZSTD_MATCHES] = 2,
  };

  return shifts[alphabet];
}

/* How many sequences there are; `*at` becomes the offset of the byte of modes. */
static gboolean
parse_count (const guint8 *data, gsize size, guint32 *count, gsize *at)
{
  if (size < 1)
    return FALSE;
  if (data[0] < 128) {
    *count = data[0];
    *at = 1;
  } else if (data[0] < 255) {
    if (size < 2)
      return FALSE;
    *count = ((guint32)(data[0] - 128) << 8) + data[1];
    *at = 2;
  } else {
    if (size < 3)
      return FALSE;
    *count = (guint32)vma_get_le16 (data + 1) + 0x7F00;
    *at = 3;
  }
  /* A count of zero has one form, and nothing follows it. */
  return *count != 0 || size == 1;
}

gboolean
vma_zstd_sequences_section_parse (const guint8 *data, gsize size, VmaZstdSequencesSection *section)
{
  static const VmaZstdAlphabet order[VMA_ZSTD_ALPHABETS]
      = { VMA_ZSTD_LITERALS, VMA_ZSTD_OFFSETS, VMA_ZSTD_MATCHES };
  gsize at;

  *section = (VmaZstdSequencesSection){ 0 };
  if (!parse_count (data, size, &section->count, &at))
    return FALSE;
  if (section->count == 0)
    return TRUE;
  if (at >= size)
    return FALSE;

  section->mode_at = at;
  guint modes = data[at++];
  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++) {
    VmaZstdAlphabet alphabet = order[i];
    VmaZstdMode mode = (VmaZstdMode)((modes >> vma_zstd_mode_shift (alphabet)) & 3);
    gsize taken = 0;

    if (mode == VMA_ZSTD_MODE_RLE) {
      taken = at < size ? 1 : 0;
    } else if (mode == VMA_ZSTD_MODE_FSE) {
      VmaZstdCounts counts;
      taken = vma_zstd_counts_parse (data + at, size - at, alphabet, &counts);
    }
    if (taken == 0 && (mode == VMA_ZSTD_MODE_RLE || mode == VMA_ZSTD_MODE_FSE))
      return FALSE;
    section->tables[alphabet].mode = mode;
    section->tables[alphabet].description = data + at;
    section->tables[alphabet].size = taken;
    at += taken;
  }
  section->bits = data + at;
  section->bits_size = size - at;
  return section->bits_size > 0;
}
