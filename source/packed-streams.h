/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells readers that go forwards from those that jump, to know what to decode ahead.
 *
 * Any thread: has its own lock.
 */
#pragma once

#include <glib.h>

typedef struct VmaStreams VmaStreams;

VmaStreams *vma_streams_new (void);
void vma_streams_free (VmaStreams *streams);

/*
 * A read of `n` bytes at `offset`, in chunk `index`.  TRUE where it belongs to a reader that goes
 * forwards and chunks from *first to index + depth have not been asked for yet on its behalf.
 */
gboolean vma_streams_note (VmaStreams *streams, guint64 offset, gsize n, guint64 index,
                           guint depth, guint64 *first);
