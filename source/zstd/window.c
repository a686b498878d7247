/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/window.h"

#include "source/zstd/varint.h"

#include <string.h>
#include <zstd.h>

/*
 * Uses are noted by grains of so many bytes (log2).  Single bytes make the smallest sidecar; pairs
 * would cost 5 % more, fours 13 %, and save no time.
 */
#define GRAIN 0

/* Packing is a part of the pass: quick rather than small.  Level 6 would save 3 %. */
#define LEVEL 3

typedef struct {
  guint64 from; /* relative to the window's start */
  guint32 size;
  gsize at; /* of its bytes in `bytes` */
} Run;

struct VmaZstdWindow {
  guint64 start;
  guint64 end;
  guint64 first;
  guint64 *used; /* a bit for each grain, allocated at the first use */
  GArray *runs;  /* of Run, in the order of use, disjoint */
  GByteArray *bytes;
};

VmaZstdWindow *
vma_zstd_window_new (guint64 start, guint64 end)
{
  VmaZstdWindow *window = g_new0 (VmaZstdWindow, 1);

  window->start = start;
  window->end = end;
  window->first = end;
  window->runs = g_array_new (FALSE, FALSE, sizeof (Run));
  window->bytes = g_byte_array_new ();
  return window;
}

void
vma_zstd_window_free (VmaZstdWindow *window)
{
  if (window == NULL)
    return;
  g_free (window->used);
  g_array_unref (window->runs);
  g_byte_array_unref (window->bytes);
  g_free (window);
}

static void
copy_ring (GByteArray *to, const VmaZstdRing *ring, guint64 from, gsize size)
{
  gsize at = (gsize)(from % ring->size);
  gsize head = MIN (size, (gsize)(ring->size - at));

  g_byte_array_append (to, ring->data + at, (guint)head);
  if (head < size)
    g_byte_array_append (to, ring->data, (guint)(size - head));
}

static void
add_run (VmaZstdWindow *window, const VmaZstdRing *ring, guint64 first, guint64 last)
{
  guint64 from = first << GRAIN;
  guint64 to = MIN (last << GRAIN, window->end - window->start);
  Run run = { from, (guint32)(to - from), window->bytes->len };

  copy_ring (window->bytes, ring, window->start + from, run.size);
  g_array_append_val (window->runs, run);
}

void
vma_zstd_window_use (VmaZstdWindow *window, const VmaZstdRing *ring, guint64 from, guint64 to)
{
  guint64 grain = (from - window->start) >> GRAIN;
  guint64 end = (to - window->start + (1u << GRAIN) - 1) >> GRAIN;
  guint64 fresh = 0; /* the first grain of a run of new ones */
  gboolean inside = FALSE;

  if (window->used == NULL)
    window->used = g_new0 (guint64, ((window->end - window->start) >> GRAIN) / 64 + 1);
  window->first = MIN (window->first, window->start + (grain << GRAIN));
  for (; grain < end; grain++) {
    guint64 *word = &window->used[grain / 64];
    guint64 bit = G_GUINT64_CONSTANT (1) << (grain % 64);

    if ((*word & bit) == 0) {
      *word |= bit;
      if (!inside)
        fresh = grain;
      inside = TRUE;
    } else if (inside) {
      add_run (window, ring, fresh, grain);
      inside = FALSE;
    }
  }
  if (inside)
    add_run (window, ring, fresh, end);
}

guint64
vma_zstd_window_first (const VmaZstdWindow *window)
{
  return window->first;
}

gsize
vma_zstd_window_cost (const VmaZstdWindow *window)
{
  gsize bitmap = window->used != NULL ? (gsize) ((window->end - window->start) >> GRAIN) / 8 : 0;

  return bitmap + window->bytes->len + (gsize) window->runs->len * sizeof (Run);
}

static gint
compare_runs (gconstpointer a, gconstpointer b)
{
  const Run *x = a;
  const Run *y = b;

  return x->from < y->from ? -1 : x->from > y->from;
}

/* The index of the first run behind those that are one with runs[i]. */
static guint
joined_end (const Run *runs, guint n, guint i)
{
  guint j = i + 1;

  while (j < n && runs[j].from == runs[j - 1].from + runs[j - 1].size)
    j++;
  return j;
}

/* The number of runs; for each the gap before it and its size; then the bytes of all. */
static GByteArray *
serialise (VmaZstdWindow *window, guint64 content)
{
  GByteArray *raw = g_byte_array_sized_new (window->bytes->len + 1024);
  const guint n = window->runs->len;
  guint64 last = window->end - window->start - content;
  guint count = 0;

  g_array_sort (window->runs, compare_runs);
  const Run *runs = (const Run *)(void *)window->runs->data;
  for (guint i = 0; i < n; i = joined_end (runs, n, i))
    count++;
  vma_varint_append (raw, count);
  for (guint i = 0; i < n;) {
    guint j = joined_end (runs, n, i);
    guint64 end = runs[j - 1].from + runs[j - 1].size;

    vma_varint_append (raw, runs[i].from - last);
    vma_varint_append (raw, end - runs[i].from);
    last = end;
    i = j;
  }
  for (guint i = 0; i < n; i++)
    g_byte_array_append (raw, window->bytes->data + runs[i].at, runs[i].size);
  return raw;
}

GByteArray *
vma_zstd_window_pack (VmaZstdWindow *window, guint64 content, gsize *unpacked)
{
  g_autoptr (GByteArray) raw = serialise (window, content);
  gsize bound = ZSTD_compressBound (raw->len);
  GByteArray *packed = g_byte_array_new ();

  g_byte_array_set_size (packed, (guint)bound);
  gsize size = ZSTD_compress (packed->data, bound, raw->data, raw->len, LEVEL);
  if (ZSTD_isError (size)) /* only for want of memory, where GLib gives up as well */
    g_error ("zstd cannot compress %u bytes: %s", raw->len, ZSTD_getErrorName (size));
  g_byte_array_set_size (packed, (guint)size);
  *unpacked = raw->len;
  return packed;
}

/* Copies the bytes to where they belong, having checked every run. */
static gboolean
scatter (VmaCursor *cursor, guint8 *content, gsize size)
{
  guint64 count = vma_cursor_varint (cursor);
  VmaCursor runs = *cursor;
  guint64 at = 0;
  guint64 total = 0;

  /* A first walk finds where the bytes begin. */
  if (count > size)
    return FALSE;
  for (guint64 i = 0; i < count && !cursor->bad; i++) {
    vma_cursor_varint (cursor);
    guint64 length = vma_cursor_varint (cursor);
    if (length > size)
      return FALSE;
    total += length;
  }
  if (cursor->bad || total != cursor->size)
    return FALSE;

  for (guint64 i = 0; i < count; i++) {
    guint64 gap = vma_cursor_varint (&runs);
    guint64 length = vma_cursor_varint (&runs);
    if (gap > size - at || length > size - at - gap)
      return FALSE;
    at += gap;
    memcpy (content + at, vma_cursor_bytes (cursor, length), length);
    at += length;
  }
  return TRUE;
}

gboolean
vma_zstd_window_unpack (const guint8 *packed, gsize packed_size, gsize unpacked, guint8 *content,
                        gsize size)
{
  g_autofree guint8 *raw = g_try_malloc (unpacked);
  VmaCursor cursor = { raw, unpacked, FALSE };

  if (raw == NULL || ZSTD_decompress (raw, unpacked, packed, packed_size) != unpacked)
    return FALSE;
  return scatter (&cursor, content, size);
}
