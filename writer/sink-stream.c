/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents through buffers, for outputs that take bytes in order only: pipes, commands, compressors.  An
 * extent leaves when it and all before it are sealed.
 */
#include "writer/sink.h"

#include "index/lock.h"
#include "writer/compressor.h"

#include <stdatomic.h>
#include <string.h>

/* Extents being filled or waiting for their turn: 23 MiB. */
#define BUFFERS 6

typedef struct {
  guint8 *data; /* VMA_EXTENT_MAX_SIZE */
  gsize size;
  gboolean sealed;
} Staged;

typedef struct {
  VmaSink base;
  VmaOutput *output;
  VmaCompressor *compressor; /* NULL: bytes go out as they are */
  _Atomic guint64 written;
  Staged staged[BUFFERS];

  pthread_mutex_t lock; /* of all below, and of size and sealed */
  Staged *free[BUFFERS];
  guint n_free;
  GQueue queue; /* Staged *, in order of their offsets */
  gboolean emitting;
  GError *failure;
} StreamSink;

static gboolean
emit (StreamSink *sink, const guint8 *data, gsize size, GError **error)
{
  if (sink->compressor != NULL)
    return vma_compressor_write (sink->compressor, data, size, error);
  atomic_fetch_add (&sink->written, size);
  return vma_output_append (sink->output, data, size, error);
}

static gboolean
stream_begin (VmaSink *base, GBytes *header, GError **error)
{
  gsize size;
  const guint8 *data = g_bytes_get_data (header, &size);

  return emit ((StreamSink *) base, data, size, error);
}

static gboolean
stream_open (VmaSink *base, VmaSinkExtent *extent)
{
  StreamSink *sink = (StreamSink *) base;

  VMA_LOCK (&sink->lock);
  if (sink->n_free == 0)
    return FALSE;
  Staged *staged = sink->free[--sink->n_free];
  staged->sealed = FALSE;
  g_queue_push_tail (&sink->queue, staged);
  extent->own = staged;
  return TRUE;
}

static gboolean
stream_put (VmaSink *base G_GNUC_UNUSED, VmaSinkExtent *extent, struct iovec *iov, int n,
            guint32 at, GError **error G_GNUC_UNUSED)
{
  Staged *staged = extent->own;

  for (int i = 0; i < n; i++) {
    memcpy (staged->data + at, iov[i].iov_base, iov[i].iov_len);
    at += (guint32) iov[i].iov_len;
  }
  return TRUE;
}

static gboolean
stream_seal (VmaSink *base, VmaSinkExtent *extent, const guint8 header[VMA_EXTENT_HEADER_SIZE],
             guint32 size, GError **error)
{
  StreamSink *sink = (StreamSink *) base;
  Staged *staged = extent->own;

  memcpy (staged->data, header, VMA_EXTENT_HEADER_SIZE);

  VMA_LOCK (&sink->lock);
  staged->size = size;
  staged->sealed = TRUE;
  /* Whoever is at it already goes on with this one too. */
  while (!sink->emitting && sink->queue.length > 0
         && (staged = g_queue_peek_head (&sink->queue))->sealed) {
    GError *local = NULL;

    sink->emitting = TRUE;
    if (sink->failure == NULL) {
      pthread_mutex_unlock (&sink->lock);
      emit (sink, staged->data, staged->size, &local);
      pthread_mutex_lock (&sink->lock);
    }
    if (local != NULL)
      sink->failure = local;
    g_queue_pop_head (&sink->queue);
    sink->free[sink->n_free++] = staged;
    /* At once, not when all is out: somebody may wait to fill it. */
    pthread_mutex_unlock (&sink->lock);
    base->room (base->room_data);
    pthread_mutex_lock (&sink->lock);
    sink->emitting = FALSE;
  }
  if (sink->failure == NULL)
    return TRUE;
  if (error != NULL)
    *error = g_error_copy (sink->failure);
  return FALSE;
}

static gboolean
stream_finish (VmaSink *base, GError **error)
{
  StreamSink *sink = (StreamSink *) base;

  g_assert (sink->queue.length == 0);
  if (sink->failure != NULL) {
    *error = g_error_copy (sink->failure);
    return FALSE;
  }
  return sink->compressor == NULL || vma_compressor_finish (sink->compressor, error);
}

static guint64
stream_written (VmaSink *base)
{
  StreamSink *sink = (StreamSink *) base;

  return sink->compressor != NULL ? vma_compressor_written (sink->compressor)
                                  : atomic_load (&sink->written);
}

static void
stream_free (VmaSink *base)
{
  StreamSink *sink = (StreamSink *) base;

  g_clear_pointer (&sink->compressor, vma_compressor_free);
  for (guint i = 0; i < BUFFERS; i++)
    g_free (sink->staged[i].data);
  g_queue_clear (&sink->queue);
  g_clear_error (&sink->failure);
  pthread_mutex_destroy (&sink->lock);
  g_free (sink);
}

static const VmaSinkOps stream_sink_ops = {
  .begin = stream_begin,
  .open = stream_open,
  .put = stream_put,
  .seal = stream_seal,
  .finish = stream_finish,
  .written = stream_written,
  .free = stream_free,
};

VmaSink *
vma_stream_sink_new (VmaOutput *output, const VmaWriterOptions *options, GError **error)
{
  StreamSink *sink = g_new0 (StreamSink, 1);

  sink->base.ops = &stream_sink_ops;
  sink->output = output;
  pthread_mutex_init (&sink->lock, NULL);
  g_queue_init (&sink->queue);
  for (guint i = 0; i < BUFFERS; i++) {
    sink->staged[i].data = g_malloc (VMA_EXTENT_MAX_SIZE);
    sink->free[sink->n_free++] = &sink->staged[i];
  }
  if (options->compression == VMA_COMPRESS_NONE)
    return &sink->base;
  sink->compressor = vma_compressor_new (output, options->compression, options->level,
                                         options->threads, error);
  if (sink->compressor != NULL)
    return &sink->base;
  stream_free (&sink->base);
  return NULL;
}
