/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packed: bits[1] byte[1] crc[4] size[4] window_size[2] plain_size[4], then, deflated: the number of
 * runs, for each run the bytes left out before it and its length, all as varints, and the bytes.
 */
#include "source/gzip-window.h"

#include "vma/bytes.h"

#include <string.h>
#include <zlib.h>

#define FIXED_SIZE 16u

/* Bytes between two runs that are cheaper kept than left out. */
#define JOIN 3u

/* Runs alternate with gaps, so there are at most half as many as bytes; a varint here has 3 bytes. */
#define PLAIN_MAX (GZIP_WINDOW + 3 * GZIP_WINDOW + 3)

static void
make_dictionary (guint8 *dictionary, guint size, guint pass)
{
  for (guint p = 0; p < size; p++)
    dictionary[p] = (guint8) (pass == 0 ? p : pass == 1 ? p >> 8 : ~(p >> 8));
}

/* Decodes `produced` bytes behind the checkpoint as if `dictionary` had come before it. */
static gboolean
decode_with (const GzipState *state, const guint8 *dictionary, const guint8 *input,
             gsize input_size, guint8 *output, gsize produced)
{
  z_stream z = { 0 };
  int result;

  if (inflateInit2 (&z, -MAX_WBITS) != Z_OK)
    return FALSE;
  if (state->bits > 0)
    inflatePrime (&z, (int) state->bits, state->byte >> (8 - state->bits));
  inflateSetDictionary (&z, dictionary, state->window_size);
  z.next_in = (guint8 *) input;
  z.avail_in = (uInt) input_size;
  z.next_out = output;
  z.avail_out = (uInt) produced;
  do
    result = inflate (&z, Z_SYNC_FLUSH);
  while (result == Z_OK && z.avail_out > 0 && z.avail_in > 0);
  inflateEnd (&z);
  return z.avail_out == 0;
}

/* Marks the bytes of the window that the next `produced` ones are made of. */
static gboolean
find_used (const GzipState *state, const guint8 *input, gsize input_size, gsize produced,
           guint8 *used)
{
  g_autofree guint8 *outputs = g_malloc (3 * (gsize) GZIP_WINDOW);
  guint8 dictionary[GZIP_WINDOW];
  const guint8 *low = outputs, *high = low + GZIP_WINDOW, *flipped = high + GZIP_WINDOW;

  for (guint pass = 0; pass < 3; pass++) {
    make_dictionary (dictionary, state->window_size, pass);
    if (!decode_with (state, dictionary, input, input_size, outputs + pass * GZIP_WINDOW, produced))
      return FALSE;
  }
  for (gsize i = 0; i < produced; i++)
    if (high[i] != flipped[i]) {
      guint place = (guint) high[i] << 8 | low[i];
      if (place >= state->window_size)
        return FALSE;
      used[place] = 1;
    }
  return TRUE;
}

static void
put_varint (GByteArray *array, guint32 value)
{
  guint8 bytes[5];
  guint n = 0;

  for (; value >= 0x80; value >>= 7)
    bytes[n++] = (guint8) (value | 0x80);
  bytes[n++] = (guint8) value;
  g_byte_array_append (array, bytes, n);
}

static gboolean
get_varint (const guint8 **p, const guint8 *end, guint32 *value)
{
  *value = 0;
  for (guint shift = 0; shift < 28 && *p < end; shift += 7) {
    guint8 byte = *(*p)++;
    *value |= (guint32) (byte & 0x7f) << shift;
    if (byte < 0x80)
      return TRUE;
  }
  return FALSE;
}

/* The runs of used bytes, then the bytes. */
static GByteArray *
collect (const GzipState *state, const guint8 *used)
{
  g_autoptr (GByteArray) runs = g_byte_array_new (), bytes = g_byte_array_new ();
  GByteArray *plain = g_byte_array_new ();
  guint n = 0, done = 0, p = 0;

  while (p < state->window_size) {
    if (!used[p]) {
      p++;
      continue;
    }
    guint end = p + 1;
    for (guint q = end; q < state->window_size && q - end < JOIN; q++)
      if (used[q])
        end = q + 1;
    put_varint (runs, p - done);
    put_varint (runs, end - p);
    g_byte_array_append (bytes, state->window + p, end - p);
    p = done = end;
    n++;
  }
  put_varint (plain, n);
  g_byte_array_append (plain, runs->data, runs->len);
  g_byte_array_append (plain, bytes->data, bytes->len);
  return plain;
}

GBytes *
gzip_state_pack (const GzipState *state, const guint8 *input, gsize input_size, gsize produced,
                 gboolean all)
{
  guint8 used[GZIP_WINDOW] = { 0 };

  if (all || !find_used (state, input, input_size, produced, used))
    memset (used, 1, sizeof used);

  g_autoptr (GByteArray) plain = collect (state, used);
  uLongf packed_size = compressBound (plain->len);
  guint8 *packed = g_malloc (FIXED_SIZE + packed_size);
  packed[0] = (guint8) state->bits;
  packed[1] = state->byte;
  vma_put_le32 (packed + 2, state->crc);
  vma_put_le32 (packed + 6, state->size);
  vma_put_le16 (packed + 10, (guint16) state->window_size);
  vma_put_le32 (packed + 12, plain->len);
  compress2 (packed + FIXED_SIZE, &packed_size, plain->data, plain->len, 6);
  return g_bytes_new_take (packed, FIXED_SIZE + packed_size);
}

static gboolean
spread (const guint8 *p, const guint8 *end, GzipState *state)
{
  g_autofree guint32 *runs = NULL;
  guint32 n, at = 0;

  if (!get_varint (&p, end, &n) || n > GZIP_WINDOW)
    return FALSE;
  runs = g_new (guint32, 2 * n + 1);
  for (guint32 i = 0; i < 2 * n; i++)
    if (!get_varint (&p, end, &runs[i]))
      return FALSE;
  memset (state->window, 0, sizeof state->window);
  for (guint32 i = 0; i < n; i++) {
    /* All were read.  NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign) */
    guint32 gap = runs[2 * i], size = runs[2 * i + 1];
    if (gap > state->window_size - at || size > state->window_size - at - gap
        || size > (gsize) (end - p))
      return FALSE;
    memcpy (state->window + at + gap, p, size);
    at += gap + size;
    p += size;
  }
  return p == end;
}

gboolean
gzip_state_unpack (GBytes *bytes, GzipState *state)
{
  gsize size;
  const guint8 *packed = g_bytes_get_data (bytes, &size);

  if (size < FIXED_SIZE)
    return FALSE;
  state->bits = packed[0];
  state->byte = packed[1];
  state->crc = vma_get_le32 (packed + 2);
  state->size = vma_get_le32 (packed + 6);
  state->window_size = vma_get_le16 (packed + 10);
  uLongf plain_size = vma_get_le32 (packed + 12);
  if (state->bits > 7 || state->window_size > GZIP_WINDOW || plain_size > PLAIN_MAX)
    return FALSE;
  g_autofree guint8 *plain = g_malloc (plain_size);
  uLongf got = plain_size;
  return uncompress (plain, &got, packed + FIXED_SIZE, size - FIXED_SIZE) == Z_OK
         && got == plain_size && spread (plain, plain + plain_size, state);
}
