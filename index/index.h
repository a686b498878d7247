/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The index of an archive: a cluster map per device, what is damaged, and how far it has got.
 *
 * Owns the maps, the list of damage and the progress.  It is filled by one thread (a scanner, or the
 * loader of a saved index) and read by any number.
 *
 * Locking: look-ups take no lock.  Damage and state have a lock of their own, taken inside.  The
 * functions under "filling" belong to the one thread that fills.
 *
 * States: BUILDING, then for good COMPLETE or FAILED.  While it is BUILDING a missing cluster may
 * still turn up; afterwards it will not.
 */
#pragma once

#include "index/map.h"
#include "vma/extent.h"
#include "vma/header.h"

#include <gio/gio.h>

typedef struct VmaIndex VmaIndex;

typedef enum {
  VMA_INDEX_BUILDING,
  VMA_INDEX_COMPLETE,
  VMA_INDEX_FAILED,
} VmaIndexState;

/* Counts of one device.  Clusters unless the name says otherwise. */
typedef struct {
  guint64 data;     /* listed with at least one block */
  guint64 zero;     /* listed as all zero */
  guint64 bad;      /* listed, but not to be trusted */
  guint64 blocks;   /* stored 4 KiB blocks */
  guint64 in_order; /* listed right after their predecessor */
  guint64 next;     /* the cluster that would continue the order; for vmstate the clusters there are */
} VmaDeviceCounts;

/* Counts of the archive. */
typedef struct {
  guint64 extents;
  guint64 bare_extents; /* headers without data */
  guint64 end;          /* offset behind the last extent */
} VmaIndexCounts;

/* A place in the archive that could not be used. */
typedef struct {
  guint64 start, end; /* byte offsets */
  char *reason;
} VmaDamage;

/* An empty index that is BUILDING.  NULL and an error where memory does not suffice. */
VmaIndex *vma_index_new (const VmaHeader *header, GError **error);
void vma_index_free (VmaIndex *index);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaIndex, vma_index_free)

/* --- reading ----------------------------------------------------------------------------------- */

VmaIndexState vma_index_state (VmaIndex *index);

/* The error that made it FAILED, or NULL.  The caller frees it. */
GError *vma_index_dup_failure (VmaIndex *index);

/*
 * The entry of a cluster, and up to where its run goes on (see vma_map_get_run()).  *pending is set
 * where the answer is VMA_ENTRY_MISSING only because the index is not complete.  O(1).
 */
VmaEntry vma_index_lookup (VmaIndex *index, guint8 device, guint64 cluster, guint64 *end,
                           gboolean *pending);

VmaMap *vma_index_map (VmaIndex *index, guint8 device);

/* Consistent for a finished index; a snapshot while it is BUILDING. */
void vma_index_get_counts (VmaIndex *index, VmaIndexCounts *counts);
void vma_index_get_device_counts (VmaIndex *index, guint8 device, VmaDeviceCounts *counts);

/* Clusters of a device that are in no extent; for vmstate, whose length nobody knows, the gaps. */
guint64 vma_index_missing (VmaIndex *index, guint8 device);

/* How far the scan has come in the archive, bytes. */
guint64 vma_index_position (VmaIndex *index);

/* A copy of the damage so far: VmaDamage *, ascending; the caller unrefs the array. */
GPtrArray *vma_index_dup_damage (VmaIndex *index);
guint vma_index_damage_count (VmaIndex *index);

/* Bytes of memory the maps take. */
gsize vma_index_memory (VmaIndex *index);

/*
 * Waits until something was added since `*seen` (a number that starts as 0 and is the caller's to keep), the
 * index is finished, or `timeout_ms` have passed.  Returns whether the index is finished.
 */
gboolean vma_index_wait (VmaIndex *index, guint64 *seen, guint timeout_ms);

/* Makes all waiting callers of vma_index_wait() return once. */
void vma_index_wake (VmaIndex *index);

/* Waits for the end of BUILDING; FALSE with VMA_ERROR_CANCELLED, or the failure. */
gboolean vma_index_wait_finished (VmaIndex *index, GCancellable *cancellable, GError **error);

/* --- filling ----------------------------------------------------------------------------------- */

/*
 * Whether the extent fits the archive: known devices, clusters inside them and not listed before,
 * nothing stored behind a device's end, vmstate in order.  VMA_ERROR_DAMAGED with the reason.
 */
gboolean vma_index_check_extent (VmaIndex *index, const VmaExtent *extent, GError **error);

/* Salvage: vmstate may go on behind a gap; without this only the very next cluster is in order. */
void vma_index_allow_vmstate_gaps (VmaIndex *index);

/* Whether the maps still are of a reasonable size: at most half of the machine's memory. */
gboolean vma_index_check_memory (VmaIndex *index, GError **error);

/* Adds an extent that passed the check; `offset` is its header's. */
void vma_index_add_extent (VmaIndex *index, const VmaExtent *extent, guint64 offset);

/*
 * Adds what is sound of an extent that did not pass the check, or whose data are cut off at archive
 * offset `end` (0: none of its data can be trusted).  The other clusters that it lists become
 * VMA_ENTRY_BAD, also where an earlier extent had listed them.
 */
void vma_index_add_broken_extent (VmaIndex *index, const VmaExtent *extent, guint64 offset,
                                  guint64 end);

void vma_index_add_damage (VmaIndex *index, guint64 start, guint64 end, const char *reason);

/*
 * A place could not be read, which may be otherwise the next time: what is missing for that is not to be
 * remembered for longer than this index lives.
 */
void vma_index_note_unread (VmaIndex *index);
gboolean vma_index_may_be_saved (VmaIndex *index);

void vma_index_set_position (VmaIndex *index, guint64 position);

/*
 * Ends BUILDING.  With `strict`, missing clusters make it FAILED with VMA_ERROR_MISSING, which is
 * also returned.
 */
gboolean vma_index_complete (VmaIndex *index, gboolean strict, GError **error);

/* Before the index is filled: what is missing of this device is found elsewhere, and is no failure. */
void vma_index_allow_missing (VmaIndex *index, guint8 device);

void vma_index_fail (VmaIndex *index, const GError *failure);

/* For the loader of a saved index: all counts at once, before vma_index_complete(). */
void vma_index_set_counts (VmaIndex *index, const VmaIndexCounts *counts);
void vma_index_set_device_counts (VmaIndex *index, guint8 device, const VmaDeviceCounts *counts);
