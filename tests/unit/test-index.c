/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The index: what it refuses, what it counts, who it wakes, and what memory it takes. */
#include "index/scan.h"
#include "tests/unit/synth.h"
#include "vma/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static VmaHeader *
make_header (SynthHeader *builder)
{
  g_autoptr (GByteArray) bytes = synth_header_bytes (builder);
  g_autoptr (GError) error = NULL;
  VmaHeader *header = vma_header_parse (bytes->data, bytes->len, &error);

  g_assert_no_error (error);
  return header;
}

/* Device 1: four clusters, of which the last has two blocks; 7: vmstate; 254: one sector. */
static VmaHeader *
small_header (void)
{
  g_autoptr (SynthHeader) builder = synth_header_new ();

  synth_header_device (builder, 1, "drive-scsi0", 3 * 65536 + 5000);
  synth_header_device (builder, 7, "vmstate", 65536);
  synth_header_device (builder, 254, "drive-efidisk0", 512);
  return make_header (builder);
}

static VmaIndex *
new_index (const VmaHeader *header)
{
  g_autoptr (GError) error = NULL;
  VmaIndex *index = vma_index_new (header, &error);

  g_assert_no_error (error);
  return index;
}

static void
parse_slots (const SynthSlot *slots, guint n, VmaExtent *extent)
{
  g_autoptr (GError) error = NULL;
  guint8 bytes[512];

  synth_extent (bytes, slots, n);
  vma_extent_parse (bytes, synth_uuid, extent, &error);
  g_assert_no_error (error);
}

#define EXTENT(...)                                                                                \
  (const SynthSlot[]){ __VA_ARGS__ },                                                              \
      sizeof ((const SynthSlot[]){ __VA_ARGS__ }) / sizeof (SynthSlot)

/* NULL: it fits. */
static void
check_fit (VmaIndex *index, const char *reason, const SynthSlot *slots, guint n)
{
  g_autoptr (GError) error = NULL;
  VmaExtent extent;

  parse_slots (slots, n, &extent);
  gboolean fits = vma_index_check_extent (index, &extent, &error);
  g_assert_true (fits == (error == NULL));
  if (reason == NULL)
    g_assert_no_error (error);
  else {
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
    g_assert_nonnull (strstr (error->message, reason));
  }
}

static void
add (VmaIndex *index, guint64 offset, const SynthSlot *slots, guint n)
{
  VmaExtent extent;

  check_fit (index, NULL, slots, n);
  parse_slots (slots, n, &extent);
  vma_index_add_extent (index, &extent, offset);
}

static VmaEntry
look (VmaIndex *index, guint8 device, guint64 cluster, gboolean *pending)
{
  gboolean ignored;
  guint64 end;

  return vma_index_lookup (index, device, cluster, &end, pending != NULL ? pending : &ignored);
}

