/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the index knows of one cluster, in 64 bits: byte offset in the archive (48), block mask (16).
 *
 * Byte offsets, not sectors, because a header need not be a multiple of 512 long and a salvaged
 * archive may have lost any number of bytes; 48 bits reach 256 TiB of archive.  Offsets below
 * the smallest header cannot occur, so small ones have meanings of their own.
 */
#pragma once

#include "vma/format.h"

#include <glib.h>

typedef guint64 VmaEntry;

#define VMA_ENTRY_MISSING ((VmaEntry) 0)       /* listed nowhere (so far) */
#define VMA_ENTRY_ZERO    ((VmaEntry) 1 << 16) /* listed, all zero */
#define VMA_ENTRY_BAD     ((VmaEntry) 2 << 16) /* listed, but what stands there is not to be trusted */
#define VMA_ENTRY_LOST    ((VmaEntry) 3 << 16) /* known once, but the saved index is damaged here */

#define VMA_MAX_OFFSET ((UINT64_C (1) << 48) - 1)

static inline VmaEntry
vma_entry_make (guint64 offset, guint16 mask)
{
  return mask == 0 ? VMA_ENTRY_ZERO : offset << 16 | mask;
}

static inline guint64
vma_entry_offset (VmaEntry entry)
{
  return entry >> 16;
}

static inline guint16
vma_entry_mask (VmaEntry entry)
{
  return (guint16) entry;
}

static inline gboolean
vma_entry_is_data (VmaEntry entry)
{
  return vma_entry_mask (entry) != 0;
}
