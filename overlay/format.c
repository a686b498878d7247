/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/format.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>
#include <uuid/uuid.h>
#include <xxhash.h>

#define MAPS_START 65536u
#define DATA_ALIGN (1024u * 1024u)
#define MAP_COVERS (8u * VMA_BLOCK_SIZE) /* bytes of disk that a byte of a bitmap stands for */

#define OFF_VERSION 8
#define OFF_UUID 12
#define OFF_CTIME 28
#define OFF_FILE 36 /* of the archive: size, hash of its head, hash of its tail */
#define OFF_DISKS 128
#define DISK_SIZE 32
#define OFF_SUM (VMA_OVERLAY_HEADER_SIZE - 8)

G_STATIC_ASSERT (OFF_DISKS + VMA_MAX_DEVICES * DISK_SIZE <= OFF_SUM);

static guint64
round_up (guint64 value, guint64 unit)
{
  return (value + unit - 1) / unit * unit;
}

/* A header has at most 254 devices of 2^48 bytes: no sum in here can overflow. */
void
vma_overlay_layout (VmaOverlayLayout *layout, const VmaHeader *header)
{
  guint64 at = MAPS_START;

  layout->n = 0;
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    if (device->is_vmstate)
      continue;
    VmaOverlayPlace *place = &layout->places[layout->n++];
    *place = (VmaOverlayPlace){
      .device = device->id,
      .size = device->size,
      .map_offset = at,
      .map_size = round_up (round_up (device->size, MAP_COVERS) / MAP_COVERS, VMA_BLOCK_SIZE),
    };
    at += place->map_size;
  }
  layout->map_end = at;
  for (guint i = 0; i < layout->n; i++) {
    at = layout->places[i].data_offset = round_up (at, DATA_ALIGN);
    at += round_up (layout->places[i].size, VMA_BLOCK_SIZE);
  }
  layout->size = at;
}

void
vma_overlay_header (const VmaOverlayLayout *layout, const VmaHeader *header,
                    const VmaSourceIdentity *identity, guint8 bytes[VMA_OVERLAY_HEADER_SIZE])
{
  memset (bytes, 0, VMA_OVERLAY_HEADER_SIZE);
  memcpy (bytes, VMA_OVERLAY_MAGIC, 8);
  vma_put_le32 (bytes + OFF_VERSION, VMA_OVERLAY_VERSION);
  memcpy (bytes + OFF_UUID, header->uuid, VMA_UUID_SIZE);
  vma_put_le64 (bytes + OFF_CTIME, (guint64)header->ctime);
  /* Not the time of change: a copy of the archive is as good. */
  vma_put_le64 (bytes + OFF_FILE, identity->size);
  memcpy (bytes + OFF_FILE + 8, identity->head, sizeof identity->head);
  memcpy (bytes + OFF_FILE + 24, identity->tail, sizeof identity->tail);
  for (guint i = 0; i < layout->n; i++) {
    const VmaOverlayPlace *place = &layout->places[i];
    guint8 *at = bytes + OFF_DISKS + i * DISK_SIZE;
    vma_put_le64 (at, place->device);
    vma_put_le64 (at + 8, place->size);
    vma_put_le64 (at + 16, place->map_offset);
    vma_put_le64 (at + 24, place->data_offset);
  }
  vma_put_le64 (bytes + OFF_SUM, XXH3_64bits (bytes, OFF_SUM));
}

gboolean
vma_overlay_header_check (const guint8 found[VMA_OVERLAY_HEADER_SIZE],
                          const guint8 wanted[VMA_OVERLAY_HEADER_SIZE], GError **error)
{
  guint32 version = vma_get_le32 (found + OFF_VERSION);
  char uuid[UUID_STR_LEN];

  if (memcmp (found, VMA_OVERLAY_MAGIC, 8) != 0)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "this is no overlay file (name one that does not exist to have it made)");
  else if (version != VMA_OVERLAY_VERSION)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "an overlay of version %u, and only %u is known (use the vmafs that made it)",
                 version, VMA_OVERLAY_VERSION);
  else if (vma_get_le64 (found + OFF_SUM) != XXH3_64bits (found, OFF_SUM))
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "the header of the overlay is damaged");
  else if (memcmp (found + OFF_UUID, wanted + OFF_UUID, VMA_UUID_SIZE) != 0) {
    uuid_unparse_lower (found + OFF_UUID, uuid);
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "the overlay belongs to another archive (one with the uuid %s)", uuid);
  } else if (memcmp (found, wanted, VMA_OVERLAY_HEADER_SIZE) != 0)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "the overlay was made for the same backup, but in another file: size or content "
                 "differ (use the archive as it was, neither compressed nor written anew)");
  else
    return TRUE;
  return FALSE;
}
