/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/repack-copy.h"

#include "tool/interrupt.h"
#include "vma/error.h"

#include <string.h>

#define STEP_CLUSTERS 16u
#define STEP          (STEP_CLUSTERS * VMA_CLUSTER_SIZE)

static gboolean
check_interrupt (GError **error)
{
  if (!g_cancellable_is_cancelled (tool_cancellable ()))
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
  return FALSE;
}

/* --- by disk ----------------------------------------------------------------------------------- */

/* Reads from the archive, or, cluster by cluster, from whichever copy has it. */
static gboolean
read_merged (ToolRepack *repack, VmaImage *image, guint8 *buffer, gsize size, guint64 offset,
             GError **error)
{
  g_autoptr (GError) local = NULL;
  guint8 id = vma_image_device (image)->id;

  if (vma_image_pread (image, buffer, size, offset, tool_cancellable (), &local) >= 0)
    return TRUE;
  VmaImage *other = repack->other != NULL ? vma_archive_image (repack->other, id) : NULL;
  if (other == NULL || g_error_matches (local, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    g_propagate_error (error, g_steal_pointer (&local));
    return FALSE;
  }
  for (gsize at = 0; at < size; at += VMA_CLUSTER_SIZE) {
    gsize n = MIN (VMA_CLUSTER_SIZE, size - at);
    if (vma_image_pread (image, buffer + at, n, offset + at, tool_cancellable (), NULL)
            != (gssize) n
        && vma_image_pread (other, buffer + at, n, offset + at, tool_cancellable (), error)
               != (gssize) n) {
      if (error != NULL && *error == NULL)
        g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING,
                     "%s: the disk is shorter than in the other copy",
                     vma_archive_path (repack->other));
      return FALSE;
    }
  }
  return TRUE;
}

/* Whole clusters from `offset` on that are zero. */
static gboolean
zero_clusters (VmaImage *image, guint64 offset, guint64 size, guint64 *n, GError **error)
{
  guint64 data;

  if (!vma_image_next_data (image, offset, &data, tool_cancellable (), error))
    return FALSE;
  guint64 first = offset / VMA_CLUSTER_SIZE;
  guint64 last = data >= size ? vma_clusters_for_size (size) : data / VMA_CLUSTER_SIZE;
  *n = last > first ? last - first : 0; /* behind the end of the shorter of two copies */
  return TRUE;
}

/* The longer one of the copies' vmstate; the size that a disk has in any case. */
static gboolean
merged_size (ToolRepack *repack, VmaImage *image, guint64 *size, GError **error)
{
  guint64 other_size = 0;

  if (!vma_image_size (image, size, tool_cancellable (), error))
    return FALSE;
  if (repack->other != NULL && vma_image_device (image)->is_vmstate
      && !vma_image_size (vma_archive_image (repack->other, vma_image_device (image)->id),
                          &other_size, tool_cancellable (), error))
    return FALSE;
  *size = MAX (*size, other_size);
  return TRUE;
}

static gboolean
copy_disk (ToolRepack *repack, VmaImage *image, guint8 stream, guint8 *buffer, GError **error)
{
  guint64 size, offset = 0;

  if (!merged_size (repack, image, &size, error))
    return FALSE;
  while (offset < size) {
    guint64 cluster = offset / VMA_CLUSTER_SIZE, zeros = 0;
    gsize n = (gsize) MIN (STEP, size - offset);

    if (!check_interrupt (error) || !zero_clusters (image, offset, size, &zeros, error))
      return FALSE;
    if (zeros > 0) {
      if (!vma_writer_dump (repack->writer, stream, cluster, zeros, NULL, error))
        return FALSE;
      n = (gsize) MIN (zeros * VMA_CLUSTER_SIZE, size - offset);
    } else if (!read_merged (repack, image, buffer, n, offset, error)
               || !vma_writer_dump (repack->writer, stream, cluster, vma_clusters_for_size (n),
                                    buffer, error))
      return FALSE;
    offset += n;
    tool_progress_add (n);
  }
  return vma_writer_close_stream (repack->writer, stream, error);
}

