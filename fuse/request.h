/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request of the kernel, with what it is about and what it asks for.
 *
 * Passed by value; those who keep it copy it.  On its way it may wait twice: until the archive is
 * open (then `serve` is called), and until the index knows the answer (then `answer` is).
 */
#pragma once

#include "fuse/mounted.h"

typedef struct VmaRequest VmaRequest;
typedef struct VmaDirectory VmaDirectory;

struct VmaRequest {
  fuse_req_t req;
  VmaMounted *mounted; /* whoever passes the request on holds it */
  VmaNode *node;
  fuse_ino_t ino;

  const char *name; /* lookup, getxattr */
  guint64 offset;
  gsize size;
  guint64 length; /* fallocate */
  int whence, mode;
  const char *data;           /* write: whoever keeps the request keeps a copy */
  struct fuse_file_info file; /* open, opendir, read */

  gboolean reads_archive;    /* its answer may take as long as a server takes */
  GCancellable *cancellable; /* of such an answer, or NULL; parked.c */

  void (*serve) (const VmaRequest *request); /* replies, or submits it to be answered */
  /* Replies where a mount of a directory is asked for what is not in an archive.  NULL: EINVAL. */
  void (*serve_top) (VmaDirectory *directory, const VmaRequest *request);
  gboolean unopened; /* serve_top also knows it of an archive's directory, without opening it */
  gboolean may_wait; /* even when it is ready: not to be answered by a FUSE worker */
  gboolean (*is_ready) (const VmaRequest *request);
  void (*answer) (const VmaRequest *request); /* replies */
};

/* Has a request answered now, or when its archive's index knows enough. */
void vma_request_submit (const VmaRequest *request,
                         gboolean (*is_ready) (const VmaRequest *request),
                         void (*answer) (const VmaRequest *request));

/* What can be cancelled of an answer is over: before its reply, as nothing of the request is left then. */
void vma_request_settle (const VmaRequest *request);

/*
 * Replies with the errno value that fits: EIO for whatever cannot be read, which is also logged; a
 * reader that was interrupted is told just that.
 */
void vma_request_fail (const VmaRequest *request, const GError *error);

/* Has a request served in an archive that is open (route.c).  The caller holds it. */
void vma_request_serve (const VmaRequest *request, VmaMounted *mounted);
