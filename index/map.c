/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/map.h"

#include <stdatomic.h>
#include <sys/mman.h>

/*
 * A directory word: a pointer with its kind in the low bits, which malloc leaves 0.
 */
enum {
  KIND_EMPTY = 0,
  KIND_DENSE = 1,
  KIND_RUNS = 2,
  KIND_ZERO = 3,
  KIND_STORED = 4,
  KIND_LOST = 5,
  KIND_BITS = 7,
};

typedef _Atomic guintptr Word;
typedef _Atomic VmaEntry DenseEntry;

struct VmaMap {
  guint64 clusters;
  guint32 n_pages;
  Word *words;       /* n_pages */
  guint16 *page_set; /* n_pages: entries set so far; the writer's */
  GPtrArray *spare;  /* dense pages to use again; the writer's */
  GPtrArray *cold;   /* the same, but their memory was given back */
  _Atomic guint32 pages_used; /* up to here the directory was written to; the writer's */
  GPtrArray *retired; /* packed pages that were opened again, still visible to readers */
  VmaMapLoad load;
  gpointer load_data;
  GDestroyNotify load_destroy;
  _Atomic gsize memory;
};

#define DENSE_SIZE  (VMA_PAGE_CLUSTERS * sizeof (DenseEntry))
#define SPARE_MAX   8    /* dense pages kept at hand */
#define DENSE_ALIGN 4096 /* a memory page's, so that a spare one can be given back (vma_map_finish) */

static inline guintptr
kind_of (guintptr word)
{
  return word & KIND_BITS;
}

static inline gpointer
pointer_of (guintptr word)
{
  return (gpointer) (word & ~(guintptr) KIND_BITS);
}

static void
memory_add (VmaMap *map, gssize bytes)
{
  atomic_fetch_add_explicit (&map->memory, (gsize) bytes, memory_order_relaxed);
}

static void
word_free (guintptr word)
{
  if (kind_of (word) == KIND_RUNS)
    g_free (pointer_of (word));
  else if (kind_of (word) == KIND_DENSE)
    g_aligned_free (pointer_of (word));
}

VmaMap *
vma_map_new (guint64 clusters)
{
  g_autoptr (VmaMap) map = g_new0 (VmaMap, 1);
  guint64 pages = clusters / VMA_PAGE_CLUSTERS + (clusters % VMA_PAGE_CLUSTERS != 0);

  g_assert (clusters <= VMA_MAX_CLUSTERS);
  map->clusters = clusters;
  map->n_pages = (guint32) pages;
  /* Zeroed by the kernel when first touched: an empty 256 TiB device costs address space only. */
  map->words = g_try_new0 (Word, pages);
  map->page_set = g_try_new0 (guint16, pages);
  map->spare = g_ptr_array_new_with_free_func (g_aligned_free);
  map->cold = g_ptr_array_new_with_free_func (g_aligned_free);
  map->retired = g_ptr_array_new_with_free_func (g_free);
  if (pages > 0 && (map->words == NULL || map->page_set == NULL))
    return NULL;
  return g_steal_pointer (&map);
}

void
vma_map_free (VmaMap *map)
{
  guint32 used = atomic_load_explicit (&map->pages_used, memory_order_relaxed);

  for (guint32 page = 0; page < used; page++)
    word_free (atomic_load_explicit (&map->words[page], memory_order_relaxed));
  if (map->load_destroy != NULL)
    map->load_destroy (map->load_data);
  g_free (map->words);
  g_free (map->page_set);
  g_ptr_array_unref (map->spare);
  g_ptr_array_unref (map->cold);
  g_ptr_array_unref (map->retired);
  g_free (map);
}

guint64
vma_map_clusters (const VmaMap *map)
{
  return map->clusters;
}

guint32
vma_map_pages (const VmaMap *map)
{
  return map->n_pages;
}

gsize
vma_map_page_memory (const VmaMap *map)
{
  return atomic_load_explicit (&map->memory, memory_order_relaxed);
}

gsize
vma_map_memory (const VmaMap *map)
{
  return vma_map_page_memory (map)
         + (gsize) atomic_load_explicit (&map->pages_used, memory_order_relaxed)
               * (sizeof (Word) + sizeof (guint16));
}

