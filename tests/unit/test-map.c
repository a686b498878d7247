/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cluster map: one writer, readers beside it, and what a page becomes when it is full. */
#include "index/map.h"
#include "tests/unit/synth.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* What the test puts where: a function of the cluster, so that a reader can check what it finds. */
static VmaEntry
expected (guint64 cluster)
{
  if (cluster / 4096 % 5 == 3)
    return VMA_ENTRY_ZERO; /* whole pages */
  if (cluster % 17 == 5)
    return VMA_ENTRY_ZERO;
  if (cluster / 4096 % 5 == 2) /* no two follow one another */
    return vma_entry_make (99999 + (cluster ^ 1) * 70000, (guint16) (cluster | 1));
  return vma_entry_make (12800 + cluster * 65536 + cluster / 59 * 512, 0xffff);
}

/* --- one thread -------------------------------------------------------------------------------- */

static void
set_expected (VmaMap *map, guint64 cluster, guint n)
{
  VmaEntry entries[59];

  for (guint i = 0; i < n; i++)
    entries[i] = expected (cluster + i);
  vma_map_set (map, cluster, entries, n);
}

/* Random runs of up to 59 clusters until all are set, against an array. */
static void
check_random_filling (GRand *rand, guint64 clusters, guint bad)
{
  g_autoptr (VmaMap) map = vma_map_new (clusters);
  g_autofree VmaEntry *naive = g_new0 (VmaEntry, clusters);
  g_autoptr (GArray) starts = g_array_new (FALSE, FALSE, sizeof (guint64));

  for (guint64 at = 0; at < clusters; at += 59)
    g_array_append_val (starts, at);
  while (starts->len > 0) {
    guint k = (guint) g_rand_int_range (rand, 0, (gint32) starts->len);
    guint64 at = g_array_index (starts, guint64, k);
    guint n = (guint) MIN (59, clusters - at);

    g_array_remove_index_fast (starts, k);
    g_assert_true (vma_map_all_missing (map, at, n));
    set_expected (map, at, n);
    g_assert_false (vma_map_all_missing (map, at, n));
    for (guint i = 0; i < n; i++)
      naive[at + i] = expected (at + i);
    if ((guint) g_rand_int_range (rand, 0, 100) < bad) {
      /* Any cluster that was set: also one of a page that was packed since. */
      guint64 cluster = at + (guint) g_rand_int_range (rand, 0, (gint32) n);
      vma_map_set_bad (map, cluster);
      naive[cluster] = VMA_ENTRY_BAD;
      cluster = (guint64) (g_rand_double (rand) * (double) clusters);
      if (naive[cluster] != VMA_ENTRY_MISSING) {
        vma_map_set_bad (map, cluster);
        naive[cluster] = VMA_ENTRY_BAD;
      }
    }
    guint64 probe = (guint64) (g_rand_double (rand) * (double) clusters);
    g_assert_cmphex (vma_map_get (map, probe), ==, naive[probe]);
  }
  for (guint pass = 0; pass < 2; pass++) {
    for (guint64 cluster = 0, end; cluster < clusters; cluster++) {
      g_assert_cmphex (vma_map_get_run (map, cluster, &end), ==, naive[cluster]);
      g_assert_cmpuint (end, >, cluster);
      g_assert_cmpuint (end, <=, clusters);
    }
    for (guint32 page = 0; page < vma_map_pages (map); page++) {
      VmaEntry entries[VMA_PAGE_CLUSTERS];
      VmaPageKind kind = vma_map_get_page (map, page, entries);
      for (guint64 i = 0; i < VMA_PAGE_CLUSTERS && page * 4096ull + i < clusters; i++)
        g_assert_cmphex (kind == VMA_PAGE_EMPTY  ? VMA_ENTRY_MISSING
                         : kind == VMA_PAGE_ZERO ? VMA_ENTRY_ZERO
                                                 : entries[i],
                         ==, naive[page * 4096ull + i]);
    }
    vma_map_finish (map);
  }
}

static void
test_random_filling (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (21);
  const guint64 sizes[] = { 1, 58, 4095, 4096, 4097, 8192, 50000 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
    check_random_filling (rand, sizes[i], 0);
    check_random_filling (rand, sizes[i], 10);
  }
}

