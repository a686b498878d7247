/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents straight into a file: data go from the caller's buffer to their place, by whichever thread
 * brings them.  The archive's header comes last: until then the file does not look like an archive.
 */
#include "writer/sink.h"

#include <stdatomic.h>

typedef struct {
  VmaSink base;
  VmaOutput *output;
  GBytes *header;
  _Atomic guint64 written;
} FileSink;

static gboolean
file_begin (VmaSink *base, GBytes *header, GError **error G_GNUC_UNUSED)
{
  ((FileSink *) base)->header = g_bytes_ref (header);
  return TRUE;
}

static gboolean
file_open (VmaSink *base G_GNUC_UNUSED, VmaSinkExtent *extent G_GNUC_UNUSED)
{
  return TRUE;
}

static gboolean
write_at (FileSink *sink, struct iovec *iov, int n, guint64 offset, GError **error)
{
  for (int i = 0; i < n; i++)
    atomic_fetch_add_explicit (&sink->written, iov[i].iov_len, memory_order_relaxed);
  return vma_output_write_at (sink->output, iov, n, offset, error);
}

static gboolean
file_put (VmaSink *base, VmaSinkExtent *extent, struct iovec *iov, int n, guint32 at,
          GError **error)
{
  return write_at ((FileSink *) base, iov, n, extent->offset + at, error);
}

static gboolean
file_seal (VmaSink *base, VmaSinkExtent *extent, const guint8 header[VMA_EXTENT_HEADER_SIZE],
           guint32 size G_GNUC_UNUSED, GError **error)
{
  struct iovec iov = { .iov_base = (void *) header, .iov_len = VMA_EXTENT_HEADER_SIZE };

  return write_at ((FileSink *) base, &iov, 1, extent->offset, error);
}

static gboolean
file_finish (VmaSink *base, GError **error)
{
  FileSink *sink = (FileSink *) base;
  gsize size;
  struct iovec iov = { .iov_base = (void *) g_bytes_get_data (sink->header, &size) };

  iov.iov_len = size;
  return write_at (sink, &iov, 1, 0, error);
}

static guint64
file_written (VmaSink *base)
{
  return atomic_load_explicit (&((FileSink *) base)->written, memory_order_relaxed);
}

static void
file_free (VmaSink *base)
{
  g_clear_pointer (&((FileSink *) base)->header, g_bytes_unref);
  g_free (base);
}

static const VmaSinkOps file_sink_ops = {
  .begin = file_begin,
  .open = file_open,
  .put = file_put,
  .seal = file_seal,
  .finish = file_finish,
  .written = file_written,
  .free = file_free,
};

VmaSink *
vma_file_sink_new (VmaOutput *output)
{
  FileSink *sink = g_new0 (FileSink, 1);

  sink->base.ops = &file_sink_ops;
  sink->output = output;
  return &sink->base;
}