/* A dense page with anything in it, for a place that no reader can have seen one at. */
static DenseEntry *
dense_reuse (VmaMap *map)
{
  if (map->spare->len > 0)
    return g_ptr_array_steal_index_fast (map->spare, map->spare->len - 1);
  if (map->cold->len == 0)
    return NULL;
  memory_add (map, DENSE_SIZE);
  return g_ptr_array_steal_index_fast (map->cold, map->cold->len - 1);
}

/*
 * Keeps a dense page that was packed; with more than a few of them its memory goes.  A reader may still be
 * looking into it, so it stays mapped: such a reader sees zeros, finds the directory word changed, and
 * tries again.
 */
static void
dense_retire (VmaMap *map, DenseEntry *dense, guint keep)
{
  if (map->spare->len < keep || madvise (dense, DENSE_SIZE, MADV_DONTNEED) != 0) {
    g_ptr_array_add (map->spare, dense);
    return;
  }
  memory_add (map, -(gssize) DENSE_SIZE);
  g_ptr_array_add (map->cold, dense);
}

static DenseEntry *
dense_new (VmaMap *map)
{
  memory_add (map, DENSE_SIZE);
  return g_aligned_alloc0 (1, DENSE_SIZE, DENSE_ALIGN);
}

/* A packed page for `entries`, as a directory word; 0 where dense is better. */
static guintptr
pack_word (VmaMap *map, const VmaEntry *entries)
{
  VmaRuns *runs = vma_runs_pack (entries);

  if (runs == NULL)
    return 0;
  if (runs->n == 1 && runs->entries[0] == VMA_ENTRY_ZERO) {
    g_free (runs);
    return KIND_ZERO;
  }
  memory_add (map, (gssize) vma_runs_size (runs));
  return (guintptr) runs | KIND_RUNS;
}

/* Puts a stored page into memory; two threads may race here, and one of them wins. */
static void
page_load (VmaMap *map, guint32 page)
{
  guintptr stored = KIND_STORED, word;
  g_autofree VmaEntry *entries = g_new (VmaEntry, VMA_PAGE_CLUSTERS);

  if (!map->load (map->load_data, page, entries))
    word = KIND_LOST;
  else if ((word = pack_word (map, entries)) == 0) {
    DenseEntry *dense = dense_new (map);
    for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
      atomic_init (&dense[i], entries[i]);
    word = (guintptr) dense | KIND_DENSE;
  }
  if (!atomic_compare_exchange_strong_explicit (&map->words[page], &stored, word,
                                                memory_order_acq_rel, memory_order_relaxed)) {
    if (kind_of (word) == KIND_RUNS)
      memory_add (map, -(gssize) vma_runs_size (pointer_of (word)));
    else if (kind_of (word) == KIND_DENSE)
      memory_add (map, -(gssize) DENSE_SIZE);
    word_free (word);
  }
}

/*
 * Bytes and order: the writer publishes a packed page before it clears the dense one for its next
 * use (release stores of entries).  A reader that sees such a cleared entry (acquire) therefore
 * also sees the new directory word, and tries again.
 */
VmaEntry
vma_map_get_run (VmaMap *map, guint64 cluster, guint64 *end)
{
  guint32 page = (guint32) (cluster / VMA_PAGE_CLUSTERS);
  guint i = (guint) (cluster % VMA_PAGE_CLUSTERS), run_end;
  VmaEntry entry;

  g_assert (cluster < map->clusters);
  for (;;) {
    guintptr word = atomic_load_explicit (&map->words[page], memory_order_acquire);
    run_end = VMA_PAGE_CLUSTERS;
    switch (kind_of (word)) {
    case KIND_EMPTY:
      entry = VMA_ENTRY_MISSING;
      break;
    case KIND_ZERO:
      entry = VMA_ENTRY_ZERO;
      break;
    case KIND_LOST:
      entry = VMA_ENTRY_LOST;
      break;
    case KIND_RUNS:
      entry = vma_runs_get_run (pointer_of (word), i, &run_end);
      break;
    case KIND_DENSE:
      run_end = i + 1;
      entry = atomic_load_explicit (&((DenseEntry *) pointer_of (word))[i], memory_order_acquire);
      if (atomic_load_explicit (&map->words[page], memory_order_relaxed) != word)
        continue;
      break;
    default:
      page_load (map, page);
      continue;
    }
    *end = MIN ((guint64) page * VMA_PAGE_CLUSTERS + run_end, map->clusters);
    return entry;
  }
}

