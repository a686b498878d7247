/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cluster map of one device: cluster number -> entry (offset in the archive, block mask).
 *
 * Owns the pages.  A directory word per page (8 bytes for 4096 clusters) is empty, "all zero", a
 * dense page, a page of runs, or "stored": to be loaded from the saved index on first touch.
 *
 * Memory: 8 bytes a cluster for a page whose clusters stand in no order, 10 bytes a run where they
 * do (0.17 a cluster in a full extent), nothing for empty and all-zero pages; and 10 bytes for each
 * 4096 clusters of directory.
 *
 * Locking: one thread at a time may set; any number may get at the same time, without locks.  A page
 * that is complete is replaced by its packed form; the dense page is then used again for another
 * place, and a reader notices because the directory word has changed.  Dense pages are freed only
 * with the map.
 */
#pragma once

#include "index/page.h"

typedef struct VmaMap VmaMap;

/*
 * Fills entries[0..VMA_PAGE_CLUSTERS) of a stored page.  Any thread; may be called twice for one
 * page.  FALSE where it cannot be had: its clusters are then VMA_ENTRY_LOST for good.
 */
typedef gboolean (*VmaMapLoad) (gpointer data, guint32 page, VmaEntry *entries);

/* A map for clusters 0..clusters-1, all missing.  NULL where there is not enough memory. */
VmaMap *vma_map_new (guint64 clusters);
void vma_map_free (VmaMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaMap, vma_map_free)

guint64 vma_map_clusters (const VmaMap *map);
guint32 vma_map_pages (const VmaMap *map);

/* O(1) (dense) or O(log runs of the page).  cluster < vma_map_clusters(). */
VmaEntry vma_map_get (VmaMap *map, guint64 cluster);

/*
 * As vma_map_get(); clusters up to, not including, *end are known to be of the same kind and, where
 * they have data, to have the same mask and to follow one another in the archive.  *end may stop
 * short of the real end.
 */
VmaEntry vma_map_get_run (VmaMap *map, guint64 cluster, guint64 *end);

/* Whether clusters cluster..cluster+n-1 are all missing.  The writer only. */
gboolean vma_map_all_missing (VmaMap *map, guint64 cluster, guint n);

/* Sets n clusters that are missing so far.  The writer only. */
void vma_map_set (VmaMap *map, guint64 cluster, const VmaEntry *entries, guint n);

/* Makes a cluster VMA_ENTRY_BAD, whatever it was.  The writer only. */
void vma_map_set_bad (VmaMap *map, guint64 cluster);

/* Packs what is still dense, and gives back spare memory.  The writer only, when it has set its last. */
void vma_map_finish (VmaMap *map);

/* Declares pages as found in a saved index, before any reader exists. */
void vma_map_set_loader (VmaMap *map, VmaMapLoad load, gpointer data, GDestroyNotify destroy);
void vma_map_set_page_zero (VmaMap *map, guint32 page);
void vma_map_set_page_stored (VmaMap *map, guint32 page);

typedef enum {
  VMA_PAGE_EMPTY,
  VMA_PAGE_ZERO,
  VMA_PAGE_MIXED,
} VmaPageKind;

/* What a page holds; entries[0..VMA_PAGE_CLUSTERS) are filled for VMA_PAGE_MIXED only. */
VmaPageKind vma_map_get_page (VmaMap *map, guint32 page, VmaEntry *entries);

/* Bytes of memory in use for pages and directory (what was never touched of it does not count). */
gsize vma_map_memory (const VmaMap *map);

/* The part of it that pages take. */
gsize vma_map_page_memory (const VmaMap *map);
