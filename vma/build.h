/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making the bytes of a header and of extent headers: the reverse of header.h and extent.h.
 *
 * Pure, no I/O.  A VmaHeaderBuilder belongs to one thread.  What it makes passes every check of
 * vma_header_parse() and of the reference reader.
 */
#pragma once

#include "vma/extent.h"
#include "vma/header.h"

typedef struct VmaHeaderBuilder VmaHeaderBuilder;

VmaHeaderBuilder *vma_header_builder_new (const guint8 uuid[VMA_UUID_SIZE], gint64 ctime);
void vma_header_builder_free (VmaHeaderBuilder *builder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaHeaderBuilder, vma_header_builder_free)

/*
 * FALSE and VMA_ERROR_INVALID where the format's limits (256 configs, 65535 bytes for data and for the
 * name with its NUL) do not allow it, or the name is empty or taken.
 */
gboolean vma_header_builder_add_config (VmaHeaderBuilder *builder, const char *name,
                                        const guint8 *data, gsize size, GError **error);

/* The new device's id, 1..254; 0 and VMA_ERROR_INVALID as above, or where the size is 0 or too large. */
guint8 vma_header_builder_add_device (VmaHeaderBuilder *builder, const char *name, guint64 size,
                                      GError **error);

/* The header's bytes; their number is a multiple of 512. */
GBytes *vma_header_builder_finish (VmaHeaderBuilder *builder);

/*
 * Writes the header of an extent with these slots, whose data follow in this order.  n <= 59;
 * slots[].offset is not looked at.
 */
void vma_extent_encode (guint8 data[VMA_EXTENT_HEADER_SIZE], const guint8 uuid[VMA_UUID_SIZE],
                        const VmaSlot *slots, guint n);
