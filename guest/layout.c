/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/layout.h"

#include "vma/bytes.h"

#include <string.h>

#define TABLE 446
#define SLOTS 4

static gboolean
is_boot_record (const guint8 *record)
{
  return record[510] == 0x55 && record[511] == 0xaa;
}

static gboolean
is_extended (guint8 type)
{
  return type == 0x05 || type == 0x0f || type == 0x85;
}

gboolean
vma_layout_extended (const guint8 record[VMA_LAYOUT_SECTOR], guint32 *start)
{
  if (!is_boot_record (record))
    return FALSE;
  for (guint i = 0; i < SLOTS; i++) {
    const guint8 *slot = record + TABLE + 16 * i;
    *start = vma_get_le32 (slot + 8);
    if (is_extended (slot[4]) && *start != 0)
      return TRUE;
  }
  return FALSE;
}

guint
vma_layout_primaries (const guint8 record[VMA_LAYOUT_SECTOR], guint32 starts[4])
{
  guint n = 0;

  for (guint i = 0; is_boot_record (record) && i < SLOTS; i++) {
    const guint8 *slot = record + TABLE + 16 * i;
    if (slot[4] != 0 && vma_get_le32 (slot + 8) != 0)
      starts[n++] = vma_get_le32 (slot + 8);
  }
  return n;
}

/* `units` of `size` bytes, `more` units on. */
static gboolean
place (guint64 first, guint64 units, guint64 unit_size, guint64 sector_size, guint64 *offset)
{
  guint64 sectors;

  return g_uint64_checked_mul (&sectors, units, unit_size)
         && g_uint64_checked_add (&sectors, sectors, first)
         && g_uint64_checked_mul (offset, sectors, sector_size);
}

/* Sectors a cluster; large ones are written as a negative power of two. */
static guint64
ntfs_cluster (guint8 value)
{
  if (value <= 128)
    return value;
  return value >= 256 - 31 ? G_GUINT64_CONSTANT (1) << (256 - value) : 0;
}

static gboolean
fat_root (const guint8 *sector, guint64 *offset)
{
  guint32 sector_size = vma_get_le16 (sector + 0x0b);
  guint32 cluster = sector[0x0d];
  guint64 reserved = vma_get_le16 (sector + 0x0e), fats = sector[0x10];
  guint64 fat_size = vma_get_le16 (sector + 0x16);
  guint32 root = 0;

  if (fat_size == 0) { /* FAT32: the root is a file like others */
    fat_size = vma_get_le32 (sector + 0x24);
    root = vma_get_le32 (sector + 0x2c);
    if (root < 2)
      return FALSE;
    root -= 2;
  }
  if (cluster == 0 || fats == 0 || fats > 4 || fat_size == 0)
    return FALSE;
  return place (reserved + fats * fat_size, root, cluster, sector_size, offset);
}

gboolean
vma_layout_elsewhere (const guint8 sector[VMA_LAYOUT_SECTOR], guint64 *offset)
{
  guint32 sector_size = vma_get_le16 (sector + 0x0b);

  if (memcmp (sector + 3, "-FVE-FS-", 8) == 0) {
    *offset = vma_get_le64 (sector + 0xb0);
    return TRUE;
  }
  if (memcmp (sector + 3, "EXFAT   ", 8) == 0) {
    guint sector_shift = sector[0x6c], cluster_shift = sector[0x6d];
    guint32 root = vma_get_le32 (sector + 0x60);
    return sector_shift <= 12 && cluster_shift <= 25 && root >= 2
           && place (vma_get_le32 (sector + 0x58), root - 2,
                     G_GUINT64_CONSTANT (1) << cluster_shift,
                     G_GUINT64_CONSTANT (1) << sector_shift, offset);
  }
  if (!is_boot_record (sector) || sector_size < 256 || sector_size > 4096
      || (sector_size & (sector_size - 1)) != 0)
    return FALSE;
  if (memcmp (sector + 3, "NTFS    ", 8) == 0)
    return place (0, vma_get_le64 (sector + 0x30), ntfs_cluster (sector[0x0d]), sector_size,
                  offset);
  return fat_root (sector, offset);
}
