/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents straight into a file: data go from the caller's buffer to their place, by whichever thread
 * brings them.  The archive's header comes last: until then the file does not look like an archive.
 *
 * Bare headers, of extents that hold zeros only, stand back to back where a disk is empty: they are
 * gathered, and written many at a time.
 */
#include "writer/sink.h"

#include "index/lock.h"

#include <stdatomic.h>
#include <string.h>

#define BARE_MAX 256

/* So much is written before the medium is told to begin with it. */
#define WRITEBACK_STEP (32u * 1024u * 1024u)

typedef struct {
  VmaSink base;
  VmaOutput *output;
  GBytes *header;
  _Atomic guint64 written;
  _Atomic guint64 writeback; /* has begun for what stands before */

  pthread_mutex_t lock; /* of what follows */
  guint8 *bare;         /* n_bare headers that belong at bare_offset */
  guint n_bare;
  guint64 bare_offset;
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

/* The caller holds the lock. */
static gboolean
write_bare (FileSink *sink, GError **error)
{
  struct iovec iov = { .iov_base = sink->bare, .iov_len = sink->n_bare * VMA_EXTENT_HEADER_SIZE };

  sink->n_bare = 0;
  return iov.iov_len == 0 || write_at (sink, &iov, 1, sink->bare_offset, error);
}

static gboolean
add_bare (FileSink *sink, const guint8 header[VMA_EXTENT_HEADER_SIZE], guint64 offset,
          GError **error)
{
  VMA_LOCK (&sink->lock);
  guint64 end = sink->bare_offset + sink->n_bare * VMA_EXTENT_HEADER_SIZE;

  if ((sink->n_bare == BARE_MAX || offset != end) && !write_bare (sink, error))
    return FALSE;
  if (sink->n_bare == 0)
    sink->bare_offset = offset;
  memcpy (sink->bare + sink->n_bare * VMA_EXTENT_HEADER_SIZE, header, VMA_EXTENT_HEADER_SIZE);
  sink->n_bare++;
  return TRUE;
}

/* All before `offset` is given out, and nearly all is written: what is not, fsync() will bring. */
static void
start_writeback (FileSink *sink, guint64 offset)
{
  guint64 begun = atomic_load_explicit (&sink->writeback, memory_order_relaxed);

  if (offset >= begun + WRITEBACK_STEP
      && atomic_compare_exchange_strong (&sink->writeback, &begun, offset))
    vma_output_start_writeback (sink->output, begun, offset - begun);
}

static gboolean
file_seal (VmaSink *base, VmaSinkExtent *extent, const guint8 header[VMA_EXTENT_HEADER_SIZE],
           guint32 size, GError **error)
{
  struct iovec iov = { .iov_base = (void *) header, .iov_len = VMA_EXTENT_HEADER_SIZE };

  start_writeback ((FileSink *) base, extent->offset);
  if (size == VMA_EXTENT_HEADER_SIZE)
    return add_bare ((FileSink *) base, header, extent->offset, error);
  return write_at ((FileSink *) base, &iov, 1, extent->offset, error);
}

static gboolean
file_finish (VmaSink *base, GError **error)
{
  FileSink *sink = (FileSink *) base;
  gsize size;
  struct iovec iov = { .iov_base = (void *) g_bytes_get_data (sink->header, &size) };

  {
    VMA_LOCK (&sink->lock);
    if (!write_bare (sink, error))
      return FALSE;
  }
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
  FileSink *sink = (FileSink *) base;

  g_clear_pointer (&sink->header, g_bytes_unref);
  pthread_mutex_destroy (&sink->lock);
  g_free (sink->bare);
  g_free (sink);
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
  sink->bare = g_malloc (BARE_MAX * VMA_EXTENT_HEADER_SIZE);
  pthread_mutex_init (&sink->lock, NULL);
  return &sink->base;
}