static void
test_rules (void)
{
  g_autoptr (VmaHeader) header = small_header ();
  g_autoptr (VmaIndex) index = new_index (header);

  check_fit (index, NULL, EXTENT ({ 1, 0, 0xffff }, { 1, 3, 3 }, { 254, 0, 1 }, { 7, 0, 0xffff }));
  check_fit (index, "cluster 0 of device 2 is of a device", EXTENT ({ 1, 0, 0 }, { 2, 0, 0 }));
  check_fit (index, "of device 255 is of a device", EXTENT ({ 255, 0, 0 }));
  check_fit (index, "cluster 4 of device 1 is beyond the end", EXTENT ({ 1, 3, 0 }, { 1, 4, 0 }));
  check_fit (index, "cluster 4294967295 of device 1 is beyond", EXTENT ({ 1, G_MAXUINT32, 0 }));
  check_fit (index, "cluster 1 of device 254 is beyond", EXTENT ({ 254, 1, 0 }));
  check_fit (index, "cluster 3 of device 1 has blocks beyond",
             EXTENT ({ 1, 1, 0xffff }, { 1, 2, 0xffff }, { 1, 3, 7 }));
  check_fit (index, "cluster 0 of device 254 has blocks beyond", EXTENT ({ 254, 0, 0x8000 }));
  check_fit (index, "cluster 2 of device 1 is listed twice", EXTENT ({ 1, 2, 0 }, { 1, 2, 0 }));
  check_fit (index, "cluster 1 of device 1 is listed twice",
             EXTENT ({ 1, 1, 0 }, { 1, 2, 0 }, { 254, 0, 0 }, { 1, 1, 0xffff }));

  /* vmstate: from 0, without gaps, and beyond its size. */
  check_fit (index, "cluster 1 of device 7 of the VM state is out", EXTENT ({ 7, 1, 0 }));
  check_fit (index, "cluster 2 of device 7 of the VM state is out",
             EXTENT ({ 7, 0, 0 }, { 7, 2, 0 }));
  check_fit (index, "is out of order", EXTENT ({ 7, 1, 0 }, { 7, 0, 0 }));
  check_fit (index, "is out of order", EXTENT ({ 7, 0, 0 }, { 7, 0, 0 }));
  check_fit (index, NULL, EXTENT ({ 7, 0, 0xffff }, { 1, 0, 0 }, { 7, 1, 0xffff }, { 7, 2, 1 }));

  /* Refusing leaves nothing behind. */
  g_assert_cmphex (look (index, 1, 2, NULL), ==, VMA_ENTRY_MISSING);
  add (index, 12800, EXTENT ({ 1, 2, 0xffff }, { 7, 0, 0 }, { 7, 1, 1 }));
  check_fit (index, "cluster 2 of device 1 is listed twice",
             EXTENT ({ 1, 1, 0 }, { 1, 2, 0 }, { 1, 3, 0 }));
  check_fit (index, "is out of order", EXTENT ({ 7, 1, 0 }));
  check_fit (index, NULL, EXTENT ({ 7, 2, 0 }));
  vma_index_allow_vmstate_gaps (index);
  check_fit (index, NULL, EXTENT ({ 7, 20, 0 }));
  check_fit (index, "is out of order", EXTENT ({ 7, 1, 0 }));
}

static void
test_counts (void)
{
  g_autoptr (VmaHeader) header = small_header ();
  g_autoptr (VmaIndex) index = new_index (header);
  VmaDeviceCounts device;
  VmaIndexCounts all;
  gboolean pending;

  add (index, 12800, EXTENT ({ 1, 0, 0xffff }, { 1, 1, 0x0f0f }, { 7, 0, 0xffff }, { 1, 2, 0 }));
  look (index, 1, 3, &pending);
  g_assert_true (pending);
  look (index, 1, 2, &pending);
  g_assert_false (pending);
  add (index, 200000, EXTENT ({ 1, 3, 0 }, { 254, 0, 0 }));

  g_assert_cmphex (look (index, 1, 1, NULL), ==, (12800 + 512 + 65536) * 65536ull + 0x0f0f);
  vma_index_get_counts (index, &all);
  g_assert_cmpuint (all.extents, ==, 2);
  g_assert_cmpuint (all.bare_extents, ==, 1);
  g_assert_cmpuint (all.end, ==, 200000 + 512);
  vma_index_get_device_counts (index, 1, &device);
  g_assert_cmpuint (device.data, ==, 2);
  g_assert_cmpuint (device.zero, ==, 2);
  g_assert_cmpuint (device.bad, ==, 0);
  g_assert_cmpuint (device.blocks, ==, 24);
  g_assert_cmpuint (device.in_order, ==, 4);
  vma_index_get_device_counts (index, 7, &device);
  g_assert_cmpuint (device.next, ==, 1);
  g_assert_true (vma_index_complete (index, TRUE, NULL));
  g_assert_cmpint (vma_index_state (index), ==, VMA_INDEX_COMPLETE);
  look (index, 7, 100, &pending);
  g_assert_false (pending);
}

