/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads clusters of a disk's frozen image from QEMU, over NBD, as long as they were not collected.
 *
 * A cluster at a time, several under way: QEMU 7.2 gives the live data of a cluster if a read of
 * its snapshot begins in another one that was copied before.  What comes may be outdated by the
 * time it is here: the caller asks the map again (backup/point.h).
 *
 * Owns some connections, made when they are needed.
 *
 * Locking: read() from any thread that may wait for QEMU; end() from any; new and free by one.
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>

typedef struct VmaThrough VmaThrough;

/*
 * With the name of a `bitmap` that is exported with the disk, only what is dirty in it can be read; what is
 * not did not change since the base.  NULL: all of the disk.
 */
VmaThrough *vma_through_new (const char *uri, guint64 size, const char *bitmap);
void vma_through_free (VmaThrough *through);

/*
 * Reads clusters[0..n) to buffer + i * 64 KiB, and says in got[] which of them came.  FALSE where
 * one did not; `error` has why.  Gives up when *interrupted.
 */
gboolean vma_through_read (VmaThrough *through, const guint64 *clusters, guint n, guint8 *buffer,
                           gboolean *got, const atomic_bool *interrupted, GError **error);

/*
 * Sees to it that the bitmap is known, which takes a while the first time: what of clusters[0..n) is to be
 * read from here.  FALSE where it cannot be had.
 */
gboolean vma_through_find_dirty (VmaThrough *through, const guint64 *clusters, guint n,
                                 gboolean *dirty, const atomic_bool *interrupted, GError **error);

/* No more reads; those under way are given up and waited for. */
void vma_through_end (VmaThrough *through);
gboolean vma_through_has_ended (VmaThrough *through);

guint64 vma_through_bytes (VmaThrough *through);
