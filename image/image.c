/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image/image.h"

#include "image/image-impl.h"
#include "vma/error.h"

#include <string.h>

VmaArchive *
vma_image_archive (VmaImage *image)
{
  return image->archive;
}

const VmaDevice *
vma_image_device (VmaImage *image)
{
  return image->device;
}

VmaImage *
vma_image_new_window (VmaImage *disk, guint64 offset, guint64 length)
{
  VmaImage *window = g_new0 (VmaImage, 1);

  g_assert (!disk->device->is_vmstate && !disk->is_window && offset <= disk->device->size
            && length <= disk->device->size - offset);
  *window = (VmaImage){
    .archive = disk->archive,
    .device = disk->device,
    .base = disk->base,
    .is_window = TRUE,
    .start = offset,
    .length = length,
  };
  return window;
}

void
vma_image_free_window (VmaImage *window)
{
  g_assert (window->is_window);
  g_free (window);
}

gboolean
vma_image_is_window (VmaImage *image)
{
  return image->is_window;
}

gboolean
vma_image_size_is_known (VmaImage *image)
{
  return !image->device->is_vmstate
         || vma_index_state (vma_archive_index (image->archive)) != VMA_INDEX_BUILDING;
}

guint64
vma_image_start (VmaImage *image)
{
  return image->start;
}

static guint64
size_in (VmaImage *image, VmaIndex *index)
{
  VmaDeviceCounts counts;

  if (image->is_window)
    return image->length;
  if (!image->device->is_vmstate)
    return image->device->size;
  vma_index_get_device_counts (index, image->device->id, &counts);
  return counts.next * VMA_CLUSTER_SIZE;
}

gboolean
vma_image_size (VmaImage *image, guint64 *size, GCancellable *cancellable, GError **error)
{
  for (;;) {
    /* One and the same index, before and after: another may take its place at any time. */
    VmaIndex *index = vma_archive_index (image->archive);
    g_autoptr (GError) local = NULL;

    if (!image->device->is_vmstate || vma_index_state (index) != VMA_INDEX_BUILDING) {
      *size = size_in (image, index); /* after a failed scan: as far as it came */
      return TRUE;
    }
    if (!vma_index_wait_finished (index, cancellable, &local)
        && g_error_matches (local, VMA_ERROR, VMA_ERROR_CANCELLED)
        && g_cancellable_is_cancelled (cancellable)) {
      g_propagate_error (error, g_steal_pointer (&local));
      return FALSE;
    }
  }
}

/* What is known of a cluster; waits for the scan.  FALSE when cancelled. */
static gboolean
lookup (VmaImage *image, guint64 cluster, VmaEntry *entry, guint64 *end, GCancellable *cancellable,
        GError **error)
{
  guint64 seen = 0;

  for (;;) {
    VmaIndex *index = vma_archive_index (image->archive);
    gboolean pending;

    *entry = vma_index_lookup (index, image->device->id, cluster, end, &pending);
    if (*entry == VMA_ENTRY_LOST) {
      vma_archive_replace_index (image->archive, index);
      if (vma_archive_index (image->archive) == index)
        return TRUE; /* on the way out; to the reader the cluster is missing */
      seen = 0;
      continue;
    }
    if (!pending)
      return TRUE;
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    vma_index_wait (index, &seen, 100);
  }
}

/*
 * Where a cluster is that is not listed: in the base, or (NULL) nowhere.  Only a whole index tells that it
 * is not listed; one that failed just did not come to it.
 */
static VmaImage *
below (VmaImage *image, VmaEntry entry)
{
  return entry == VMA_ENTRY_MISSING && image->base != NULL
                 && vma_index_state (vma_archive_index (image->archive)) == VMA_INDEX_COMPLETE
             ? image->base
             : NULL;
}

