/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bits in a row, one a cluster: set, and searched bytes at a time.  Pure; the caller locks.
 */
#pragma once

#include <glib.h>

/* Room for n bits. */
static inline gsize
vma_bits_bytes (guint64 n)
{
  return (gsize) (n / 8 + 1);
}

static inline gboolean
vma_bits_get (const guint8 *bits, guint64 at)
{
  return bits[at / 8] >> (at % 8) & 1;
}

/* How many of bits [first, first + n) stand before the first that is set, or is not: n where none is. */
static inline guint64
vma_bits_find (const guint8 *bits, guint64 first, guint64 n, gboolean set)
{
  const guint8 skip = set ? 0 : 0xff;

  for (guint64 i = 0; i < n;) {
    guint64 at = first + i;
    if (at % 8 == 0 && n - i >= 8 && bits[at / 8] == skip)
      i += 8;
    else if (vma_bits_get (bits, at) == set)
      return i;
    else
      i++;
  }
  return n;
}

static inline void
vma_bits_set (guint8 *bits, guint64 first, guint64 n)
{
  for (guint64 i = 0; i < n;) {
    guint64 at = first + i;
    if (at % 8 == 0 && n - i >= 8) {
      bits[at / 8] = 0xff;
      i += 8;
    } else {
      bits[at / 8] = (guint8) (bits[at / 8] | 1u << (at % 8));
      i++;
    }
  }
}