static void
test_missing (void)
{
  g_autoptr (VmaHeader) header = small_header ();
  g_autoptr (VmaIndex) index = new_index (header);
  g_autoptr (GError) error = NULL;

  add (index, 12800, EXTENT ({ 1, 0, 0 }, { 1, 3, 0 }, { 254, 0, 0 }));
  g_assert_cmpuint (vma_index_missing (index, 1), ==, 2);
  g_assert_false (vma_index_complete (index, TRUE, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_MISSING);
  g_assert_nonnull (strstr (error->message, "2 of 4 clusters of drive-scsi0"));
  g_assert_nonnull (strstr (error->message, "the first is 1"));
  g_assert_cmpint (vma_index_state (index), ==, VMA_INDEX_FAILED);
  g_autoptr (GError) failure = vma_index_dup_failure (index);
  g_assert_error (failure, VMA_ERROR, VMA_ERROR_MISSING);
}

/* What is sound of an extent that is not. */
static void
test_broken (void)
{
  g_autoptr (VmaHeader) header = small_header ();
  g_autoptr (VmaIndex) index = new_index (header);
  VmaDeviceCounts device;
  VmaExtent extent;

  add (index, 12800, EXTENT ({ 1, 0, 0xffff }));

  /* 0 is listed twice and spoiled; 1 is whole; 3's data are cut off; the others do not exist. */
  parse_slots (
      EXTENT ({ 1, 0, 1 }, { 1, 1, 3 }, { 9, 0, 1 }, { 255, 9, 1 }, { 1, 9, 1 }, { 1, 3, 1 }),
      &extent);
  vma_index_add_broken_extent (index, &extent, 100000, 100000 + 512 + 7 * 4096 - 1);
  g_assert_cmphex (look (index, 1, 0, NULL), ==, VMA_ENTRY_BAD);
  g_assert_cmphex (look (index, 1, 1, NULL), ==, (100000 + 512 + 4096) * 65536ull + 3);
  g_assert_cmphex (look (index, 1, 2, NULL), ==, VMA_ENTRY_MISSING);
  g_assert_cmphex (look (index, 1, 3, NULL), ==, VMA_ENTRY_BAD);
  vma_index_get_device_counts (index, 1, &device);
  g_assert_cmpuint (device.data, ==, 1);
  g_assert_cmpuint (device.bad, ==, 2);
  g_assert_cmpuint (device.blocks, ==, 2);
  g_assert_cmpuint (vma_index_missing (index, 1), ==, 1);

  /* Not to be trusted at all. */
  parse_slots (EXTENT ({ 1, 2, 0xffff }, { 254, 0, 1 }), &extent);
  vma_index_add_broken_extent (index, &extent, 200000, 0);
  g_assert_cmphex (look (index, 1, 2, NULL), ==, VMA_ENTRY_BAD);
  g_assert_cmphex (look (index, 254, 0, NULL), ==, VMA_ENTRY_BAD);
  g_assert_true (vma_index_complete (index, FALSE, NULL));
  g_assert_cmphex (look (index, 1, 1, NULL), ==, (100000 + 512 + 4096) * 65536ull + 3);
}

static void
test_damage (void)
{
  g_autoptr (VmaHeader) header = small_header ();
  g_autoptr (VmaIndex) index = new_index (header);
  const guint n = 150000; /* more than are kept */

  for (guint i = 0; i < n; i++)
    vma_index_add_damage (index, 1000 * i, 1000 * i + 10, "broken");
  g_autoptr (GPtrArray) damage = vma_index_dup_damage (index);
  g_assert_cmpuint (damage->len, ==, vma_index_damage_count (index));
  g_assert_cmpuint (damage->len, <, n);
  const VmaDamage *first = g_ptr_array_index (damage, 0);
  const VmaDamage *last = g_ptr_array_index (damage, damage->len - 1);
  g_assert_cmpuint (first->start, ==, 0);
  g_assert_cmpuint (first->end, ==, 10);
  g_assert_cmpstr (first->reason, ==, "broken");
  g_assert_cmpuint (last->end, ==, 1000 * (n - 1) + 10); /* the last one covers the rest */
}

/* --- waiting ----------------------------------------------------------------------------------- */

typedef struct {
  VmaIndex *index;
  GCancellable *cancellable;
  atomic_int phase;
  gint64 took_us;
} Waiter;

static void *
wait_for_cluster (void *data)
{
  Waiter *waiter = data;
  guint64 seen = 0;
  gboolean pending;

  for (;;) {
    look (waiter->index, 1, 3, &pending);
    if (!pending)
      break;
    atomic_store (&waiter->phase, 1);
    vma_index_wait (waiter->index, &seen, 60000);
  }
  atomic_store (&waiter->phase, 2);
  return NULL;
}

static void
test_wait (void)
{
  g_autoptr (VmaHeader) header = small_header ();
  g_autoptr (VmaIndex) index = new_index (header);
  Waiter waiters[4];
  pthread_t threads[4];
  guint64 seen = 0;
  gint64 start = g_get_monotonic_time ();

  g_assert_false (vma_index_wait (index, &seen, 30));
  g_assert_cmpint (g_get_monotonic_time () - start, >=, 29000);

  for (guint i = 0; i < 4; i++) {
    waiters[i] = (Waiter){ .index = index };
    pthread_create (&threads[i], NULL, wait_for_cluster, &waiters[i]);
  }
  for (guint i = 0; i < 4; i++)
    while (atomic_load (&waiters[i].phase) == 0)
      g_usleep (1000);
  add (index, 12800, EXTENT ({ 1, 0, 0 }));
  g_usleep (10000); /* later than the least time between two wakes */
  start = g_get_monotonic_time ();
  add (index, 13312, EXTENT ({ 1, 3, 0 }));
  for (guint i = 0; i < 4; i++)
    pthread_join (threads[i], NULL);
  g_assert_cmpint (g_get_monotonic_time () - start, <, 5000000);
}

static void *
wait_for_end (void *data)
{
  Waiter *waiter = data;
  g_autoptr (GError) error = NULL;

  atomic_store (&waiter->phase, 1);
  if (!vma_index_wait_finished (waiter->index, waiter->cancellable, &error))
    g_assert_error (error, VMA_ERROR, VMA_ERROR_CANCELLED);
  atomic_store (&waiter->phase, error != NULL ? 3 : 2);
  return NULL;
}

static void
run_wait_for_end (Waiter *waiter, gboolean cancel)
{
  pthread_t thread;

  pthread_create (&thread, NULL, wait_for_end, waiter);
  while (atomic_load (&waiter->phase) == 0)
    g_usleep (1000);
  g_usleep (20000);
  g_assert_cmpint (atomic_load (&waiter->phase), ==, 1);
  gint64 start = g_get_monotonic_time ();
  if (cancel)
    g_cancellable_cancel (waiter->cancellable);
  else
    vma_index_complete (waiter->index, FALSE, NULL);
  vma_index_wake (waiter->index);
  pthread_join (thread, NULL);
  g_assert_cmpint (g_get_monotonic_time () - start, <, 2000000);
  g_assert_cmpint (atomic_load (&waiter->phase), ==, cancel ? 3 : 2);
}

static void
test_wait_finished (void)
{
  g_autoptr (VmaHeader) header = small_header ();
  g_autoptr (VmaIndex) index = new_index (header);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Waiter first = { .index = index, .cancellable = cancellable };
  Waiter second = { .index = index };

  run_wait_for_end (&first, TRUE);
  run_wait_for_end (&second, FALSE);
}

/* --- memory ------------------------------------------------------------------------------------ */

/* An archive of one device that is nowhere but in this formula. */
typedef struct {
  guint64 clusters;
  guint slots;
  guint16 mask;
  gboolean random;
  guint64 header_size;
  VmaIndex *index;
  gsize peak;
  gint64 fill_us;
} Virtual;

static guint64
virtual_extent_size (const Virtual *v)
{
  return 512 + (v->mask != 0 ? (guint64) v->slots * 65536 : 0);
}

static guint64
virtual_extents (const Virtual *v)
{
  return (v->clusters + v->slots - 1) / v->slots;
}

static guint
virtual_slots (const Virtual *v, guint64 extent, SynthSlot *slots)
{
  guint64 first = extent * v->slots;
  guint n = (guint) MIN (v->slots, v->clusters - first);

  for (guint i = 0; i < n; i++) {
    guint64 cluster = first + i;
    if (v->random) /* each once, as clusters is a power of two and the factor odd */
      cluster = (cluster * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15) + 12345) % v->clusters;
    slots[i] = (SynthSlot){ 1, (guint32) cluster, v->mask };
  }
  return n;
}