VmaEntry
vma_map_get (VmaMap *map, guint64 cluster)
{
  guint64 end;

  return vma_map_get_run (map, cluster, &end);
}

static guint
page_length (const VmaMap *map, guint32 page)
{
  return (guint) MIN (map->clusters - (guint64) page * VMA_PAGE_CLUSTERS, VMA_PAGE_CLUSTERS);
}

/* Only the writer's thread changes entries, so it may read them as plain values. */
static void
dense_read (DenseEntry *dense, VmaEntry *entries)
{
  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
    entries[i] = atomic_load_explicit (&dense[i], memory_order_relaxed);
}

VmaPageKind
vma_map_get_page (VmaMap *map, guint32 page, VmaEntry *entries)
{
  guint64 start = (guint64) page * VMA_PAGE_CLUSTERS, end;
  guintptr kind = kind_of (atomic_load_explicit (&map->words[page], memory_order_acquire));

  if (kind == KIND_EMPTY)
    return VMA_PAGE_EMPTY;
  if (kind == KIND_ZERO)
    return VMA_PAGE_ZERO;
  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
    entries[i] = i < page_length (map, page) ? vma_map_get_run (map, start + i, &end)
                                             : VMA_ENTRY_MISSING;
  return VMA_PAGE_MIXED;
}

static void
page_pack (VmaMap *map, guint32 page)
{
  DenseEntry *dense
      = pointer_of (atomic_load_explicit (&map->words[page], memory_order_relaxed));
  g_autofree VmaEntry *entries = g_new (VmaEntry, VMA_PAGE_CLUSTERS);

  dense_read (dense, entries);
  /* The clusters after a device's end take on what stands before them, to make no run of their own. */
  for (guint i = page_length (map, page); i < VMA_PAGE_CLUSTERS; i++)
    entries[i] = entries[i - 1] == VMA_ENTRY_ZERO ? VMA_ENTRY_ZERO : VMA_ENTRY_MISSING;

  guintptr word = pack_word (map, entries);
  if (word == 0)
    return;
  atomic_store_explicit (&map->words[page], word, memory_order_release);
  dense_retire (map, dense, SPARE_MAX);
}

/* The clusters of a page that are not missing. */
static guint16
count_set (VmaMap *map, guint32 page)
{
  guint64 start = (guint64) page * VMA_PAGE_CLUSTERS, stop = start + page_length (map, page), end;
  guint n = 0;

  for (guint64 cluster = start; cluster < stop; cluster = end)
    if (vma_map_get_run (map, cluster, &end) != VMA_ENTRY_MISSING)
      n += (guint) (end - cluster);
  return (guint16) n;
}

/* The page's dense form, made or brought back where there is none. */
static DenseEntry *
page_open (VmaMap *map, guint32 page)
{
  guintptr word = atomic_load_explicit (&map->words[page], memory_order_acquire);
  DenseEntry *dense;
  g_autofree VmaEntry *old = NULL;

  if (kind_of (word) == KIND_STORED) {
    page_load (map, page);
    word = atomic_load_explicit (&map->words[page], memory_order_acquire);
    map->page_set[page] = count_set (map, page);
  }
  if (kind_of (word) == KIND_DENSE)
    return pointer_of (word);

  if (word != KIND_EMPTY) {
    old = g_new (VmaEntry, VMA_PAGE_CLUSTERS);
    if (vma_map_get_page (map, page, old) == VMA_PAGE_ZERO)
      for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
        old[i] = VMA_ENTRY_ZERO;
    if (kind_of (word) == KIND_RUNS)
      g_ptr_array_add (map->retired, pointer_of (word));
  }
  /*
   * A page that is opened again gets memory of its own: a reader could be halfway through its old dense
   * page, which may be the very one that would be used again, and would not notice.
   */
  dense = word == KIND_EMPTY ? dense_reuse (map) : NULL;
  if (dense == NULL)
    dense = dense_new (map);
  if (page >= atomic_load_explicit (&map->pages_used, memory_order_relaxed))
    atomic_store_explicit (&map->pages_used, page + 1, memory_order_relaxed);
  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
    atomic_store_explicit (&dense[i], old != NULL ? old[i] : VMA_ENTRY_MISSING,
                           memory_order_release);
  atomic_store_explicit (&map->words[page], (guintptr) dense | KIND_DENSE, memory_order_release);
  return dense;
}

