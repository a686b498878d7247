/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extent headers fetched ahead of a scan, where a read takes long: several chains are followed at once.
 *
 * The archive behind the scan's position is cut into segments.  A thread takes a segment, finds a header in
 * it (at the place where it would be if all extents were full; else by searching), and follows the chain
 * from there.  What it finds is only bytes at an offset: the scan goes its way as ever, checks everything, and
 * saves the time of reading.  A false header among a guest's data leads to bytes that nobody asks for.
 *
 * Owns its threads and the headers not yet asked for, at most 8 MiB a thread (1 MiB, where it is far).
 *
 * Locking: belongs to the thread that scans; the lock inside is between that one and its own threads.
 */
#pragma once

#include "source/source.h"
#include "vma/format.h"

typedef struct VmaAhead VmaAhead;

/*
 * From `position`, a header's place, to the end at `size`.  `source` outlives it.  `far`: an answer takes so
 * long that it is better to wait for a thread than to read for oneself, and that bytes matter less.
 */
VmaAhead *vma_ahead_new (VmaSource *source, const guint8 uuid[VMA_UUID_SIZE], guint64 position,
                         guint64 size, guint n_threads, gboolean far);

/* Cancels what is under way, and waits for that. */
void vma_ahead_free (VmaAhead *ahead);

/*
 * The 512 bytes at `offset`, if they are there; offsets only grow.  Where a thread is about to
 * read them it is sent elsewhere, and the caller reads; or, if it is far, waits for them.
 */
gboolean vma_ahead_take (VmaAhead *ahead, guint64 offset, guint8 *header,
                         GCancellable *cancellable);
