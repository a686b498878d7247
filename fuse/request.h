/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request of the kernel, with what it is about and what it asks for.
 *
 * Passed by value; those who keep it copy it.  On its way it may wait twice: until the archive is open
 * (then `serve` is called), and until the index knows the answer (then `answer` is).
 */
#pragma once

#include "fuse/mounted.h"

typedef struct VmaRequest VmaRequest;

struct VmaRequest {
  fuse_req_t req;
  VmaMounted *mounted; /* whoever passes the request on holds it */
  VmaNode *node;

  const char *name; /* lookup, getxattr */
  guint64 offset;
  gsize size;
  int whence;
  struct fuse_file_info file; /* open, opendir, read */

  void (*serve) (const VmaRequest *request); /* replies, or submits it to be answered */
  gboolean (*is_ready) (const VmaRequest *request);
  void (*answer) (const VmaRequest *request); /* replies */
};
