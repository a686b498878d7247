/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers fetched ahead: a scan with them finds exactly what a scan without them finds, in archives of every
 * regularity, sound and broken, and ends promptly when it is cancelled.
 */
#include "index/ahead.h"
#include "index/scan.h"
#include "tests/unit/synth.h"
#include "vma/build.h"
#include "vma/error.h"

#include <string.h>

static const guint8 uuid[VMA_UUID_SIZE] = "test-ahead-uuid";

/* An archive of headers alone; what is between them reads as zeros. */
typedef struct {
  GBytes *head;
  GArray *offsets;     /* guint64, ascending; the last one is the size */
  GByteArray *headers; /* 512 bytes each */
  gulong delay_us;
} Chain;

/* `density`: percent of clusters that are full; the others are partly stored, or zero. */
static void
chain_init (Chain *chain, guint64 size, guint density, guint32 seed)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  g_autoptr (VmaHeaderBuilder) builder = vma_header_builder_new (uuid, 0);
  guint64 at, n = size / VMA_CLUSTER_SIZE * 2;
  guint32 cluster = 0;

  vma_header_builder_add_device (builder, "disk", n * VMA_CLUSTER_SIZE, NULL);
  *chain = (Chain){ .head = vma_header_builder_finish (builder),
                    .offsets = g_array_new (FALSE, FALSE, sizeof (guint64)),
                    .headers = g_byte_array_new () };
  at = g_bytes_get_size (chain->head);
  while (at < size && cluster + VMA_EXTENT_SLOTS < n) {
    guint8 header[VMA_EXTENT_HEADER_SIZE];
    VmaSlot slots[VMA_EXTENT_SLOTS];
    VmaExtent extent;

    for (guint i = 0; i < VMA_EXTENT_SLOTS; i++) {
      gboolean full = (guint) g_rand_int_range (rand, 0, 100) < density;
      slots[i] = (VmaSlot){ .cluster = cluster++,
                            .device = 1,
                            .mask = full ? VMA_FULL_MASK : (guint16) g_rand_int (rand) };
    }
    vma_extent_encode (header, uuid, slots, VMA_EXTENT_SLOTS);
    g_assert_true (vma_extent_parse (header, uuid, &extent, NULL));
    g_array_append_val (chain->offsets, at);
    g_byte_array_append (chain->headers, header, sizeof header);
    at += extent.size;
  }
  g_array_append_val (chain->offsets, at);
}

static void
chain_clear (Chain *chain)
{
  g_bytes_unref (chain->head);
  g_array_unref (chain->offsets);
  g_byte_array_unref (chain->headers);
}

static guint64
chain_at (const Chain *chain, guint i)
{
  return g_array_index (chain->offsets, guint64, i);
}

