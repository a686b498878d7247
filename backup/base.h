/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The archive that an incremental backup is made on: it gives the clusters that did not change.
 *
 * Owns the open archive, whose index is built while the backup runs.
 *
 * Locking: read() from any thread; all else from one.
 */
#pragma once

#include "backup/point.h"

typedef struct VmaBase VmaBase;

/* Fails where it lacks a disk of these names and sizes.  wanted[disk] FALSE: not asked for. */
VmaBase *vma_base_new (const char *path, const char *const *names, const guint64 *sizes,
                       const gboolean *wanted, guint n_disks, GError **error);
void vma_base_free (VmaBase *base);

/* Brings all that is open of the disks to the point, which is sealed. */
gboolean vma_base_fill (VmaBase *base, VmaPoint *point, GCancellable *cancellable, GError **error);

/* Whether a disk's unchanged clusters come from it; `base` may be NULL. */
gboolean vma_base_has (VmaBase *base, guint disk);

/* One cluster of a disk that it has; `buffer` takes 64 KiB.  Waits for the index. */
gboolean vma_base_read (VmaBase *base, guint disk, guint64 cluster, void *buffer,
                        GCancellable *cancellable, GError **error);

/* The uuid of the archive. */
const guint8 *vma_base_uuid (VmaBase *base);
