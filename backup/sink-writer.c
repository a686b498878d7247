/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/sink.h"

#include "vma/error.h"
#include "writer/writer.h"

typedef struct {
  VmaTargetSink base;
  VmaWriter *writer;
  guint8 *streams; /* of the disks */
  guint n;
} WriterSink;

static gboolean
writer_write (VmaTargetSink *base, const VmaTargetClusters *clusters, GError **error)
{
  WriterSink *sink = (WriterSink *) base;

  return vma_writer_dump (sink->writer, sink->streams[clusters->disk], clusters->cluster,
                          clusters->n, clusters->data, error);
}

static gboolean
writer_read (VmaTargetSink *base, guint disk, guint64 cluster, void *buffer, GError **error)
{
  WriterSink *sink = (WriterSink *) base;
  int found = vma_writer_read_cluster (sink->writer, sink->streams[disk], cluster, buffer, error);

  if (found == 0)
    g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING,
                 "cluster %" G_GUINT64_FORMAT " of disk %u was not written", cluster, disk);
  return found > 0;
}

static guint64
writer_written (VmaTargetSink *base)
{
  return vma_writer_written_bytes (((WriterSink *) base)->writer);
}

static guint64
writer_waiting (VmaTargetSink *base G_GNUC_UNUSED)
{
  return 0;
}

static gboolean
writer_finish (VmaTargetSink *base, GCancellable *cancellable G_GNUC_UNUSED, GError **error)
{
  WriterSink *sink = (WriterSink *) base;

  for (guint i = 0; i < sink->n; i++)
    if (!vma_writer_close_stream (sink->writer, sink->streams[i], error))
      return FALSE;
  return TRUE;
}

static void
writer_abort (VmaTargetSink *base)
{
  vma_writer_cancel (((WriterSink *) base)->writer, FALSE);
}

static gboolean
writer_free (VmaTargetSink *base)
{
  WriterSink *sink = (WriterSink *) base;

  g_free (sink->streams);
  g_free (sink);
  return TRUE;
}

static const VmaTargetSinkOps writer_ops = {
  .write = writer_write,
  .read = writer_read,
  .written = writer_written,
  .waiting = writer_waiting,
  .finish = writer_finish,
  .abort = writer_abort,
  .free = writer_free,
};

static const VmaTargetSinkOps blind_ops = {
  .write = writer_write,
  .written = writer_written,
  .waiting = writer_waiting,
  .finish = writer_finish,
  .abort = writer_abort,
  .free = writer_free,
};

VmaTargetSink *
vma_writer_sink_new (VmaWriter *writer, const guint8 *streams, guint n, gboolean readable)
{
  WriterSink *sink = g_new0 (WriterSink, 1);

  sink->base.ops = readable ? &writer_ops : &blind_ops;
  sink->writer = writer;
  sink->streams = g_memdup2 (streams, n);
  sink->n = n;
  return &sink->base;
}
