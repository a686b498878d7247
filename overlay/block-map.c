/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/block-map.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define PAGE_WORDS (VMA_BLOCK_MAP_PAGE / 8)

struct VmaBlockMap {
  guint64 blocks;
  guint64 pages;
  gsize size, changed_size; /* bytes */
  _Atomic guint64 *words;   /* from mmap: only pages that are used take memory */
  _Atomic guint64 *changed; /* a bit per page */
  _Atomic guint64 count;
};

static void *
map_memory (gsize size, GError **error)
{
  void *memory = mmap (NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (memory != MAP_FAILED)
    return memory;
  vma_set_errno_error (error, errno, "no memory for the map of an overlay");
  return NULL;
}

VmaBlockMap *
vma_block_map_new (guint64 blocks, GError **error)
{
  g_autoptr (VmaBlockMap) map = g_new0 (VmaBlockMap, 1);
  guint64 per_page = 8 * VMA_BLOCK_MAP_PAGE;

  map->blocks = blocks;
  map->pages = MAX (1, blocks / per_page + (blocks % per_page != 0));
  if (map->pages > G_MAXSIZE / 4 / VMA_BLOCK_MAP_PAGE) {
    vma_set_errno_error (error, ENOMEM, "no memory for the map of an overlay");
    return NULL;
  }
  map->size = (gsize)map->pages * VMA_BLOCK_MAP_PAGE;
  map->changed_size = ((gsize)map->pages + 63) / 64 * 8;
  map->words = map_memory (map->size, error);
  if (map->words == NULL)
    return NULL;
  map->changed = map_memory (map->changed_size, error);
  return map->changed != NULL ? g_steal_pointer (&map) : NULL;
}

void
vma_block_map_free (VmaBlockMap *map)
{
  if (map->words != NULL)
    munmap (map->words, map->size);
  if (map->changed != NULL)
    munmap (map->changed, map->changed_size);
  g_free (map);
}

gboolean
vma_block_map_run (VmaBlockMap *map, guint64 block, guint64 limit, guint64 *end)
{
  guint64 word = block / 64;
  guint64 bits = atomic_load_explicit (&map->words[word], memory_order_acquire);
  gboolean set = (bits >> (block % 64) & 1) != 0;

  /* Ones where the run is over. */
  bits = (set ? ~bits : bits) & (G_MAXUINT64 << (block % 64));
  while (bits == 0 && ++word * 64 < limit) {
    bits = atomic_load_explicit (&map->words[word], memory_order_acquire);
    bits = set ? ~bits : bits;
  }
  *end = bits == 0 ? limit : MIN (limit, word * 64 + (guint)__builtin_ctzll (bits));
  return set;
}

static void
add_bits (VmaBlockMap *map, guint64 word, guint64 bits)
{
  guint64 before = atomic_load_explicit (&map->words[word], memory_order_relaxed);

  if ((before & bits) == bits)
    return;
  before = atomic_fetch_or_explicit (&map->words[word], bits, memory_order_acq_rel);
  atomic_fetch_add_explicit (&map->count, (guint64)__builtin_popcountll (bits & ~before),
                             memory_order_relaxed);
}

void
vma_block_map_set (VmaBlockMap *map, guint64 start, guint64 end)
{
  for (guint64 at = start; at < end;) {
    guint64 word = at / 64, next = MIN (end, (word + 1) * 64);
    guint64 bits = (next - at == 64 ? G_MAXUINT64 : (G_GUINT64_CONSTANT (1) << (next - at)) - 1)
                   << (at % 64);
    add_bits (map, word, bits);
    at = next;
  }
  /* After the bits: who takes a page off the list finds them in it. */
  for (guint64 page = start / 8 / VMA_BLOCK_MAP_PAGE;
       start < end && page <= (end - 1) / 8 / VMA_BLOCK_MAP_PAGE; page++)
    atomic_fetch_or_explicit (&map->changed[page / 64], G_GUINT64_CONSTANT (1) << (page % 64),
                              memory_order_release);
}

guint64
vma_block_map_count (VmaBlockMap *map)
{
  return atomic_load_explicit (&map->count, memory_order_relaxed);
}

static void
copy_page (VmaBlockMap *map, guint64 page, guint8 bits[VMA_BLOCK_MAP_PAGE])
{
  for (guint i = 0; i < PAGE_WORDS; i++)
    vma_put_le64 (bits + 8 * i,
                  atomic_load_explicit (&map->words[page * PAGE_WORDS + i], memory_order_acquire));
}

gboolean
vma_block_map_take_changed (VmaBlockMap *map, guint64 *page, guint8 bits[VMA_BLOCK_MAP_PAGE])
{
  for (guint64 at = *page; at < map->pages;) {
    _Atomic guint64 *word = &map->changed[at / 64];
    guint64 left = atomic_load_explicit (word, memory_order_relaxed) >> (at % 64);
    if (left == 0) {
      at = (at / 64 + 1) * 64;
      continue;
    }
    at += (guint)__builtin_ctzll (left);
    atomic_fetch_and_explicit (word, ~(G_GUINT64_CONSTANT (1) << (at % 64)), memory_order_acq_rel);
    copy_page (map, at, bits);
    *page = at;
    return TRUE;
  }
  return FALSE;
}

void
vma_block_map_load (VmaBlockMap *map, guint64 page, const guint8 bits[VMA_BLOCK_MAP_PAGE])
{
  for (guint i = 0; i < PAGE_WORDS; i++) {
    guint64 word = page * PAGE_WORDS + i, value = vma_get_le64 (bits + 8 * i);
    if (word * 64 + 64 > map->blocks)
      value &= word * 64 >= map->blocks ? 0
                                        : (G_GUINT64_CONSTANT (1) << (map->blocks - word * 64)) - 1;
    if (value != 0)
      add_bits (map, word, value);
  }
}