gboolean
tool_repack_by_disk (ToolRepack *repack, GError **error)
{
  const GPtrArray *devices = vma_archive_header (repack->archive)->devices;
  g_autofree guint8 *buffer = g_malloc (STEP);
  guint64 total = 0;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    total += repack->streams[device->id] != 0 ? device->size : 0;
  }
  tool_progress_start ("repacking", total);
  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    guint8 stream = repack->streams[device->id];

    if (stream != 0
        && !copy_disk (repack, vma_archive_image (repack->archive, device->id), stream, buffer,
                       error))
      return FALSE;
  }
  tool_progress_end ();
  return TRUE;
}

/* --- in archive order -------------------------------------------------------------------------- */

/* A cluster as it is on the disk: the stored blocks in their places, zeros between. */
static void
unfold (const VmaSlot *slot, const guint8 *extent, guint8 *cluster)
{
  const guint8 *stored = extent + slot->offset;

  for (guint block = 0; block < VMA_BLOCKS_PER_CLUSTER; block++) {
    guint8 *to = cluster + block * VMA_BLOCK_SIZE;
    if ((slot->mask >> block & 1) != 0) {
      memcpy (to, stored, VMA_BLOCK_SIZE);
      stored += VMA_BLOCK_SIZE;
    } else
      memset (to, 0, VMA_BLOCK_SIZE);
  }
}

/* The slots from `first` on that go to one stream one after another, at most a step of them. */
static guint32
run_length (const VmaExtent *extent, guint32 first)
{
  const VmaSlot *slot = &extent->slots[first];
  guint32 n = 1;

  while (n < STEP_CLUSTERS && first + n < extent->n_slots && slot[n].device == slot->device
         && slot[n].cluster == (guint64) slot->cluster + n)
    n++;
  return n;
}

/* `data` takes an extent, `clusters` a step. */
static gboolean
copy_extent (ToolRepack *repack, const VmaExtent *extent, guint64 offset, guint8 *data,
             guint8 *clusters, GError **error)
{
  if (!vma_source_pread_full (vma_archive_source (repack->archive), data + VMA_EXTENT_HEADER_SIZE,
                              extent->size - VMA_EXTENT_HEADER_SIZE,
                              offset + VMA_EXTENT_HEADER_SIZE, VMA_READ_DATA, tool_cancellable (),
                              error)) {
    vma_archive_prefix_error (repack->archive, error);
    return FALSE;
  }
  for (guint32 i = 0, n; i < extent->n_slots; i += n) {
    const VmaSlot *slots = &extent->slots[i];
    guint8 stream = repack->streams[slots->device];

    n = run_length (extent, i);
    if (stream == 0)
      continue;
    for (guint32 k = 0; k < n; k++)
      unfold (&slots[k], data, clusters + k * VMA_CLUSTER_SIZE);
    if (!vma_writer_dump (repack->writer, stream, slots->cluster, n, clusters, error))
      return FALSE;
  }
  return TRUE;
}

gboolean
tool_repack_in_archive_order (ToolRepack *repack, GError **error)
{
  g_autoptr (VmaScanner) scanner = vma_archive_scanner_new (repack->archive);
  g_autofree guint8 *data = g_malloc (VMA_EXTENT_MAX_SIZE);
  g_autofree guint8 *clusters = g_malloc (STEP);
  guint64 size = vma_source_size (vma_archive_source (repack->archive)), offset;
  const VmaExtent *extent;
  int more;

  tool_progress_start ("repacking", size != VMA_SIZE_UNKNOWN ? size : 0);
  while ((more = vma_scanner_next (scanner, &extent, &offset, tool_cancellable (), error)) > 0) {
    if (!copy_extent (repack, extent, offset, data, clusters, error))
      return FALSE;
    tool_progress_set (offset + extent->size);
  }
  if (more < 0 || !vma_index_complete (vma_archive_index (repack->archive), TRUE, error)) {
    vma_archive_prefix_error (repack->archive, error);
    return FALSE;
  }
  tool_progress_end ();
  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    if (repack->streams[id] != 0
        && !vma_writer_close_stream (repack->writer, repack->streams[id], error))
      return FALSE;
  return TRUE;
}
