/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vma/extent.h"

#include "vma/bytes.h"
#include "vma/error.h"
#include "vma/md5.h"

#include <string.h>

static const guint8 extent_magic[4] = { 'V', 'M', 'A', 'E' };

static gboolean
damaged (GError **error, const char *reason)
{
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED, reason);
  return FALSE;
}

gboolean
vma_extent_checksum_is_right (const guint8 data[VMA_EXTENT_HEADER_SIZE])
{
  return memcmp (data, extent_magic, sizeof extent_magic) == 0
         && vma_md5_matches (data, VMA_EXTENT_HEADER_SIZE, VMA_EXTENT_OFF_MD5);
}

static gboolean
extent_parse (const guint8 *data, const guint8 *uuid, gboolean checked, VmaExtent *extent,
              GError **error)
{
  guint blocks = 0;

  if (memcmp (data, extent_magic, sizeof extent_magic) != 0)
    return damaged (error, "no extent header where one must be");
  if (memcmp (data + VMA_EXTENT_OFF_UUID, uuid, VMA_UUID_SIZE) != 0)
    return damaged (error, "the extent belongs to another archive (uuid mismatch)");
  if (!checked && !vma_md5_matches (data, VMA_EXTENT_HEADER_SIZE, VMA_EXTENT_OFF_MD5))
    return damaged (error, "checksum mismatch");
  if (vma_get_be16 (data + VMA_EXTENT_OFF_RESERVED) != 0)
    return damaged (error, "the reserved field is not 0");

  extent->n_slots = 0;
  for (guint i = 0; i < VMA_EXTENT_SLOTS; i++) {
    const guint8 *raw = data + VMA_EXTENT_OFF_SLOTS + VMA_EXTENT_SLOT_SIZE * i;
    guint16 mask = vma_get_be16 (raw);
    guint8 device = raw[3]; /* raw[2] is reserved, and the reference ignores it */

    if (device == 0)
      continue;
    extent->slots[extent->n_slots++] = (VmaSlot){
      .cluster = vma_get_be32 (raw + 4),
      .mask = mask,
      .device = device,
      .offset = VMA_EXTENT_HEADER_SIZE + blocks * VMA_BLOCK_SIZE,
    };
    blocks += vma_mask_blocks (mask);
  }
  if (blocks != vma_get_be16 (data + VMA_EXTENT_OFF_BLOCK_COUNT))
    return damaged (error, "the block count does not match the clusters listed");
  extent->size = VMA_EXTENT_HEADER_SIZE + blocks * VMA_BLOCK_SIZE;
  return TRUE;
}

gboolean
vma_extent_parse (const guint8 data[VMA_EXTENT_HEADER_SIZE], const guint8 uuid[VMA_UUID_SIZE],
                  VmaExtent *extent, GError **error)
{
  return extent_parse (data, uuid, FALSE, extent, error);
}

gboolean
vma_extent_parse_checked (const guint8 data[VMA_EXTENT_HEADER_SIZE],
                          const guint8 uuid[VMA_UUID_SIZE], VmaExtent *extent, GError **error)
{
  return extent_parse (data, uuid, TRUE, extent, error);
}

gsize
vma_extent_search (const guint8 *data, gsize size, gsize from, const guint8 uuid[VMA_UUID_SIZE])
{
  const gsize needed = VMA_EXTENT_OFF_UUID + VMA_UUID_SIZE;

  while (from < size && size - from >= needed) {
    const guint8 *found
        = memmem (data + from, size - from - (needed - sizeof extent_magic), extent_magic,
                  sizeof extent_magic);
    if (found == NULL)
      return size;
    if (memcmp (found + VMA_EXTENT_OFF_UUID, uuid, VMA_UUID_SIZE) == 0)
      return (gsize) (found - data);
    from = (gsize) (found - data) + 1;
  }
  return size;
}
