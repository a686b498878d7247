/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mount: an archive, the tree it is shown as, and what was read from it.  Passed to every
 * request as its user data.
 *
 * Nothing but the counters changes while the mount serves; those are atomic.
 */
#pragma once

#include "fuse/daemon.h"
#include "fuse/errors.h"
#include "fuse/options.h"
#include "fuse/tree.h"

#include <stdatomic.h>

typedef struct VmaParked VmaParked;

typedef struct {
  VmaArchive *archive;
  VmaTree *tree;
  VmaReadErrors *errors;
  VmaParked *parked;
  VmaDaemon *daemon;
  const VmaMountOptions *options;
  const char *source;   /* the archive's absolute path: the daemon's directory changes */
  uid_t uid;
  gid_t gid;
  mode_t mode;          /* of files */
  int readahead_fd;     /* -1: nothing to set */
  atomic_bool answered; /* a request came: INIT is over */
  _Atomic guint64 reads, read_bytes;
} VmaMount;

/* The requests the driver answers (fs.c). */
extern const struct fuse_lowlevel_ops vma_fs_ops;

/* The text of .vmafs/status (JSON) and .vmafs/errors (status.c). */
GBytes *vma_mount_status (VmaMount *mount);
GBytes *vma_mount_error_list (VmaMount *mount);