static guint64
virtual_size (const Virtual *v)
{
  guint64 full = v->clusters / v->slots, rest = v->clusters % v->slots;

  return v->header_size + full * virtual_extent_size (v)
         + (rest > 0 ? 512 + (v->mask != 0 ? rest * 65536 : 0) : 0);
}

static void
fill_virtual (gpointer data, guint8 *buffer, gsize size, guint64 offset)
{
  Virtual *v = data;
  gint64 start = g_get_monotonic_time ();
  guint64 step = virtual_extent_size (v), at = offset - v->header_size, end = at + size;

  g_assert_cmpuint (offset, >=, v->header_size);
  memset (buffer, 0, size);
  for (guint64 i = at / step; i * step < end && i < virtual_extents (v); i++) {
    guint8 header[512];
    SynthSlot slots[59];
    guint64 from = MAX (at, i * step), to = MIN (end, i * step + 512);

    if (from >= to)
      continue;
    synth_extent (header, slots, virtual_slots (v, i, slots));
    memcpy (buffer + (from - at), header + (from - i * step), to - from);
  }
  v->peak = MAX (v->peak, vma_index_memory (v->index));
  v->fill_us += g_get_monotonic_time () - start;
}

static VmaHeader *
virtual_header (Virtual *v)
{
  g_autoptr (SynthHeader) builder = synth_header_new ();

  synth_header_device (builder, 1, "drive-scsi0", v->clusters * 65536);
  VmaHeader *header = make_header (builder);
  v->header_size = header->size;
  return header;
}

