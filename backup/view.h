/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The view: a read-only mount of the disks as they were at the point in time, and of the configs.
 *
 * What was collected comes from the sink, at once.  The rest is read through from QEMU by threads
 * of this module: none that serves a mount waits for QEMU, which may be waiting for one of our
 * mounts. After each read-through the map is asked again, and what was collected meanwhile is the
 * answer.
 *
 * A read waits, and can be interrupted: before begin(), and where there is nothing to read through
 * from. After a failure what was not collected is an error.
 *
 * What was read never changes, so the kernel keeps it.
 *
 * Owns its mount, its threads, and the connections to QEMU.
 *
 * Locking: new and free by one thread; the rest by any.
 */
#pragma once

#include "backup/base.h"
#include "backup/point.h"
#include "vma/header.h"

typedef struct VmaView VmaView;

/* `header` has the disks, in their order (a vmstate stream is not shown), and the configs. */
VmaView *vma_view_new (VmaPoint *point, const VmaHeader *header, const char *mountpoint,
                       GError **error);
/* FALSE where threads are stuck for good: then nothing that they use may be freed. */
gboolean vma_view_free (VmaView *view);

/*
 * uris[disk], see target.h; an entry may be NULL.  bitmaps[disk], where it is not NULL, tells what of the
 * disk did not change since `base`, and is read from there.
 */
void vma_view_begin (VmaView *view, const char *const *uris, const char *const *bitmaps,
                     VmaBase *base);
void vma_view_end_read_through (VmaView *view, guint disk);

guint64 vma_view_read_through_bytes (VmaView *view, guint disk);
