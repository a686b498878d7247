/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which place of a scratch file has which cluster, and which places are free.  Pure; the caller
 * locks.
 *
 * Places are numbered from 1; 0 is none.  Memory: 4 bytes a cluster, in pages of 4096 clusters that
 * are made when they are needed, and 4 bytes a free place.
 */
#pragma once

#include <glib.h>

typedef struct VmaSlots VmaSlots;

/* At most `max` places at a time.  clusters[disk] is the size of a disk. */
VmaSlots *vma_slots_new (const guint64 *clusters, guint n_disks, guint32 max);
void vma_slots_free (VmaSlots *slots);

/* A place for whoever wants it, or 0: full. */
guint32 vma_slots_take (VmaSlots *slots);
void vma_slots_give_back (VmaSlots *slots, guint32 slot);

/* There is room for no more than what is taken now. */
void vma_slots_limit (VmaSlots *slots);

/* The place of a cluster; setting it to 0 does not give the place back. */
guint32 vma_slots_get (const VmaSlots *slots, guint disk, guint64 cluster);
void vma_slots_set (VmaSlots *slots, guint disk, guint64 cluster, guint32 slot);
