/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second reader of archives, to compare ours with: slow, in memory, from vma(5) alone.  It shares
 * no code with vma/ and index/, so that a mistake of theirs is not one of its own.
 *
 * The archive's header must be sound; it is not what this is about.
 */
#pragma once

#include <glib.h>

typedef struct {
  guint device;
  guint32 cluster;
  guint16 mask;
  gsize data; /* of its first stored block, in the archive */
} SlowSlot;

typedef struct {
  const guint8 *bytes;
  gsize size;
  gsize first;          /* of the first extent */
  guint64 sizes[256];   /* of the devices; 0: there is none */
  guint vmstate;        /* its id; 0: none */
  gboolean may_miss;    /* clusters may be left out, as in a delta */
  GArray *slots;        /* SlowSlot; by slow_read() */
} SlowArchive;

void slow_open (SlowArchive *archive, const guint8 *bytes, gsize size, gboolean may_miss);
void slow_close (SlowArchive *archive);

/* Goes along the chain; whether nothing is wrong with it.  `slots` has what came before that. */
gboolean slow_read (SlowArchive *archive);

/* Takes as a slot whatever a header with a right sum lists, wherever it stands. */
void slow_collect (SlowArchive *archive);

/* The clusters of a device: of vmstate, as many as are listed. */
guint64 slow_clusters (const SlowArchive *archive, guint device);

/* The n-th slot of this cluster, or NULL; and what it says that the cluster holds.  FALSE: its data
 * are not all in the file. */
const SlowSlot *slow_find (const SlowArchive *archive, guint device, guint64 cluster, guint n);
gboolean slow_content (const SlowArchive *archive, const SlowSlot *slot, guint8 content[65536]);
