/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An archive that comes through a pipe: forwards only, and once.
 */
#include "source/source-impl.h"

#include "vma/error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Bare headers are 512 bytes each: fewer, larger reads. */
#define BUFFER_SIZE (256u * 1024u)

typedef struct {
  VmaSource base;
  int fd;
  guint64 position; /* in the archive, of buffer[used] */
  gsize used, filled;
  guint8 *buffer;
  gboolean ended;
} PipeSource;

static VmaSource *
pipe_open (int fd, const guint8 *head, gsize head_size,
           const VmaSourceOptions *options G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  PipeSource *source = g_new0 (PipeSource, 1);

  source->fd = fd;
  source->buffer = g_malloc (BUFFER_SIZE);
  memcpy (source->buffer, head, head_size);
  source->filled = head_size;
  return &source->base;
}

/* Takes up to `size` of the next bytes; to nowhere where `out` is NULL.  0 at the end. */
static gssize
pipe_take (PipeSource *source, guint8 *out, gsize size, GError **error)
{
  gssize n;

  if (source->used == source->filled) {
    gboolean direct = out != NULL && size >= BUFFER_SIZE;
    do
      n = read (source->fd, direct ? out : source->buffer, direct ? size : BUFFER_SIZE);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
      vma_set_errno_error (error, errno, "cannot read at %" G_GUINT64_FORMAT, source->position);
      return -1;
    }
    source->ended = n == 0;
    if (direct || n == 0) {
      source->position += (guint64) n;
      return n;
    }
    source->used = 0;
    source->filled = (gsize) n;
  }
  n = (gssize) MIN (size, source->filled - source->used);
  if (out != NULL)
    memcpy (out, source->buffer + source->used, (gsize) n);
  source->used += (gsize) n;
  source->position += (guint64) n;
  return n;
}

static gssize
pipe_pread (VmaSource *base, void *buffer, gsize size, guint64 offset,
            VmaReadHint hint G_GNUC_UNUSED, GCancellable *cancellable, GError **error)
{
  PipeSource *source = (PipeSource *) base;
  gsize done = 0;
  gssize n;

  if (offset < source->position) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "cannot go back to %" G_GUINT64_FORMAT " in a pipe", offset);
    return -1;
  }
  while (done < size) {
    gboolean skipping = source->position < offset;
    gsize want = skipping ? (gsize) MIN (offset - source->position, BUFFER_SIZE) : size - done;

    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return -1;
    }
    n = pipe_take (source, skipping ? NULL : (guint8 *) buffer + done, want, error);
    if (n < 0)
      return -1;
    if (n == 0)
      break;
    if (!skipping)
      done += (gsize) n;
  }
  return (gssize) done;
}

static guint64
pipe_size (VmaSource *base)
{
  const PipeSource *source = (PipeSource *) base;

  return source->ended ? source->position : VMA_SIZE_UNKNOWN;
}

static void
pipe_free (VmaSource *base)
{
  PipeSource *source = (PipeSource *) base;

  close (source->fd);
  g_free (source->buffer);
  g_free (source);
}

const VmaSourceOps vma_pipe_source_ops = {
  .kind = "pipe",
  .sequential = TRUE,
  .open = pipe_open,
  .pread = pipe_pread,
  .size = pipe_size,
  .free = pipe_free,
};
