/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that must wait for the index of their archive.
 *
 * A FUSE worker never waits: there are few of them, and `ls` has to answer while readers wait for the far end of
 * an archive.  A request that cannot be answered yet is parked here, and answered by a thread of this
 * module when the scan has come far enough; or with EINTR when the reader was interrupted, or the
 * mount ends.  The threads are started when the first request has to wait.
 *
 * Where the archive is on a server, its data are read here too, by as many threads as there are requests,
 * up to a bound; an interrupt cancels such a read.
 *
 * Any thread may park.
 */
#pragma once

#include "fuse/request.h"

/* `archive` is NULL where nothing ever has to wait. */
VmaParked *vma_parked_new (VmaArchive *archive);

/* Answers at once where it can, or later; until then it is a user of its archive. */
void vma_parked_submit (VmaParked *parked, const VmaRequest *request);

/* Requests that wait now. */
guint vma_parked_count (VmaParked *parked);

/* Answers all that wait with EINTR, now and from now on. */
void vma_parked_stop (VmaParked *parked);
void vma_parked_free (VmaParked *parked);