static double
scan_virtual (Virtual *v, const char *what)
{
  g_autoptr (VmaHeader) header = virtual_header (v);
  g_autoptr (VmaIndex) index = new_index (header);
  g_autoptr (SynthSource) source = synth_source_new_virtual (virtual_size (v), fill_virtual, v);
  g_autoptr (VmaScanner) scanner
      = vma_scanner_new (synth_source_base (source), header, index, FALSE);
  g_autoptr (GError) error = NULL;

  v->index = index;
  gint64 start = g_get_monotonic_time ();
  vma_scanner_run (scanner, NULL, &error);
  gint64 took = g_get_monotonic_time () - start - v->fill_us;
  g_assert_no_error (error);

  g_autoptr (GRand) rand = g_rand_new_with_seed (4);
  for (guint i = 0; i < 2000; i++) {
    guint64 extent = (guint64) (g_rand_double (rand) * (double) virtual_extents (v));
    SynthSlot slots[59];
    guint n = virtual_slots (v, extent, slots);
    guint k = (guint) g_rand_int_range (rand, 0, (gint32) n);
    guint64 data = v->header_size + extent * virtual_extent_size (v) + 512 + k * 65536ull;
    g_assert_cmphex (look (index, 1, slots[k].cluster, NULL), ==,
                     v->mask != 0 ? data << 16 | 0xffff : VMA_ENTRY_ZERO);
  }
  double per_cluster = (double) vma_index_memory (index) / (double) v->clusters;
  g_test_message ("%s, %.2f TiB, %" G_GUINT64_FORMAT " extents: %" G_GSIZE_FORMAT
                  " bytes, %.4f a cluster (peak %.4f), scan %.2f s, reads %.4f %% of the archive",
                  what, (double) v->clusters / (1 << 24), virtual_extents (v),
                  vma_index_memory (index), per_cluster, (double) v->peak / (double) v->clusters,
                  (double) took / 1e6,
                  100.0 * (double) synth_source_bytes (source) / (double) virtual_size (v));
  g_assert_cmpuint (synth_source_bytes (source), <=, 700 * virtual_extents (v));
  return per_cluster;
}

