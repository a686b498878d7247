/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -o parts: finds the partitions of an archive's disks, and shows each as a file.
 *
 * Works in a thread of its own, since it has to wait for the index; when it is done the files appear in
 * the tree, all at once.  Owns the windows.  Any thread may call anything but new and free.
 */
#pragma once

#include "fuse/tree.h"

typedef struct VmaParts VmaParts;

/* Both must outlive it. */
VmaParts *vma_parts_new (VmaArchive *archive, VmaTree *tree);

/* Sees to it that the search is under way, and the archive's index with it. */
void vma_parts_start (VmaParts *parts);

/* Waits until the search is over; `timeout_ms` < 0 is for ever. */
void vma_parts_wait (VmaParts *parts, gint64 timeout_ms);

/* Whether the search is over. */
gboolean vma_parts_is_finished (VmaParts *parts);

/* Stops the search, and waits for that.  Nobody may use the windows any more. */
void vma_parts_free (VmaParts *parts);