gboolean
vma_map_all_missing (VmaMap *map, guint64 cluster, guint n)
{
  guint64 stop = cluster + n, end;

  g_assert (stop <= map->clusters);
  while (cluster < stop) {
    guintptr word = atomic_load_explicit (&map->words[cluster / VMA_PAGE_CLUSTERS],
                                          memory_order_relaxed);
    if (kind_of (word) == KIND_DENSE) {
      const DenseEntry *dense = pointer_of (word);
      end = cluster + 1;
      if (atomic_load_explicit (&dense[cluster % VMA_PAGE_CLUSTERS], memory_order_relaxed)
          != VMA_ENTRY_MISSING)
        return FALSE;
    } else if (kind_of (word) == KIND_EMPTY)
      end = cluster - cluster % VMA_PAGE_CLUSTERS + VMA_PAGE_CLUSTERS;
    else if (vma_map_get_run (map, cluster, &end) != VMA_ENTRY_MISSING)
      return FALSE;
    cluster = end;
  }
  return TRUE;
}

void
vma_map_set (VmaMap *map, guint64 cluster, const VmaEntry *entries, guint n)
{
  g_assert (cluster + n <= map->clusters);
  while (n > 0) {
    guint32 page = (guint32) (cluster / VMA_PAGE_CLUSTERS);
    guint first = (guint) (cluster % VMA_PAGE_CLUSTERS);
    guint here = MIN (n, VMA_PAGE_CLUSTERS - first);
    DenseEntry *dense = page_open (map, page);

    for (guint i = 0; i < here; i++)
      atomic_store_explicit (&dense[first + i], entries[i], memory_order_release);
    map->page_set[page] = (guint16) (map->page_set[page] + here);
    if (map->page_set[page] == page_length (map, page))
      page_pack (map, page);
    cluster += here;
    entries += here;
    n -= here;
  }
}

void
vma_map_set_bad (VmaMap *map, guint64 cluster)
{
  g_assert (cluster < map->clusters);
  /* The page then stays open: where one cluster is bad, more may be. */
  DenseEntry *dense = page_open (map, (guint32) (cluster / VMA_PAGE_CLUSTERS));
  atomic_store_explicit (&dense[cluster % VMA_PAGE_CLUSTERS], VMA_ENTRY_BAD, memory_order_release);
}

void
vma_map_finish (VmaMap *map)
{
  /* That of vmstate, whose length nobody knows, has room for all clusters there can be. */
  guint32 used = atomic_load_explicit (&map->pages_used, memory_order_relaxed);

  for (guint32 page = 0; page < used; page++)
    if (kind_of (atomic_load_explicit (&map->words[page], memory_order_relaxed)) == KIND_DENSE)
      page_pack (map, page);
  while (map->spare->len > 0) {
    guint last = map->spare->len - 1;
    dense_retire (map, g_ptr_array_steal_index_fast (map->spare, last), 0);
    if (map->spare->len > last)
      break; /* the system does not take it back */
  }
}

void
vma_map_set_loader (VmaMap *map, VmaMapLoad load, gpointer data, GDestroyNotify destroy)
{
  map->load = load;
  map->load_data = data;
  map->load_destroy = destroy;
}

void
vma_map_set_page_zero (VmaMap *map, guint32 page)
{
  atomic_store_explicit (&map->words[page], KIND_ZERO, memory_order_relaxed);
  atomic_store_explicit (&map->pages_used, page + 1, memory_order_relaxed);
}

void
vma_map_set_page_stored (VmaMap *map, guint32 page)
{
  atomic_store_explicit (&map->words[page], KIND_STORED, memory_order_relaxed);
  atomic_store_explicit (&map->pages_used, page + 1, memory_order_relaxed);
}
