/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/checked.h"

#include "source/source-impl.h"
#include "vma/error.h"

#include <string.h>

typedef struct {
  VmaSource base;
  VmaSourceOps ops; /* ours, with the properties of the one below */
  VmaSource *below;
  VmaSums *sums;
} CheckedSource;

/* The chunks from that of `offset` on that need no look, in bytes up to `size`; 0: none. */
static gsize
right_bytes (CheckedSource *source, guint64 offset, gsize size)
{
  guint64 end = offset + size, wanted;
  guint64 chunk = offset / VMA_SUMS_CHUNK;

  while (chunk * VMA_SUMS_CHUNK < end && !vma_sums_must_check (source->sums, chunk, &wanted))
    chunk++;
  guint64 to = MIN (chunk * VMA_SUMS_CHUNK, end);
  return to > offset ? (gsize) (to - offset) : 0;
}

/* Reads what `buffer` wants of one chunk, after a look at all of the chunk. */
static gboolean
read_and_check (CheckedSource *source, guint8 *buffer, gsize size, guint64 offset,
                GCancellable *cancellable, GError **error)
{
  guint64 chunk = offset / VMA_SUMS_CHUNK, wanted;
  guint64 start = chunk * VMA_SUMS_CHUNK;
  gsize whole = (gsize) MIN (VMA_SUMS_CHUNK, vma_sums_size (source->sums) - start);
  g_autofree guint8 *own = size < whole ? g_malloc (whole) : NULL;
  guint8 *bytes = own != NULL ? own : buffer;

  if (!vma_source_pread_full (source->below, bytes, whole, start, VMA_READ_DATA, cancellable, error))
    return FALSE;
  if (vma_sums_must_check (source->sums, chunk, &wanted)) {
    if (vma_sums_of (bytes, whole) != wanted)
      return vma_fail (error, VMA_ERROR_DAMAGED,
                       "data at %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT ": checksum mismatch:"
                       " they have changed since the checksums were taken",
                       start, start + whole);
    vma_sums_found_right (source->sums, chunk);
  }
  if (own != NULL)
    memcpy (buffer, own + (offset - start), size);
  return TRUE;
}

static gssize
checked_pread (VmaSource *base, void *buffer, gsize size, guint64 offset, VmaReadHint hint,
               GCancellable *cancellable, GError **error)
{
  CheckedSource *source = (CheckedSource *) base;
  guint64 total = vma_sums_size (source->sums);

  if (hint != VMA_READ_DATA || offset >= total)
    return vma_source_pread (source->below, buffer, size, offset, hint, cancellable, error);
  size = (gsize) MIN (size, total - offset);
  for (gsize done = 0, n; done < size; done += n) {
    guint64 at = offset + done;
    guint8 *to = (guint8 *) buffer + done;

    n = right_bytes (source, at, size - done);
    if (n > 0) {
      if (!vma_source_pread_full (source->below, to, n, at, hint, cancellable, error))
        return -1;
      continue;
    }
    n = (gsize) MIN (size - done, VMA_SUMS_CHUNK - at % VMA_SUMS_CHUNK);
    if (!read_and_check (source, to, n, at, cancellable, error))
      return -1;
  }
  return (gssize) size;
}

static guint64
checked_size (VmaSource *base)
{
  return vma_source_size (((CheckedSource *) base)->below);
}

static gboolean
checked_identity (VmaSource *base, VmaSourceIdentity *identity, GError **error)
{
  return vma_source_identity (((CheckedSource *) base)->below, identity, error);
}

static void
checked_interrupt (VmaSource *base)
{
  vma_source_interrupt (((CheckedSource *) base)->below);
}

static void
checked_free (VmaSource *base)
{
  CheckedSource *source = (CheckedSource *) base;

  vma_source_unref (source->below);
  vma_sums_free (source->sums);
  g_free (source);
}

VmaSource *
vma_checked_source_new (VmaSource *below, VmaSums *sums)
{
  CheckedSource *source = g_new0 (CheckedSource, 1);

  source->ops = *below->ops;
  source->ops.open = NULL;
  source->ops.checks_data = TRUE;
  source->ops.pread = checked_pread;
  source->ops.size = checked_size;
  source->ops.identity = checked_identity;
  source->ops.interrupt = checked_interrupt;
  source->ops.free = checked_free;
  source->base.ops = &source->ops;
  atomic_init (&source->base.refs, 1);
  source->below = below;
  source->sums = sums;
  return &source->base;
}
