/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where on a disk the bytes stand that tell what is on it, as far as that is not always the same place.
 *
 * libblkid reads from a descriptor, and gets one in which only these bytes are filled in (sketch.h).
 * Nothing is concluded here: a wrong place costs a label, never an answer.  Pure; input is hostile.
 */
#pragma once

#include <glib.h>

#define VMA_LAYOUT_SECTOR 512u

/*
 * The extended partition of a boot record, in its sectors; FALSE where it has none.  In the record of a
 * logical partition that is the link to the next one, relative to the first.
 */
gboolean vma_layout_extended (const guint8 record[VMA_LAYOUT_SECTOR], guint32 *start);

/* The starts of primary partitions, in sectors: up to four; tables may be nested in them. */
guint vma_layout_primaries (const guint8 record[VMA_LAYOUT_SECTOR], guint32 starts[4]);

/*
 * What a file system's first sector says of where it has what else is needed: the file table of NTFS, the
 * root directory of FAT and exFAT, the header of BitLocker.  An offset in the file system, which may lie
 * anywhere; FALSE for others.
 */
gboolean vma_layout_elsewhere (const guint8 sector[VMA_LAYOUT_SECTOR], guint64 *offset);