static void
test_memory_in_order (void)
{
  guint64 clusters = (guint64) ((g_test_slow () ? 16 : 0.5) * synth_scale () * (1 << 24));
  Virtual full58 = { .clusters = clusters, .slots = 58, .mask = 0xffff };
  Virtual full59 = { .clusters = clusters, .slots = 59, .mask = 0xffff };

  g_assert_cmpfloat (scan_virtual (&full58, "58 clusters an extent, in order"), <=, 0.5);
  g_assert_cmpfloat (scan_virtual (&full59, "59 clusters an extent, in order"), <=, 0.5);
}

/* The same without making and reading bytes, to get to 16 TiB in a reasonable time. */
static void
test_memory_16_tib (void)
{
  Virtual v
      = { .clusters = (guint64) (16 * synth_scale () * (1 << 24)), .slots = 58, .mask = 0xffff };
  g_autoptr (VmaHeader) header = virtual_header (&v);
  g_autoptr (VmaIndex) index = new_index (header);
  VmaExtent extent = { .size = (guint32) virtual_extent_size (&v) };
  g_autoptr (GError) error = NULL;
  gsize peak = 0;

  for (guint64 at = 0, offset = v.header_size; at < v.clusters; at += extent.n_slots) {
    extent.n_slots = (guint32) MIN (v.slots, v.clusters - at);
    for (guint32 i = 0; i < extent.n_slots; i++)
      extent.slots[i] = (VmaSlot){ (guint32) (at + i), 0xffff, 1, 512 + i * 65536 };
    g_assert_true (vma_index_check_extent (index, &extent, NULL));
    vma_index_add_extent (index, &extent, offset);
    offset += extent.size;
    if (at % (v.slots * 4096) == 0)
      peak = MAX (peak, vma_index_memory (index));
  }
  vma_index_complete (index, TRUE, &error);
  g_assert_no_error (error);
  double per_cluster = (double) vma_index_memory (index) / (double) v.clusters;
  g_test_message ("in order, %.2f TiB: %" G_GSIZE_FORMAT " bytes, %.4f a cluster (peak %.4f)",
                  (double) v.clusters / (1 << 24), vma_index_memory (index), per_cluster,
                  (double) peak / (double) v.clusters);
  g_assert_cmpfloat (per_cluster, <=, 0.5);
}

static void
test_memory_random (void)
{
  guint64 clusters = synth_scale () < 1 ? 1 << 17 : 1 << 22; /* a power of two; 256 GiB */
  Virtual v = { .clusters = clusters, .slots = 58, .mask = 0xffff, .random = TRUE };

  /* 8 bytes a cluster, and 10 for 4096 of them in the directory. */
  g_assert_cmpfloat (scan_virtual (&v, "random order"), <=, 8 + 10 / 4096.0 + 1e-9);
  g_assert_cmpfloat ((double) v.peak, <=, 8.1 * (double) clusters + 8 * 32768);
}

static void
test_bare (void)
{
  guint64 headers = (guint64) (1e6 * synth_scale ());
  Virtual v = { .clusters = headers * 58, .slots = 58, .mask = 0 };

  gint64 start = g_get_monotonic_time ();
  double per_cluster = scan_virtual (&v, "bare headers");
  gint64 took = g_get_monotonic_time () - start - v.fill_us;
  g_test_message ("%.2f million bare headers a second", (double) headers / (double) MAX (took, 1));
  g_assert_cmpfloat (per_cluster, <, 0.01);
  g_assert_cmpint (took, <, 60000000); /* a machine that has much else to do, too */
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/index/rules", test_rules);
  g_test_add_func ("/index/counts", test_counts);
  g_test_add_func ("/index/missing", test_missing);
  g_test_add_func ("/index/broken", test_broken);
  g_test_add_func ("/index/damage", test_damage);
  g_test_add_func ("/index/wait", test_wait);
  g_test_add_func ("/index/wait-finished", test_wait_finished);
  g_test_add_func ("/index/memory/in-order", test_memory_in_order);
  g_test_add_func ("/index/memory/16-tib", test_memory_16_tib);
  g_test_add_func ("/index/memory/random", test_memory_random);
  g_test_add_func ("/index/bare", test_bare);
  return g_test_run ();
}
