/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where extents go while they are filled: straight to their place in a file (sink-file.c), or into
 * buffers that leave in order, for pipes and compressors (sink-stream.c).
 *
 * An extent's life: open() when its offset is known; put() for pieces of its data, from any number
 * of threads; seal() once, by one thread, when all data are there and the header is made.
 */
#pragma once

#include "vma/format.h"
#include "writer/output.h"
#include "writer/writer.h"

typedef struct VmaSink VmaSink;

/* What the sink keeps of an extent; a member of the writer's own structure. */
typedef struct VmaSinkExtent VmaSinkExtent;
struct VmaSinkExtent {
  guint64 offset; /* in the archive; set by the writer before open() */
  gpointer own;   /* whatever the sink wants to remember */
};

typedef struct {
  /* The archive's header, before any extent; `header` stays valid. */
  gboolean (*begin) (VmaSink *sink, GBytes *header, GError **error);
  /* FALSE where there is no room now: try again when room() was called.  Called in the order of
   * offsets, never by two threads at once. */
  gboolean (*open) (VmaSink *sink, VmaSinkExtent *extent);
  /* `iov` is used up; `at` counts from the extent's start. */
  gboolean (*put) (VmaSink *sink, VmaSinkExtent *extent, struct iovec *iov, int n, guint32 at,
                   GError **error);
  /* The sink is done with `extent` when this returns. */
  gboolean (*seal) (VmaSink *sink, VmaSinkExtent *extent,
                    const guint8 header[VMA_EXTENT_HEADER_SIZE], guint32 size, GError **error);
  /* All is sealed. */
  gboolean (*finish) (VmaSink *sink, GError **error);
  guint64 (*written) (VmaSink *sink);
  void (*free) (VmaSink *sink);
} VmaSinkOps;

struct VmaSink {
  const VmaSinkOps *ops;
  /* Set by the writer: called, without any lock of the sink, when there is room again. */
  void (*room) (gpointer data);
  gpointer room_data;
};

VmaSink *vma_file_sink_new (VmaOutput *output);
VmaSink *vma_stream_sink_new (VmaOutput *output, const VmaWriterOptions *options, GError **error);
