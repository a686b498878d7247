/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mount: what it shows, and the session with the kernel.  Passed to every request as its user data.
 *
 * Nothing of it changes while it serves, but for `answered`.
 */
#pragma once

#include "fuse/daemon.h"
#include "fuse/directory.h"
#include "fuse/keeper.h"
#include "fuse/mounted.h"
#include "fuse/request.h"

typedef struct {
  /* Either of: */
  VmaMounted *mounted;
  VmaDirectory *directory;

  VmaDaemon *daemon;
  VmaKeeper *keeper;
  const VmaMountOptions *options;
  int readahead_fd;     /* -1: nothing to set */
  atomic_bool answered; /* a request came: INIT is over */
} VmaMount;

/* The requests the driver answers (fs.c). */
extern const struct fuse_lowlevel_ops vma_fs_ops;

/*
 * Finds what inode `ino` is, fills in `mounted` (with one user more), `node` and `ino`, and has the request
 * served; what it asks for need not be open yet, so that this may happen later, on another thread.  An
 * inode that there is not is answered with an error (route.c).
 */
void vma_mount_route (VmaMount *mount, fuse_ino_t ino, const VmaRequest *request);

/* The mounted archive that an open file belongs to. */
VmaMounted *vma_mount_of_open_file (VmaMount *mount, fuse_ino_t ino);
