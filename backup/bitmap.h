/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps: what changed since an archive was made.
 *
 * A bitmap is called "vmabackup:NAME:UUID", with the uuid of the archive that it is relative to,
 * and belongs to the node of the disk.  A backup starts the one of its own archive at its point in
 * time; if it is incremental, it stops the one of its base in the same transaction.  At the end
 * either the old one goes, or the new one is merged back into it: whatever happens in between, both
 * together have all that changed since the base.
 */
#pragma once

#include "backup/qmp.h"
#include "vma/format.h"

/* What a bitmap on the snapshot is called. */
#define VMA_BITMAP_OF_SNAPSHOT "changed"
/* Its copy for those who read the frozen disk: one that a job uses cannot be exported. */
#define VMA_BITMAP_SHOWN "shown"

char *vma_bitmap_name (const char *name, const guint8 uuid[VMA_UUID_SIZE]);

/*
 * Whether the node has this bitmap, whole and recording; if not, *why says what is wrong (static).
 */
gboolean vma_bitmap_is_usable (VmaQmp *qmp, const char *node, const char *bitmap, const char **why);

/* At the point in time: `next` begins, `old` (may be NULL) stops. */
gboolean vma_bitmap_begin (VmaQmp *qmp, const char *node, const char *old, const char *next,
                           GError **error);

/* Gives the snapshot what `old` has. */
gboolean vma_bitmap_give (VmaQmp *qmp, const char *node, const char *old, const char *snapshot,
                          GError **error);

/* Copies what the snapshot was given, before a job uses that, to VMA_BITMAP_SHOWN. */
gboolean vma_bitmap_show (VmaQmp *qmp, const char *snapshot, GError **error);

/* The archive is there: all other bitmaps of this NAME go. */
void vma_bitmap_keep (VmaQmp *qmp, const char *node, const char *name, const char *next);

/* There is no archive: `old` is what it was. */
gboolean vma_bitmap_back (VmaQmp *qmp, const char *node, const char *old, const char *next,
                          GError **error);

/* Does that for a job that died: wherever one bitmap of a NAME is stopped and one runs. */
void vma_bitmap_repair (VmaQmp *qmp, const char *node);
