/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bit for each block of a disk, and which pages of bits were changed since they were saved.
 *
 * A bit that is set stays set: readers and writers rely on that.  Owns its memory, of which only
 * what is used counts; 32 MiB per TiB of disk at most.
 *
 * Locking: none is needed, all is atomic.  Whoever sees a bit also sees what was done before it was
 * set.
 */
#pragma once

#include <glib.h>

/* Bits in a page, as it is saved: VMA_BLOCK_SIZE bytes. */
#define VMA_BLOCK_MAP_PAGE 4096u

typedef struct VmaBlockMap VmaBlockMap;

/* NULL and VMA_ERROR_IO where memory does not suffice. */
VmaBlockMap *vma_block_map_new (guint64 blocks, GError **error);
void vma_block_map_free (VmaBlockMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaBlockMap, vma_block_map_free)

/*
 * Whether `block` is set, and where the run of such ends: in [block + 1, limit].  `block` < `limit`
 * <= the number of blocks.
 */
gboolean vma_block_map_run (VmaBlockMap *map, guint64 block, guint64 limit, guint64 *end);

/* Sets [start, end). */
void vma_block_map_set (VmaBlockMap *map, guint64 start, guint64 end);

/* Blocks that are set. */
guint64 vma_block_map_count (VmaBlockMap *map);

/*
 * Takes a page that was changed off the list, from `*page` on, and copies its bits as they are
 * saved. FALSE where there is none.
 */
gboolean vma_block_map_take_changed (VmaBlockMap *map, guint64 *page,
                                     guint8 bits[VMA_BLOCK_MAP_PAGE]);

/* Sets the bits of a page as it was saved; such behind the last block are left out.  No change. */
void vma_block_map_load (VmaBlockMap *map, guint64 page, const guint8 bits[VMA_BLOCK_MAP_PAGE]);