gboolean
vma_image_is_ready (VmaImage *image, guint64 offset, gsize size)
{
  VmaIndex *index = vma_archive_index (image->archive);

  if (image->device->is_vmstate && vma_index_state (index) == VMA_INDEX_BUILDING)
    return FALSE;
  guint64 total = size_in (image, index);
  if (size == 0 || offset >= total)
    return TRUE;

  guint64 first = image->start + offset;
  guint64 last = (MIN (total - offset, size) + first - 1) / VMA_CLUSTER_SIZE;
  for (guint64 cluster = first / VMA_CLUSTER_SIZE, end; cluster <= last; cluster = end) {
    gboolean pending;
    VmaEntry entry = vma_index_lookup (index, image->device->id, cluster, &end, &pending);
    if (entry == VMA_ENTRY_LOST)
      vma_archive_replace_index (image->archive, index);
    if (pending || entry == VMA_ENTRY_LOST)
      return FALSE;
    if (below (image, entry) != NULL
        && !vma_image_is_ready (image->base, cluster * VMA_CLUSTER_SIZE,
                                (gsize) (MIN (end, last + 1) - cluster) * VMA_CLUSTER_SIZE))
      return FALSE;
  }
  return TRUE;
}

static void
set_missing_error (VmaImage *image, guint64 cluster, VmaEntry entry, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING,
               "%s: %s: cluster %" G_GUINT64_FORMAT " (at %" G_GUINT64_FORMAT ") %s",
               vma_archive_path (image->archive),
               vma_names_device (vma_archive_names (image->archive), image->device->id), cluster,
               cluster * VMA_CLUSTER_SIZE,
               entry == VMA_ENTRY_BAD ? "stands in a damaged part of the archive"
                                      : "is missing from the archive");
}

/* --- spans ------------------------------------------------------------------------------------- */

/* The blocks of one kind that begin at block `first` of a cluster with this mask. */
static guint
same_blocks (guint16 mask, guint first)
{
  gboolean stored = (mask >> first & 1) != 0;
  guint n = 1;

  while (first + n < VMA_BLOCKS_PER_CLUSTER && ((mask >> (first + n) & 1) != 0) == stored)
    n++;
  return n;
}

/* The span at `offset` from its cluster's entry, which holds for clusters up to `run_end`. */
static void
span_of_entry (guint64 offset, VmaEntry entry, guint64 run_end, VmaSpan *span)
{
  guint64 cluster = offset / VMA_CLUSTER_SIZE;
  guint32 within = (guint32) (offset % VMA_CLUSTER_SIZE);
  guint16 mask = vma_entry_mask (entry);

  span->start = offset;
  span->end = run_end * VMA_CLUSTER_SIZE;
  span->source = 0;
  if (entry == VMA_ENTRY_ZERO)
    span->kind = VMA_SPAN_ZERO;
  else if (!vma_entry_is_data (entry))
    span->kind = VMA_SPAN_MISSING;
  else if (mask == VMA_FULL_MASK) {
    span->kind = VMA_SPAN_DATA;
    span->source = vma_entry_offset (entry) + within;
  } else {
    guint block = within / VMA_BLOCK_SIZE;
    guint16 before = (guint16) (mask & ((1u << block) - 1));

    span->end = cluster * VMA_CLUSTER_SIZE
                + (guint64) (block + same_blocks (mask, block)) * VMA_BLOCK_SIZE;
    span->kind = (mask >> block & 1) != 0 ? VMA_SPAN_DATA : VMA_SPAN_ZERO;
    if (span->kind == VMA_SPAN_DATA)
      span->source = vma_entry_offset (entry)
                     + (guint64) vma_mask_blocks (before) * VMA_BLOCK_SIZE
                     + within % VMA_BLOCK_SIZE;
  }
}

