/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packed pages against the plain array they were packed from. */
#include "index/page.h"

#include <string.h>

#define N VMA_PAGE_CLUSTERS

static guint
blocks_of (guint16 mask)
{
  guint n = 0;

  for (guint bit = 0; bit < 16; bit++)
    n += mask >> bit & 1;
  return n;
}

/* Fills a page as a writer might, with stretches of many kinds. */
static void
random_page (GRand *rand, guint mean_run, VmaEntry *entries)
{
  for (guint i = 0; i < N;) {
    guint n = (guint) g_rand_int_range (rand, 1, (gint32) (2 * mean_run) + 1);
    guint16 mask = g_rand_boolean (rand) ? 0xffff : (guint16) g_rand_int_range (rand, 1, 0x10000);
    guint64 offset = 12800 + (((guint64) g_rand_int (rand) << 14) | (g_rand_int (rand) & 0x3fff));
    int kind = g_rand_int_range (rand, 0, 7);

    for (; n > 0 && i < N; n--, i++) {
      switch (kind) {
      case 0:
        entries[i] = VMA_ENTRY_MISSING;
        break;
      case 1:
        entries[i] = VMA_ENTRY_ZERO;
        break;
      case 2:
        entries[i] = VMA_ENTRY_BAD;
        break;
      case 3: /* each with a mask of its own */
        mask = (guint16) g_rand_int_range (rand, 1, 0x10000);
        entries[i] = offset << 16 | mask;
        offset += blocks_of (mask) * 4096u;
        break;
      default:
        entries[i] = offset << 16 | mask;
        offset += blocks_of (mask) * 4096u;
      }
    }
  }
}

static void
check_page (const VmaEntry *entries)
{
  g_autofree VmaRuns *runs = vma_runs_pack (entries);

  if (runs == NULL)
    return;
  g_assert_cmpuint (vma_runs_size (runs), <, N * sizeof (VmaEntry));
  g_assert_cmpuint (vma_runs_size (runs), ==, sizeof (VmaRuns) + 10 * (gsize) runs->n);
  for (guint i = 0; i < N; i++) {
    guint end = 0;

    g_assert_cmphex (vma_runs_get (runs, i), ==, entries[i]);
    g_assert_cmphex (vma_runs_get_run (runs, i, &end), ==, entries[i]);
    g_assert_cmpuint (end, >, i);
    g_assert_cmpuint (end, <=, N);
    /* What it promises of the rest of the run holds for its last cluster. */
    guint16 mask = (guint16) entries[i];
    guint64 ahead = (guint64) (end - 1 - i) * blocks_of (mask) * 4096;
    g_assert_cmphex (entries[end - 1], ==, entries[i] + (ahead << 16));
  }
}

static void
test_random (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (11);
  const guint means[] = { 1, 2, 5, 29, 59, 500, 5000 };

  for (guint round = 0; round < 140; round++) {
    VmaEntry entries[N];
    random_page (rand, means[round % G_N_ELEMENTS (means)], entries);
    check_page (entries);
  }
}

/* One run, whatever it is of. */
static void
test_uniform (void)
{
  const VmaEntry kinds[] = { VMA_ENTRY_MISSING, VMA_ENTRY_ZERO, VMA_ENTRY_BAD, VMA_ENTRY_LOST };

  for (guint k = 0; k < G_N_ELEMENTS (kinds); k++) {
    VmaEntry entries[N];
    for (guint i = 0; i < N; i++)
      entries[i] = kinds[k];
    g_autofree VmaRuns *runs = vma_runs_pack (entries);
    g_assert_cmpuint (runs->n, ==, 1);
    check_page (entries);
  }
}

/* As many runs as there are clusters: not packed; and the last number of runs that is. */
static void
test_worst (void)
{
  VmaEntry entries[N];

  for (guint i = 0; i < N; i++)
    entries[i] = vma_entry_make (VMA_MAX_OFFSET - 100000 * (guint64) i, 0xffff);
  g_assert_null (vma_runs_pack (entries));

  gboolean packed = TRUE;
  for (guint n = 1; n < N; n += n < 3200 ? 100 : 1) {
    for (guint i = 0; i < N; i++)
      entries[i] = i < n ? vma_entry_make (20000 + 3 * 65536 * (guint64) i, 0xffff) : VMA_ENTRY_BAD;
    g_autofree VmaRuns *runs = vma_runs_pack (entries);
    g_assert_true (packed || runs == NULL); /* once too many, always too many */
    packed = runs != NULL;
    if (packed)
      g_assert_cmpuint (runs->n, ==, n + 1);
  }
  g_assert_false (packed);
}

/* Neighbours that look alike but are no run: a gap, a step back, another mask of the same count. */
static void
test_near_runs (void)
{
  VmaEntry entries[N];

  for (guint i = 0; i < N; i++)
    entries[i] = VMA_ENTRY_ZERO;
  entries[100] = vma_entry_make (100000, 0x00ff);
  entries[101] = vma_entry_make (100000 + 8 * 4096, 0xff00);
  entries[102] = vma_entry_make (100000 + 16 * 4096 + 1, 0xff00);
  entries[103] = vma_entry_make (100000 + 16 * 4096 + 1, 0xff00);
  entries[104] = vma_entry_make (100000, 0x00ff);
  check_page (entries);
  g_autofree VmaRuns *runs = vma_runs_pack (entries);
  g_assert_cmpuint (runs->n, ==, 7);
}

static void
test_entry (void)
{
  g_assert_cmphex (vma_entry_make (VMA_MAX_OFFSET, 1), ==, G_GUINT64_CONSTANT (0xffffffffffff0001));
  g_assert_cmphex (vma_entry_offset (vma_entry_make (VMA_MAX_OFFSET, 1)), ==, VMA_MAX_OFFSET);
  g_assert_cmphex (vma_entry_mask (vma_entry_make (VMA_MAX_OFFSET, 0x8001)), ==, 0x8001);
  g_assert_cmphex (vma_entry_make (VMA_MAX_OFFSET, 0), ==, VMA_ENTRY_ZERO);
  g_assert_false (vma_entry_is_data (VMA_ENTRY_MISSING));
  g_assert_false (vma_entry_is_data (VMA_ENTRY_ZERO));
  g_assert_false (vma_entry_is_data (VMA_ENTRY_BAD));
  g_assert_false (vma_entry_is_data (VMA_ENTRY_LOST));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/page/entry", test_entry);
  g_test_add_func ("/page/uniform", test_uniform);
  g_test_add_func ("/page/near-runs", test_near_runs);
  g_test_add_func ("/page/worst", test_worst);
  g_test_add_func ("/page/random", test_random);
  return g_test_run ();
}
