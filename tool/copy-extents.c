/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying in archive order.
 */
#include "tool/copy.h"

#include "tool/interrupt.h"
#include "tool/progress.h"

/* Measured: with less, calls count; with more, the data fall out of the core's cache. */
#define PIECE (256u * 1024u)
#define MAX_SEGMENTS (VMA_EXTENT_SLOTS * VMA_BLOCKS_PER_CLUSTER / 2)

/* Data that stand together both in an extent and on a disk. */
typedef struct {
  ToolTarget *target;
  guint64 to;   /* on the disk */
  guint32 from; /* in the extent */
  guint32 size;
} Segment;

typedef struct {
  ToolCopy *copy;
  VmaSource *source;
  gboolean read_all; /* also what nobody wants: there is no other way past it, or to know it is there */
  guint8 *buffer;
  guint n;
  Segment segments[MAX_SEGMENTS];
} Stream;

static void
add_segment (Stream *stream, ToolTarget *target, guint64 to, guint32 from, guint32 size)
{
  if (stream->n > 0) {
    Segment *last = &stream->segments[stream->n - 1];
    if (last->target == target && last->to + last->size == to && last->from + last->size == from) {
      last->size += size;
      return;
    }
  }
  stream->segments[stream->n++] = (Segment){ target, to, from, size };
}

/* The runs of stored and of zero blocks of one cluster. */
static gboolean
add_slot (Stream *stream, const VmaSlot *slot, GError **error)
{
  ToolTarget *target = stream->copy->targets[slot->device];
  guint64 to = (guint64) slot->cluster * VMA_CLUSTER_SIZE;
  guint32 from = slot->offset;

  if (target == NULL)
    return TRUE;
  for (guint block = 0, n; block < VMA_BLOCKS_PER_CLUSTER; block += n) {
    gboolean stored = (slot->mask >> block & 1) != 0;
    for (n = 1; block + n < VMA_BLOCKS_PER_CLUSTER; n++)
      if (((slot->mask >> (block + n) & 1) != 0) != stored)
        break;

    guint64 at = to + (guint64) block * VMA_BLOCK_SIZE;
    if (stored) {
      add_segment (stream, target, at, from, n * VMA_BLOCK_SIZE);
      from += n * VMA_BLOCK_SIZE;
    } else if (!tool_target_zero (target, at, (guint64) n * VMA_BLOCK_SIZE, error))
      return FALSE;
  }
  return TRUE;
}

/* Writes what of the segments from *next on lies in the `size` bytes at `at` of the extent. */
static gboolean
write_piece (Stream *stream, guint *next, guint32 at, guint32 size, GError **error)
{
  for (; *next < stream->n; ++*next) {
    const Segment *segment = &stream->segments[*next];
    guint32 from = MAX (segment->from, at);
    guint32 end = MIN (segment->from + segment->size, at + size);

    if (segment->from >= at + size)
      return TRUE;
    if (!tool_target_write (segment->target, stream->buffer + (from - at), end - from,
                            segment->to + (from - segment->from), error))
      return FALSE;
    if (segment->from + segment->size > at + size)
      return TRUE; /* goes on in the next piece */
  }
  return TRUE;
}

static gboolean
copy_extent (Stream *stream, const VmaExtent *extent, guint64 offset, GError **error)
{
  guint next = 0;

  stream->n = 0;
  for (guint i = 0; i < extent->n_slots; i++)
    if (!add_slot (stream, &extent->slots[i], error))
      return FALSE;

  for (guint32 at = VMA_EXTENT_HEADER_SIZE, size; at < extent->size; at += size) {
    /* On the grid of the checksums: a whole chunk is checked where it is read. */
    size = MIN (PIECE - (guint32) ((offset + at) % PIECE), extent->size - at);
    if (!stream->read_all
        && (next == stream->n || stream->segments[next].from >= at + size))
      continue;
    if (!vma_source_pread_full (stream->source, stream->buffer, size, offset + at, VMA_READ_DATA,
                                tool_cancellable (), error)) {
      vma_archive_prefix_error (stream->copy->archive, error);
      return FALSE;
    }
    if (!write_piece (stream, &next, at, size, error))
      return FALSE;
  }
  return TRUE;
}

gboolean
tool_copy_in_archive_order (ToolCopy *copy, GError **error)
{
  VmaArchive *archive = copy->archive;
  VmaSource *source = vma_archive_source (archive);
  guint64 archive_size = vma_source_size (source);
  gboolean read_all = archive_size == VMA_SIZE_UNKNOWN || vma_source_is_sequential (source);
  g_autofree guint8 *buffer = g_malloc (PIECE);
  g_autofree Stream *stream = g_new0 (Stream, 1);
  g_autoptr (VmaScanner) scanner = vma_archive_scanner_new (archive);
  const VmaExtent *extent;
  guint64 offset;
  int more;

  stream->copy = copy;
  stream->source = source;
  stream->read_all = read_all;
  stream->buffer = buffer;
  tool_progress_start ("extracting", read_all ? 0 : archive_size);
  while ((more = vma_scanner_next (scanner, &extent, &offset, tool_cancellable (), error)) > 0) {
    if (!copy_extent (stream, extent, offset, error))
      return FALSE;
    tool_progress_set (offset + extent->size);
    tool_verbose_extent (&copy->verbose, extent);
  }
  if (more == 0 && vma_index_complete (vma_archive_index (archive), TRUE, error))
    return TRUE;
  vma_archive_prefix_error (archive, error);
  return FALSE;
}
