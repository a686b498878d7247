/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of an overlay file: where everything stands, and the header.
 *
 *   0        header, VMA_OVERLAY_HEADER_SIZE bytes, with a checksum; never changes
 *   64 KiB   for each disk a bitmap, a bit for each block of 4 KiB: bit 0 of byte 0 is block 0.
 *            1: the block is in this file; 0: it is the archive's
 *   ...      for each disk its blocks, each at its own place; a hole is zeros
 *
 * All places follow from the sizes of the disks.  A header is never taken apart: the one that the
 * archive at hand would get is made, and compared.  Integers are little-endian.
 *
 * Pure: no I/O, any thread.
 */
#pragma once

#include "image/archive.h"

#define VMA_OVERLAY_MAGIC "VMAFSOVL"
#define VMA_OVERLAY_VERSION 1u
#define VMA_OVERLAY_HEADER_SIZE 16384u

typedef struct {
  guint8 device;
  guint64 size;        /* bytes */
  guint64 map_offset;  /* in the file */
  guint64 map_size;    /* bytes, a multiple of VMA_BLOCK_SIZE */
  guint64 data_offset; /* in the file */
} VmaOverlayPlace;

typedef struct {
  guint n;
  VmaOverlayPlace places[VMA_MAX_DEVICES];
  guint64 map_end; /* the bitmaps end here */
  guint64 size;    /* of the file */
} VmaOverlayLayout;

/* For the disks of an archive: all devices but vmstate. */
void vma_overlay_layout (VmaOverlayLayout *layout, const VmaHeader *header);

/* The header of an overlay for this archive. */
void vma_overlay_header (const VmaOverlayLayout *layout, const VmaHeader *header,
                         const VmaSourceIdentity *identity, guint8 bytes[VMA_OVERLAY_HEADER_SIZE]);

/*
 * Whether the header `found` in a file is the one `wanted`; VMA_ERROR_INVALID says in what way it
 * is not.
 */
gboolean vma_overlay_header_check (const guint8 found[VMA_OVERLAY_HEADER_SIZE],
                                   const guint8 wanted[VMA_OVERLAY_HEADER_SIZE], GError **error);