gboolean
vma_image_span (VmaImage *image, guint64 offset, VmaSpan *span, GCancellable *cancellable,
                GError **error)
{
  VmaEntry entry;
  guint64 run_end, size;

  guint64 at = image->start + offset;

  if (!vma_image_size (image, &size, cancellable, error)
      || !lookup (image, at / VMA_CLUSTER_SIZE, &entry, &run_end, cancellable, error))
    return FALSE;
  span_of_entry (at, entry, run_end, span);
  if (below (image, entry) != NULL) {
    guint64 end = span->end;
    if (!vma_image_span (image->base, at, span, cancellable, error))
      return FALSE;
    span->end = MIN (span->end, end);
  }
  span->start = offset;
  span->end = MIN (span->end - image->start, size);
  return TRUE;
}

static gboolean
next_of (VmaImage *image, gboolean hole, guint64 offset, guint64 *found, GCancellable *cancellable,
         GError **error)
{
  guint64 size;

  if (!vma_image_size (image, &size, cancellable, error))
    return FALSE;
  while (offset < size) {
    VmaSpan span;
    if (!vma_image_span (image, offset, &span, cancellable, error))
      return FALSE;
    if ((span.kind == VMA_SPAN_ZERO) == hole)
      break;
    offset = span.end;
  }
  *found = MIN (offset, size);
  return TRUE;
}

gboolean
vma_image_next_data (VmaImage *image, guint64 offset, guint64 *found, GCancellable *cancellable,
                     GError **error)
{
  return next_of (image, FALSE, offset, found, cancellable, error);
}

gboolean
vma_image_next_hole (VmaImage *image, guint64 offset, guint64 *found, GCancellable *cancellable,
                     GError **error)
{
  return next_of (image, TRUE, offset, found, cancellable, error);
}

/* --- reading ----------------------------------------------------------------------------------- */

/* Stored bytes that are yet to be read: contiguous in the archive and in the caller's buffer. */
typedef struct {
  guint64 source;
  guint8 *to;
  gsize size;
} Piece;

static gboolean
piece_read (VmaImage *image, const Piece *piece, GCancellable *cancellable, GError **error)
{
  if (piece->size == 0
      || vma_source_pread_full (vma_archive_source (image->archive), piece->to, piece->size,
                                piece->source, VMA_READ_DATA, cancellable, error))
    return TRUE;
  vma_archive_prefix_error (image->archive, error);
  return FALSE;
}

gssize
vma_image_pread (VmaImage *image, void *buffer, gsize size, guint64 offset,
                 GCancellable *cancellable, GError **error)
{
  Piece piece = { 0 };
  guint64 total;

  if (!vma_image_size (image, &total, cancellable, error))
    return -1;
  if (offset >= total)
    return 0;
  size = (gsize) MIN (size, total - offset);

  for (gsize done = 0; done < size;) {
    guint64 at = image->start + offset + done, run_end;
    VmaEntry entry;
    VmaSpan span;

    if (!lookup (image, at / VMA_CLUSTER_SIZE, &entry, &run_end, cancellable, error))
      return -1;
    span_of_entry (at, entry, run_end, &span);
    gsize n = (gsize) MIN (span.end - at, size - done);
    guint8 *to = (guint8 *) buffer + done;

    switch (span.kind) {
    case VMA_SPAN_MISSING:
      if (below (image, entry) != NULL) {
        if (vma_image_pread (image->base, to, n, at, cancellable, error) < 0)
          return -1;
        break;
      }
      set_missing_error (image, at / VMA_CLUSTER_SIZE, entry, error);
      return -1;
    case VMA_SPAN_ZERO:
      memset (to, 0, n);
      break;
    case VMA_SPAN_DATA:
      if (piece.size > 0 && piece.source + piece.size == span.source && piece.to + piece.size == to)
        piece.size += n;
      else {
        if (!piece_read (image, &piece, cancellable, error))
          return -1;
        piece = (Piece){ .source = span.source, .to = to, .size = n };
      }
      break;
    }
    done += n;
  }
  return piece_read (image, &piece, cancellable, error) ? (gssize) size : -1;
}
