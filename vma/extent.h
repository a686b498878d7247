/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One extent header: which clusters follow it, and where in the extent each one's blocks stand.
 *
 * Owns the parsed form and the check of the header alone.  Whether its clusters fit the devices and
 * were not listed before is index/'s business.  Pure; any thread.  vma(5), "EXTENT".
 */
#pragma once

#include "vma/format.h"

#include <glib.h>

typedef struct {
  guint32 cluster;
  guint16 mask;   /* bit i: block i of the cluster is stored; others are zero */
  guint8 device;  /* 1..255, not checked against the archive's header */
  guint32 offset; /* of its first stored block, from the extent's start */
} VmaSlot;

typedef struct {
  guint32 size;    /* header and data, bytes */
  guint32 n_slots; /* used ones only, in the order of their data */
  VmaSlot slots[VMA_EXTENT_SLOTS];
} VmaExtent;

/* Blocks stored for `mask`.  Nearly all masks are one of the first two. */
static inline guint
vma_mask_blocks (guint16 mask)
{
  if (mask == 0)
    return 0;
  if (mask == VMA_FULL_MASK)
    return VMA_BLOCKS_PER_CLUSTER;
  return (guint) __builtin_popcount (mask);
}

/*
 * Parses the 512 bytes at `data` and checks magic, uuid, MD5, the reserved field, and that the
 * masks add up to block_count.  FALSE and VMA_ERROR_DAMAGED with a reason (and no offset: the
 * caller knows where it stands).
 */
gboolean vma_extent_parse (const guint8 data[VMA_EXTENT_HEADER_SIZE],
                           const guint8 uuid[VMA_UUID_SIZE], VmaExtent *extent, GError **error);

/*
 * The same where the caller already knows from vma_extent_checksum_is_right() that the MD5 is right.
 */
gboolean vma_extent_parse_checked (const guint8 data[VMA_EXTENT_HEADER_SIZE],
                                   const guint8 uuid[VMA_UUID_SIZE], VmaExtent *extent,
                                   GError **error);

/* Whether these 512 bytes begin as an extent header does, and their MD5 is right. */
gboolean vma_extent_checksum_is_right (const guint8 data[VMA_EXTENT_HEADER_SIZE]);

/*
 * The first place at or after data + from where an extent header of this archive may begin (magic and
 * uuid are right, nothing else was looked at), as an offset, or `size` where there is none.  Only
 * places whose first 24 bytes lie inside the buffer are found.
 */
gsize vma_extent_search (const guint8 *data, gsize size, gsize from,
                         const guint8 uuid[VMA_UUID_SIZE]);
