/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/volume.h"

#include "overlay/disk.h"
#include "vma/error.h"

#include <unistd.h>

/* The overlay's disk that a volume, or a part of it, is.  The disk is NULL where there is none. */
typedef struct {
  VmaOverlayDisk *disk;
  guint64 start, size;
} Place;

static Place
place_of (VmaMounted *mounted, const VmaNode *node)
{
  Place place = { 0 };

  if (mounted->overlay == NULL)
    return place;
  place.disk = vma_overlay_disk (mounted->overlay, vma_image_device (node->image)->id);
  place.start = vma_image_start (node->image);
  if (place.disk != NULL)
    vma_image_size (node->image, &place.size, NULL, NULL); /* no vmstate: it is known */
  return place;
}

/* Bytes of a request that are inside the volume. */
static guint64
inside (const Place *place, guint64 offset, guint64 size)
{
  return offset < place->size ? MIN (size, place->size - offset) : 0;
}

gboolean
vma_volume_is_writable (VmaMounted *mounted, const VmaNode *node)
{
  return node->kind == VMA_NODE_IMAGE && place_of (mounted, node).disk != NULL;
}

gboolean
vma_volume_is_ready_to_read (VmaMounted *mounted, const VmaNode *node, guint64 offset, gsize size)
{
  Place place = place_of (mounted, node);

  return place.disk != NULL ? vma_overlay_is_ready_to_read (place.disk, place.start + offset,
                                                            (gsize)inside (&place, offset, size))
                            : vma_image_is_ready (node->image, offset, size);
}

gssize
vma_volume_pread (VmaMounted *mounted, const VmaNode *node, void *buffer, gsize size,
                  guint64 offset, GCancellable *cancellable, GError **error)
{
  Place place = place_of (mounted, node);

  if (cancellable == NULL)
    cancellable = mounted->cancellable;
  return place.disk != NULL
             ? vma_overlay_pread (place.disk, buffer, (gsize)inside (&place, offset, size),
                                  place.start + offset, cancellable, error)
             : vma_image_pread (node->image, buffer, size, offset, cancellable, error);
}

gboolean
vma_volume_seek (VmaMounted *mounted, const VmaNode *node, int whence, guint64 offset,
                 guint64 *found, GError **error)
{
  Place place = place_of (mounted, node);
  gboolean data = whence == SEEK_DATA;

  if (place.disk == NULL)
    return data ? vma_image_next_data (node->image, offset, found, NULL, error)
                : vma_image_next_hole (node->image, offset, found, NULL, error);
  if (offset >= place.size)
    *found = place.size;
  else if (data ? vma_overlay_next_data (place.disk, place.start + offset, found, NULL, error)
                : vma_overlay_next_hole (place.disk, place.start + offset, found, NULL, error))
    *found = MIN (*found - place.start, place.size);
  else
    return FALSE;
  return TRUE;
}

gboolean
vma_volume_is_ready_to_write (VmaMounted *mounted, const VmaNode *node, guint64 offset,
                              guint64 size)
{
  Place place = place_of (mounted, node);

  return vma_overlay_is_ready_to_write (place.disk, place.start + offset,
                                        inside (&place, offset, size));
}

gssize
vma_volume_pwrite (VmaMounted *mounted, const VmaNode *node, const void *buffer, gsize size,
                   guint64 offset, GError **error)
{
  Place place = place_of (mounted, node);
  gsize n = (gsize)inside (&place, offset, size);

  if (n == 0 && size > 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "overlay: behind the end of the disk");
    return -1;
  }
  return vma_overlay_pwrite (place.disk, buffer, n, place.start + offset, NULL, error);
}

gboolean
vma_volume_zero (VmaMounted *mounted, const VmaNode *node, guint64 offset, guint64 size,
                 GError **error)
{
  Place place = place_of (mounted, node);

  return vma_overlay_zero (place.disk, place.start + offset, inside (&place, offset, size), NULL,
                           error);
}

guint64
vma_volume_stored_blocks (VmaMounted *mounted, const VmaNode *node, guint64 below)
{
  Place place = place_of (mounted, node);

  return place.disk != NULL ? vma_overlay_stored_blocks (place.disk, below) : below;
}

gint64
vma_volume_mtime (VmaMounted *mounted, const VmaNode *node)
{
  Place place = place_of (mounted, node);

  return place.disk != NULL ? vma_overlay_mtime (place.disk) : 0;
}
