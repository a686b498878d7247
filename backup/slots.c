/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/slots.h"

#define PAGE 4096u

struct VmaSlots {
  guint n_disks;
  guint32 ***pages; /* of each disk */
  guint64 *n_pages;
  guint32 max, used; /* places that exist: used of them were given out once */
  GArray *returned;  /* guint32; the last one is taken first: it is in the page cache */
};

VmaSlots *
vma_slots_new (const guint64 *clusters, guint n_disks, guint32 max)
{
  VmaSlots *slots = g_new0 (VmaSlots, 1);

  slots->n_disks = n_disks;
  slots->max = max;
  slots->pages = g_new0 (guint32 **, n_disks + 1);
  slots->n_pages = g_new0 (guint64, n_disks + 1);
  slots->returned = g_array_new (FALSE, FALSE, sizeof (guint32));
  for (guint i = 0; i < n_disks; i++) {
    slots->n_pages[i] = clusters[i] / PAGE + 1;
    slots->pages[i] = g_new0 (guint32 *, slots->n_pages[i]);
  }
  return slots;
}

void
vma_slots_free (VmaSlots *slots)
{
  for (guint i = 0; i < slots->n_disks; i++) {
    for (guint64 page = 0; page < slots->n_pages[i]; page++)
      g_free (slots->pages[i][page]);
    g_free (slots->pages[i]);
  }
  g_free (slots->pages);
  g_free (slots->n_pages);
  g_array_unref (slots->returned);
  g_free (slots);
}

guint32
vma_slots_take (VmaSlots *slots)
{
  if (slots->returned->len > 0) {
    guint32 slot = g_array_index (slots->returned, guint32, slots->returned->len - 1);
    g_array_set_size (slots->returned, slots->returned->len - 1);
    return slot;
  }
  return slots->used < slots->max ? ++slots->used : 0;
}

void
vma_slots_give_back (VmaSlots *slots, guint32 slot)
{
  g_array_append_val (slots->returned, slot);
}

void
vma_slots_limit (VmaSlots *slots)
{
  slots->max = slots->used;
}

guint32
vma_slots_get (const VmaSlots *slots, guint disk, guint64 cluster)
{
  const guint32 *page = slots->pages[disk][cluster / PAGE];

  return page != NULL ? page[cluster % PAGE] : 0;
}

void
vma_slots_set (VmaSlots *slots, guint disk, guint64 cluster, guint32 slot)
{
  guint32 **page = &slots->pages[disk][cluster / PAGE];

  if (*page == NULL)
    *page = g_new0 (guint32, PAGE);
  (*page)[cluster % PAGE] = slot;
}