/* The first header that ends behind `offset`. */
static guint
chain_find (const Chain *chain, guint64 offset)
{
  guint low = 0, high = chain->offsets->len - 1;

  while (low < high) {
    guint middle = (low + high) / 2;
    if (chain_at (chain, middle) + VMA_EXTENT_HEADER_SIZE > offset)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* Copies what of `bytes`, which stand at `from`, lies in the buffer. */
static void
overlay (guint8 *buffer, gsize size, guint64 offset, const guint8 *bytes, gsize n, guint64 from)
{
  guint64 start = MAX (from, offset), end = MIN (from + n, offset + size);

  if (start < end)
    memcpy (buffer + (start - offset), bytes + (start - from), end - start);
}

static void
chain_fill (gpointer data, guint8 *buffer, gsize size, guint64 offset)
{
  const Chain *chain = data;

  if (chain->delay_us > 0)
    g_usleep (chain->delay_us);
  memset (buffer, 0, size);
  overlay (buffer, size, offset, g_bytes_get_data (chain->head, NULL),
           g_bytes_get_size (chain->head), 0);
  for (guint i = chain_find (chain, offset);
       i + 1 < chain->offsets->len && chain_at (chain, i) < offset + size; i++)
    overlay (buffer, size, offset, chain->headers->data + (gsize) i * VMA_EXTENT_HEADER_SIZE,
             VMA_EXTENT_HEADER_SIZE, chain_at (chain, i));
}

static VmaHeader *
header_of (const Chain *chain)
{
  gsize size;
  const guint8 *bytes = g_bytes_get_data (chain->head, &size);
  VmaHeader *header = vma_header_parse (bytes, size, NULL);

  g_assert_nonnull (header);
  return header;
}

static VmaIndex *
scan (Chain *chain, const VmaHeader *header, gboolean far, gboolean salvage, gulong delay_us)
{
  g_autoptr (SynthSource) source = synth_source_new_virtual (
      chain_at (chain, chain->offsets->len - 1), chain_fill, chain);
  g_autoptr (GError) error = NULL;
  VmaIndex *index = vma_index_new (header, &error);

  g_assert_no_error (error);
  chain->delay_us = delay_us;
  if (far)
    synth_source_set_far (source);
  g_autoptr (VmaScanner) scanner
      = vma_scanner_new (synth_source_base (source), header, index, salvage);
  /* Most of the disk is in no extent: that is a failure in the end, after all was found. */
  vma_scanner_run (scanner, NULL, &error);
  return index;
}

static void
same_index (const VmaHeader *header, VmaIndex *a, VmaIndex *b)
{
  const VmaDevice *device = g_ptr_array_index (header->devices, 0);
  VmaIndexCounts ca, cb;

  vma_index_get_counts (a, &ca);
  vma_index_get_counts (b, &cb);
  g_assert_cmpuint (ca.extents, ==, cb.extents);
  g_assert_cmpuint (ca.end, ==, cb.end);
  g_assert_cmpuint (vma_index_damage_count (a), ==, vma_index_damage_count (b));
  for (guint64 cluster = 0; cluster < device->clusters; cluster++) {
    guint64 end;
    gboolean pending;
    g_assert_cmpuint (vma_index_lookup (a, 1, cluster, &end, &pending), ==,
                      vma_index_lookup (b, 1, cluster, &end, &pending));
  }
}

static void
compare (guint64 size, guint density, gboolean damaged)
{
  Chain chain;

  chain_init (&chain, size, density, density + 1);
  VmaHeader *header = header_of (&chain);
  for (guint i = 100; damaged && i + 1 < chain.offsets->len; i += 331)
    chain.headers->data[(gsize) i * VMA_EXTENT_HEADER_SIZE + 40 + i % 400] ^= 0x10;
  g_autoptr (VmaIndex) alone = scan (&chain, header, FALSE, damaged, 0);
  g_autoptr (VmaIndex) ahead = scan (&chain, header, TRUE, damaged, 20);
  VmaIndexCounts counts;
  vma_index_get_counts (ahead, &counts);
  g_assert_cmpuint (counts.extents, >=, chain.offsets->len * 9 / 10);
  same_index (header, alone, ahead);
  vma_header_free (header);
  chain_clear (&chain);
}

static void
test_same (void)
{
  compare ((guint64) 12 << 30, 100, FALSE);
  compare ((guint64) 6 << 30, 95, FALSE);
  compare ((guint64) 6 << 30, 0, FALSE);
  compare ((guint64) 3 << 20, 100, FALSE);
}

static void
test_same_damage (void)
{
  compare ((guint64) 6 << 30, 50, TRUE);
}

/* Its reads are under way together: far less time than one after another. */
static void
test_faster (void)
{
  const gulong delay = 2000;
  Chain chain;

  chain_init (&chain, (guint64) 32 << 30, 100, 1);
  VmaHeader *header = header_of (&chain);
  gint64 start = g_get_monotonic_time ();
  g_autoptr (VmaIndex) index = scan (&chain, header, TRUE, FALSE, delay);
  gint64 took = g_get_monotonic_time () - start;
  g_assert_cmpint (took, <, (gint64) (chain.offsets->len * delay) / 2);
  vma_header_free (header);
  chain_clear (&chain);
}

/* Reads that hang do not keep it from ending. */
static void
test_end (void)
{
  Chain chain;
  guint8 bytes[VMA_EXTENT_HEADER_SIZE];

  chain_init (&chain, (guint64) 8 << 30, 100, 1);
  guint64 size = chain_at (&chain, chain.offsets->len - 1);
  SynthSource *source = synth_source_new_virtual (size, chain_fill, &chain);
  synth_source_set_gate (source, (guint64) 3 << 30);
  VmaAhead *ahead
      = vma_ahead_new (synth_source_base (source), uuid, chain_at (&chain, 0), size, 8, FALSE);
  g_usleep (20000);
  g_assert_false (vma_ahead_take (ahead, chain_at (&chain, 0), bytes, NULL));
  vma_ahead_free (ahead);
  synth_source_free (source);
  chain_clear (&chain);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/ahead/same", test_same);
  g_test_add_func ("/ahead/same-damage", test_same_damage);
  g_test_add_func ("/ahead/faster", test_faster);
  g_test_add_func ("/ahead/end", test_end);
  return g_test_run ();
}
