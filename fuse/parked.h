/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that must wait for the index.
 *
 * A FUSE worker never waits: there are few of them, and `ls` has to answer while readers wait for the far end of
 * an archive.  A request that cannot be answered yet is parked here, and answered by a thread of this
 * module when the scan has come far enough; or with EINTR when the reader was interrupted, or the
 * mount ends.
 *
 * Any thread may park.
 */
#pragma once

#include "fuse/mount.h"

/* A request and what it asks for. */
typedef struct VmaRequest VmaRequest;
struct VmaRequest {
  fuse_req_t req;
  VmaMount *mount;
  VmaNode *node;
  guint64 offset;
  gsize size;
  int whence;

  gboolean (*is_ready) (const VmaRequest *request);
  void (*answer) (const VmaRequest *request); /* replies */
};

VmaParked *vma_parked_new (VmaArchive *archive);

/* Answers at once where it can, or later. */
void vma_parked_submit (VmaParked *parked, const VmaRequest *request);

/* Requests that wait now. */
guint vma_parked_count (VmaParked *parked);

/* Answers all that wait with EINTR, now and from now on. */
void vma_parked_stop (VmaParked *parked);
void vma_parked_free (VmaParked *parked);
