/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the clusters of a point in time go, once each of them is whole: an archive (sink-writer.c),
 * or a scratch file that another sink is fed from (sink-scratch.c).
 *
 * Disks are numbered from 0.  A cluster is written once; the caller (backup/point) sees to that.
 *
 * Locking: write(), read(), written() and abort() from any number of threads at once; finish() and
 * free() by one, when no write is under way.
 */
#pragma once

#include "vma/format.h"

#include <gio/gio.h>

typedef struct VmaTargetSink VmaTargetSink;

typedef struct {
  guint disk;
  guint64 cluster, n;
  const guint8 *data; /* NULL: zeros */
  gsize size;         /* of the data: n clusters, of which a disk's last may be short */
  gboolean hurry;     /* a guest waits for this one */
} VmaTargetClusters;

typedef struct {
  /* The data are not kept.  May wait for the medium, but not behind abort(). */
  gboolean (*write) (VmaTargetSink *sink, const VmaTargetClusters *clusters, GError **error);
  /* One cluster that was written; `buffer` takes 64 KiB.  NULL where nothing can be read back. */
  gboolean (*read) (VmaTargetSink *sink, guint disk, guint64 cluster, void *buffer, GError **error);
  /* Grows as long as the medium takes something: tells slow from hung.  Takes no lock. */
  guint64 (*written) (VmaTargetSink *sink);
  /* Bytes that are still to go to the sink below. */
  guint64 (*waiting) (VmaTargetSink *sink);
  /* All was written: passes on what waits, and makes it last. */
  gboolean (*finish) (VmaTargetSink *sink, GCancellable *cancellable, GError **error);
  /* Ends all waiting with an error, now and from now on; what was written can still be read. */
  void (*abort) (VmaTargetSink *sink);
  /* FALSE where a thread hangs in the medium for good: then nothing was freed. */
  gboolean (*free) (VmaTargetSink *sink);
} VmaTargetSinkOps;

struct VmaTargetSink {
  const VmaTargetSinkOps *ops;
};

/*
 * Into the archive, whose streams are registered; streams[disk] is a disk's.  The writer stays the
 * caller's, and must outlive the sink.  finish() leaves the archive without its name: the caller
 * completes it.
 */
typedef struct VmaWriter VmaWriter;
VmaTargetSink *vma_writer_sink_new (VmaWriter *writer, const guint8 *streams, guint n,
                                    gboolean readable);

typedef struct {
  const char *path;     /* a folder, or a name in the folder where the unnamed file is made */
  guint64 size;         /* at most; 0: no limit */
  const guint64 *sizes; /* of the disks */
  guint n_disks;
  gboolean fail_full; /* rather than to wait until there is room */
  gboolean keep;      /* what went below cannot be read there: all goes through here, and stays */
  /* What goes wrong behind everybody's back. */
  void (*failed) (gpointer data, const GError *error);
  gpointer data;
} VmaScratchOptions;

/* `below` (NULL: none) becomes the scratch sink's. */
VmaTargetSink *vma_scratch_sink_new (const VmaScratchOptions *options, VmaTargetSink *below,
                                     GError **error);
