/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/page.h"

#include "vma/extent.h"

/* What the entry after `entry` is in the same run. */
static inline VmaEntry
entry_advance (VmaEntry entry, guint steps)
{
  guint64 stored = (guint64) vma_mask_blocks (vma_entry_mask (entry)) * VMA_BLOCK_SIZE;

  return entry + ((stored * steps) << 16); /* stored is 0 where there is no data */
}

static gsize
size_for (guint n)
{
  return sizeof (VmaRuns) + n * (sizeof (VmaEntry) + sizeof (guint16));
}

static inline const guint16 *
runs_first (const VmaRuns *runs)
{
  return (const guint16 *) &runs->entries[runs->n];
}

VmaRuns *
vma_runs_pack (const VmaEntry *entries)
{
  guint n = 1;

  for (guint i = 1; i < VMA_PAGE_CLUSTERS; i++)
    n += entries[i] != entry_advance (entries[i - 1], 1);
  if (size_for (n) >= VMA_PAGE_CLUSTERS * sizeof (VmaEntry))
    return NULL;

  VmaRuns *runs = g_malloc (size_for (n));
  runs->n = n;
  guint16 *first = (guint16 *) &runs->entries[n];
  guint run = 0;
  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
    if (i == 0 || entries[i] != entry_advance (entries[i - 1], 1)) {
      runs->entries[run] = entries[i];
      first[run++] = (guint16) i;
    }
  return runs;
}

VmaEntry
vma_runs_get_run (const VmaRuns *runs, guint i, guint *end)
{
  const guint16 *first = runs_first (runs);
  guint low = 0, high = runs->n; /* first[low] <= i < first[high] */

  while (high - low > 1) {
    guint middle = low + (high - low) / 2;
    if (first[middle] <= i)
      low = middle;
    else
      high = middle;
  }
  *end = high < runs->n ? first[high] : VMA_PAGE_CLUSTERS;
  return entry_advance (runs->entries[low], i - first[low]);
}

VmaEntry
vma_runs_get (const VmaRuns *runs, guint i)
{
  guint end;

  return vma_runs_get_run (runs, i, &end);
}

gsize
vma_runs_size (const VmaRuns *runs)
{
  return size_for (runs->n);
}
