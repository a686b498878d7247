/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of a point in time: what of each disk has been collected, and the clusters that are being
 * put together from pieces.
 *
 * QEMU delivers a disk by two ways at once, and both deliver the same point in time.  So the first
 * write of a place wins, and all that comes later is dropped; and the pieces of one cluster may come by
 * either way.  They may have any size: the kernel cuts a request where a page of its sender's memory
 * ends.  Whole clusters go to the sink.
 *
 * A cluster is open, then taken (a thread brings it to the sink), then collected.
 *
 * Never an error for who delivers: what goes wrong makes the point fail, once, and from then on all
 * is dropped.  A point that has failed still gives what it has collected.
 *
 * Owns the map and the pieces; the sink is the caller's.  Memory: 3 bits a cluster, 72 KiB for each
 * cluster in pieces.
 *
 * Locking: any function but free from any thread.  A lock a disk, never held while the sink works.
 */
#pragma once

#include "backup/sink.h"

typedef struct VmaPoint VmaPoint;

typedef struct {
  const guint64 *sizes;
  const char *const *names; /* for messages */
  guint n_disks;
  VmaTargetSink *sink;
  /* The first failure, whoever told of it; once; no lock is held. */
  void (*failed) (gpointer data, const GError *error);
  gpointer data;
} VmaPointOptions;

VmaPoint *vma_point_new (const VmaPointOptions *options, GError **error);
void vma_point_free (VmaPoint *point);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaPoint, vma_point_free)

/*
 * QEMU writes: data[0..size) at `offset`, NULL for zeros.  `hook`: a guest's write waits for it.
 * taken() (NULL: nobody) is called when all of it is taken, before it is stored: from then on the same
 * place may be written to and read anew, and who wrote need not wait any longer.  It is not called
 * where the point has failed before.
 */
void vma_point_write (VmaPoint *point, guint disk, gboolean hook, guint64 offset,
                      const guint8 *data, guint64 size, void (*taken) (gpointer data),
                      gpointer taken_data);

/* TRUE for the first failure only. */
gboolean vma_point_fail (VmaPoint *point, const GError *error);
gboolean vma_point_has_failed (VmaPoint *point, GError **error);

/*
 * Nothing more is taken: what comes now is dropped, and this waits for what is under way.  From
 * here on vma_point_fill() brings what is open.
 */
void vma_point_seal (VmaPoint *point);

/* n open clusters from another place than QEMU, all inside the disk.  Behind seal(); one thread. */
gboolean vma_point_fill (VmaPoint *point, guint disk, guint64 cluster, guint64 n,
                         const guint8 *data, gsize size, GError **error);

/* The first open cluster at or behind `cluster`, and how many; FALSE where there is none. */
gboolean vma_point_next_open (VmaPoint *point, guint disk, guint64 *cluster, guint64 *n);

/* Whether all of [offset, offset + size) is collected. */
gboolean vma_point_covers (VmaPoint *point, guint disk, guint64 offset, guint64 size);

/*
 * A collected cluster; one that is taken is waited for.  1; 0 where it is open; -1 on an error: the
 * point has failed before it was collected, or it cannot be read back.  `buffer` takes 64 KiB.
 */
int vma_point_read (VmaPoint *point, guint disk, guint64 cluster, void *buffer, GError **error);

/* Puts the pieces of an open cluster that are there over `buffer`. */
void vma_point_overlay (VmaPoint *point, guint disk, guint64 cluster, guint8 *buffer);

/*
 * SEEK_DATA and SEEK_HOLE: holes are collected zero clusters, all else counts as data.  The disk's
 * size where there is none.
 */
guint64 vma_point_seek (VmaPoint *point, guint disk, guint64 offset, gboolean data);

/* Bytes collected and, of these, in zero clusters. */
void vma_point_get_progress (VmaPoint *point, guint disk, guint64 *collected, guint64 *zero);
guint64 vma_point_missing (VmaPoint *point, guint disk); /* clusters that are not collected */
