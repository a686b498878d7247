/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An archive that is mounted: what a mount of one archive has once, and a mount of a directory for each
 * archive that is open.
 *
 * Owns the archive, the tree that it is shown as, the requests that wait for its index, the errors its
 * readers have met, and who its files belong to.  Nothing but counters changes after it was opened.
 *
 * Its users are counted: requests under way, and open files.  Whoever may free it looks at that first,
 * and sees to it that nobody new comes.  Any thread may call anything but open and free.
 */
#pragma once

#include "fuse/errors.h"
#include "fuse/options.h"
#include "fuse/parts.h"
#include "fuse/tree.h"
#include "overlay/overlay.h"

#include <stdatomic.h>

typedef struct VmaParked VmaParked;

typedef struct {
  const VmaMountOptions *options;
  char *source; /* the archive's absolute path: the daemon's directory changes */
  VmaArchive *archive;
  VmaOverlay *overlay; /* NULL: read-only */
  VmaTree *tree;
  VmaParts *parts;     /* NULL: not wanted */
  VmaReadErrors *errors;
  VmaParked *parked;
  uid_t uid;
  gid_t gid;
  mode_t mode; /* of files */
  _Atomic guint64 reads, read_bytes;
  atomic_uint users;
} VmaMounted;

/*
 * Opens the archive at `path`; its index is not started.  NULL and an error with the path in front.  The
 * options must outlive it.
 */
VmaMounted *vma_mounted_open (const char *path, const VmaMountOptions *options, GError **error);

/* Stops what is under way in it; nobody may use it any more. */
void vma_mounted_free (VmaMounted *mounted);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaMounted, vma_mounted_free)

/* One user more, on behalf of one that is there already; one user less. */
void vma_mounted_hold (VmaMounted *mounted);
void vma_mounted_release (VmaMounted *mounted);

/* The text of .vmafs/status (JSON) and .vmafs/errors (status.c). */
GBytes *vma_mounted_status (VmaMounted *mounted);
GBytes *vma_mounted_error_list (VmaMounted *mounted);
