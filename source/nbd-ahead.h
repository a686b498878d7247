/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Read-ahead on an NBD server: readers that go forwards find the next blocks on their way already.
 *
 * Owns the blocks, at most some 96 MiB of them; one is let go when it has not been used for
 * longest.  Other reads go to the server as they are, and are kept by nobody.
 *
 * Locking: any thread may read; free() after the pool was freed, which ends the fetches.
 */
#pragma once

#include "source/nbd-client.h"

typedef struct VmaNbdAhead VmaNbdAhead;

VmaNbdAhead *vma_nbd_ahead_new (VmaNbd *nbd);
void vma_nbd_ahead_free (VmaNbdAhead *ahead);

/*
 * As vma_nbd_read(), from blocks that are there or under way where they are.  `data`: the reader
 * may be one that goes forwards; else nothing is fetched on its account.
 */
gboolean vma_nbd_ahead_read (VmaNbdAhead *ahead, void *buffer, gsize size, guint64 offset,
                             gboolean data, GCancellable *cancellable, GError **error);
