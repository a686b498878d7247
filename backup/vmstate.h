/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's RAM and device state at the point in time.
 *
 * QEMU writes them to a file that has its space beforehand, so that no trouble of the archive holds
 * the guest up: while the guest runs on where QEMU can protect memory from writes
 * (background-snapshot), else while it is paused.
 *
 * For the job's thread.
 */
#pragma once

#include "backup/graph.h"
#include "backup/target.h"

typedef struct VmaMemory VmaMemory;

/*
 * Makes the file next to `near` (a file; NULL, or no file: in /var/tmp), and asks what QEMU can do.
 */
VmaMemory *vma_memory_new (VmaGraph *graph, const char *near, GError **error);
void vma_memory_free (VmaMemory *memory);

gboolean vma_memory_is_live (VmaMemory *memory);
const char *vma_memory_why_not_live (VmaMemory *memory);

/* With the guest stopped: when this returns it may go on.  Ends early when the target fails. */
gboolean vma_memory_save (VmaMemory *memory, GCancellable *cancellable, VmaTarget *target,
                          GError **error);

/* Waits until all is in the file. */
gboolean vma_memory_wait (VmaMemory *memory, GCancellable *cancellable, VmaTarget *target,
                          GError **error);

/* Stops what is under way, and gives QEMU its settings back. */
void vma_memory_end (VmaMemory *memory);

/*
 * The same for a job that died: cancels, and sets the limit back to `bandwidth` (< 0: was not
 * changed; vma_memory_old_bandwidth() tells).
 */
void vma_memory_abandon (VmaQmp *qmp, gint64 bandwidth);
gint64 vma_memory_old_bandwidth (VmaMemory *memory);

/* At the beginning of what was saved. */
int vma_memory_fd (VmaMemory *memory);