static void
test_empty (void)
{
  g_autoptr (VmaMap) none = vma_map_new (0);
  g_autoptr (VmaMap) largest = vma_map_new (VMA_MAX_CLUSTERS);
  guint64 end;

  g_assert_cmpuint (vma_map_pages (none), ==, 0);
  g_assert_cmpuint (vma_map_pages (largest), ==, 1 << 20);
  g_assert_cmphex (vma_map_get (largest, VMA_MAX_CLUSTERS - 1), ==, VMA_ENTRY_MISSING);
  VmaEntry entry = vma_entry_make (20000, 1);
  vma_map_set (largest, VMA_MAX_CLUSTERS - 1, &entry, 1);
  g_assert_cmphex (vma_map_get_run (largest, VMA_MAX_CLUSTERS - 1, &end), ==, entry);
  g_assert_cmpuint (end, ==, VMA_MAX_CLUSTERS);
  vma_map_finish (largest);
  vma_map_finish (none);
}

/* What memory pages of each kind take once they are full. */
static void
test_memory (void)
{
  const guint64 clusters = 64 * 4096;
  const guint extents[] = { 58, 59 };

  for (guint k = 0; k < G_N_ELEMENTS (extents); k++) {
    g_autoptr (VmaMap) map = vma_map_new (clusters);
    for (guint64 at = 0; at < clusters; at += extents[k]) {
      VmaEntry entries[59];
      guint n = (guint) MIN (extents[k], clusters - at);
      for (guint i = 0; i < n; i++)
        entries[i] = vma_entry_make (12800 + (at + i) * 65536 + at / extents[k] * 512, 0xffff);
      vma_map_set (map, at, entries, n);
    }
    vma_map_finish (map);
    g_test_message ("%u clusters an extent, in order: %.4f bytes a cluster", extents[k],
                    (double) vma_map_memory (map) / (double) clusters);
    g_assert_cmpfloat ((double) vma_map_memory (map), <=, 0.5 * (double) clusters);
  }

  g_autoptr (VmaMap) zero = vma_map_new (clusters);
  VmaEntry zeros[59];
  for (guint i = 0; i < 59; i++)
    zeros[i] = VMA_ENTRY_ZERO;
  for (guint64 at = 0; at < clusters; at += 59)
    vma_map_set (zero, at, zeros, (guint) MIN (59, clusters - at));
  vma_map_finish (zero);
  g_assert_cmpuint (vma_map_page_memory (zero), ==, 0);
  g_test_message ("zeros: %.4f bytes a cluster",
                  (double) vma_map_memory (zero) / (double) clusters);
}

/* --- readers beside the writer ----------------------------------------------------------------- */

typedef struct {
  VmaMap *map;
  guint64 clusters;
  gboolean spoils; /* the writer makes clusters bad that were found before */
  atomic_bool done;
  atomic_ullong found;
} Race;

static void *
reader_thread (void *data)
{
  Race *race = data;
  guint64 x = (guint64) (guintptr) &race, found = 0, turns = 0;

  for (gboolean done = FALSE; !done || turns < 1000; turns++) {
    guint64 cluster, end;

    done = atomic_load (&race->done);
    x = x * G_GUINT64_CONSTANT (6364136223846793005) + 1442695040888963407u;
    cluster = (x >> 20) % race->clusters;
    VmaEntry entry = vma_map_get_run (race->map, cluster, &end);
    if (entry == VMA_ENTRY_MISSING || (race->spoils && entry == VMA_ENTRY_BAD))
      continue;
    if (entry != expected (cluster))
      g_error ("cluster %" G_GUINT64_FORMAT ": %" G_GINT64_MODIFIER "x", cluster, entry);
    g_assert_cmpuint (end, >, cluster);
    found++;
  }
  atomic_fetch_add (&race->found, found);
  return NULL;
}

