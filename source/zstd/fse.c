/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/fse.h"

#include <string.h>

typedef struct {
  guint symbols;
  guint log_max;
  guint8 predefined_size;
  guint8 predefined[29];
} Alphabet;

static const Alphabet alphabets[VMA_ZSTD_ALPHABETS] = {
  [VMA_ZSTD_OFFSETS]
  = { 32,
      8,
      14,
      { 0x20, 0x84, 0x10, 0x42, 0x66, 0x46, 0x44, 0x44, 0x44, 0x44, 0x24, 0x49, 0x02, 0x00 } },
  [VMA_ZSTD_MATCHES] = { 53, 9, 29, { 0x21, 0x14, 0xc4, 0x18, 0x63, 0x8c, 0x21, 0x84, 0x10, 0x42,
                                      0x08, 0x21, 0x84, 0x10, 0x42, 0x08, 0x21, 0x44, 0x44, 0x44,
                                      0x44, 0x44, 0x44, 0x44, 0x44, 0x24, 0x09, 0x00, 0x00 } },
  [VMA_ZSTD_LITERALS]
  = { 36, 9, 20, { 0x51, 0x10, 0x63, 0x8c, 0x31, 0xc6, 0x18, 0x63, 0x0c, 0x21,
                   0xc4, 0x18, 0x63, 0x66, 0x66, 0x86, 0x46, 0x92, 0x04, 0x00 } },
};

/* Codes under 16 (literals) and 32 (matches) stand for themselves; these are the ones after. */
static const guint32 literals_base[20]
    = { 16,  18,  20,  22,   24,   28,   32,   40,    48,    64,
        128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536 };
static const guint8 literals_extra[20]
    = { 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static const guint32 match_base[21]
    = { 35,  37,  39,  41,   43,   47,   51,   59,    67,    83,   99,
        131, 259, 515, 1027, 2051, 4099, 8195, 16387, 32771, 65539 };
static const guint8 match_extra[21]
    = { 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

/* A forward bitstream, least significant bit first.  Bits behind its end are zeros, and counted. */
typedef struct {
  const guint8 *data;
  gsize bits;
  gsize at;
} Bits;

/* At most 17 bits. */
static guint
peek (const Bits *in, guint n)
{
  gsize byte = in->at >> 3;
  guint value = 0;

  for (guint i = 0; i < 3 && byte + i < in->bits >> 3; i++)
    value |= (guint)in->data[byte + i] << (8 * i);
  return (value >> (in->at & 7)) & ((1u << n) - 1);
}

static guint
take (Bits *in, guint n)
{
  guint value = peek (in, n);

  in->at += n;
  return value;
}

/*
 * A number from 0 to `max`.  Where max + 1 is not a power of two, the low ones are written one bit
 * shorter.
 */
static guint
take_limited (Bits *in, guint max)
{
  guint width = g_bit_storage (max);
  guint spare = (1u << width) - 1 - max; /* how many have the short form */
  guint value = peek (in, width - 1);

  if (value < spare) {
    in->at += width - 1;
    return value;
  }
  value = take (in, width);
  return value >> (width - 1) ? value - spare : value;
}

gsize
vma_zstd_counts_parse (const guint8 *data, gsize size, VmaZstdAlphabet alphabet,
                       VmaZstdCounts *counts)
{
  const guint symbols = alphabets[alphabet].symbols;
  Bits in = { data, MIN (size, VMA_ZSTD_FSE_DESCRIPTION_MAX) * 8, 0 };
  gint remaining;

  counts->log = take (&in, 4) + 5;
  counts->symbols = 0;
  if (counts->log > alphabets[alphabet].log_max)
    return 0;

  remaining = 1 << counts->log;
  while (remaining > 0) {
    if (counts->symbols >= symbols || in.at >= in.bits)
      return 0;
    gint count = (gint)take_limited (&in, (guint)remaining + 1) - 1;
    counts->counts[counts->symbols++] = (gint16)count;
    remaining -= ABS (count);
    if (count != 0)
      continue;
    /* After a zero: how many more follow, three at a time. */
    for (guint more = 3; more == 3;) {
      if (in.at >= in.bits)
        return 0;
      more = take (&in, 2);
      if (counts->symbols + more > symbols)
        return 0;
      for (guint i = 0; i < more; i++)
        counts->counts[counts->symbols++] = 0;
    }
  }
  if (remaining != 0 || in.at > in.bits)
    return 0;
  return (in.at + 7) / 8;
}

static void
set_value (VmaZstdState *state, VmaZstdAlphabet alphabet, guint symbol)
{
  switch (alphabet) {
  case VMA_ZSTD_OFFSETS:
    state->base = 1u << symbol;
    state->extra = (guint8)symbol;
    break;
  case VMA_ZSTD_MATCHES:
    state->base = symbol < 32 ? symbol + 3 : match_base[symbol - 32];
    state->extra = symbol < 32 ? 0 : match_extra[symbol - 32];
    break;
  default:
    state->base = symbol < 16 ? symbol : literals_base[symbol - 16];
    state->extra = symbol < 16 ? 0 : literals_extra[symbol - 16];
    break;
  }
}

/* Which symbol each state has: rare ones from the end, the others spread with a fixed stride. */
static void
spread (const VmaZstdCounts *counts, guint8 *symbol_of, guint16 *next)
{
  const guint size = 1u << counts->log;
  const guint step = (size >> 1) + (size >> 3) + 3;
  guint high = size;
  guint at = 0;

  for (guint s = 0; s < counts->symbols; s++)
    if (counts->counts[s] == -1) {
      symbol_of[--high] = (guint8)s;
      next[s] = 1;
    }
  for (guint s = 0; s < counts->symbols; s++) {
    if (counts->counts[s] <= 0)
      continue;
    next[s] = (guint16)counts->counts[s];
    for (gint i = 0; i < counts->counts[s]; i++) {
      symbol_of[at] = (guint8)s;
      do
        at = (at + step) & (size - 1);
      while (at >= high);
    }
  }
}

void
vma_zstd_fse_build (VmaZstdFse *fse, VmaZstdAlphabet alphabet, const VmaZstdCounts *counts)
{
  guint8 symbol_of[1 << VMA_ZSTD_FSE_LOG_MAX] = { 0 };
  guint16 next[VMA_ZSTD_FSE_SYMBOLS_MAX] = { 0 };
  const guint size = 1u << counts->log;

  spread (counts, symbol_of, next);
  fse->log = counts->log;
  for (guint i = 0; i < size; i++) {
    VmaZstdState *state = &fse->states[i];
    guint s = symbol_of[i];
    guint x = next[s]++;

    set_value (state, alphabet, s);
    state->bits = (guint8)(counts->log + 1 - g_bit_storage (x));
    state->next = (guint16)((x << state->bits) - size);
  }
}

gboolean
vma_zstd_fse_build_rle (VmaZstdFse *fse, VmaZstdAlphabet alphabet, guint8 symbol)
{
  if (symbol >= alphabets[alphabet].symbols)
    return FALSE;
  fse->log = 0;
  memset (&fse->states[0], 0, sizeof fse->states[0]);
  set_value (&fse->states[0], alphabet, symbol);
  return TRUE;
}

const guint8 *
vma_zstd_fse_predefined (VmaZstdAlphabet alphabet, gsize *size)
{
  *size = alphabets[alphabet].predefined_size;
  return alphabets[alphabet].predefined;
}