static void
run_race (gboolean random_order, gboolean spoils)
{
  guint64 clusters = synth_scale () < 1 ? 20 * 4096 : 400 * 4096;
  g_autoptr (VmaMap) map = vma_map_new (clusters);
  Race race = { .map = map, .clusters = clusters, .spoils = spoils };
  g_autoptr (GRand) rand = g_rand_new_with_seed (5);
  g_autoptr (GArray) starts = g_array_new (FALSE, FALSE, sizeof (guint64));
  pthread_t threads[4];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_assert_cmpint (pthread_create (&threads[i], NULL, reader_thread, &race), ==, 0);

  for (guint64 at = 0; at < clusters; at += 59)
    g_array_append_val (starts, at);
  for (guint i = 0; i < starts->len; i++) {
    guint k = random_order ? (guint) g_rand_int_range (rand, (gint32) i, (gint32) starts->len) : i;
    guint64 at = g_array_index (starts, guint64, k);
    g_array_index (starts, guint64, k) = g_array_index (starts, guint64, i);
    g_array_index (starts, guint64, i) = at;
    set_expected (map, at, (guint) MIN (59, clusters - at));
    if (spoils && i % 50 == 49) {
      guint64 earlier = g_array_index (starts, guint64, g_rand_int_range (rand, 0, (gint32) i));
      vma_map_set_bad (map, earlier);
    }
  }
  vma_map_finish (map);
  atomic_store (&race.done, true);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    pthread_join (threads[i], NULL);
  g_test_message ("%llu entries found while it was filled", (unsigned long long) race.found);
}

static void
test_race_in_order (void)
{
  run_race (FALSE, FALSE);
}

static void
test_race_random (void)
{
  run_race (TRUE, FALSE);
}

static void
test_race_spoiled (void)
{
  run_race (FALSE, TRUE);
  run_race (TRUE, TRUE);
}

/* --- stored pages ------------------------------------------------------------------------------ */

typedef struct {
  atomic_int loads;
  gboolean destroyed;
} Loader;

static gboolean
load (gpointer data, guint32 page, VmaEntry *entries)
{
  Loader *loader = data;

  atomic_fetch_add (&loader->loads, 1);
  if (page % 8 == 7)
    return FALSE;
  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
    entries[i] = expected (page * 4096ull + i);
  return TRUE;
}

static void
destroy (gpointer data)
{
  ((Loader *) data)->destroyed = TRUE;
}

static void *
load_thread (void *data)
{
  VmaMap *map = data;

  for (guint64 cluster = 0; cluster < vma_map_clusters (map); cluster += 29) {
    VmaEntry entry = vma_map_get (map, cluster);
    g_assert_cmphex (entry, ==, cluster / 4096 % 8 == 7 ? VMA_ENTRY_LOST : expected (cluster));
  }
  return NULL;
}

static void
test_stored (void)
{
  const guint64 clusters = 64 * 4096 - 100;
  VmaMap *map = vma_map_new (clusters);
  Loader loader = { 0 };
  pthread_t threads[4];

  for (guint32 page = 0; page < vma_map_pages (map); page++)
    if (page % 5 == 3 && page % 8 != 7)
      vma_map_set_page_zero (map, page);
    else
      vma_map_set_page_stored (map, page);
  vma_map_set_loader (map, load, &loader, destroy);
  g_assert_cmpuint (vma_map_page_memory (map), ==, 0);
  g_assert_cmpint (loader.loads, ==, 0);

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_assert_cmpint (pthread_create (&threads[i], NULL, load_thread, map), ==, 0);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    pthread_join (threads[i], NULL);
  g_assert_cmpint (loader.loads, >=, 40);
  g_assert_cmpint (loader.loads, <=, 4 * 64);
  gsize memory = vma_map_page_memory (map);
  load_thread (map);
  g_assert_cmpuint (vma_map_page_memory (map), ==, memory);
  vma_map_free (map);
  g_assert_true (loader.destroyed);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/map/empty", test_empty);
  g_test_add_func ("/map/random-filling", test_random_filling);
  g_test_add_func ("/map/memory", test_memory);
  g_test_add_func ("/map/race/in-order", test_race_in_order);
  g_test_add_func ("/map/race/random", test_race_random);
  g_test_add_func ("/map/race/spoiled", test_race_spoiled);
  g_test_add_func ("/map/stored", test_stored);
  return g_test_run ();
}
