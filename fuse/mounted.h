/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An archive that is mounted: what a mount of one archive has once, and a mount of a directory for
 * each archive that is open.
 *
 * Owns the archive, the tree that it is shown as, the requests that wait for its index, the errors
 * its readers have met, and who its files belong to.  Nothing but counters changes after it was
 * opened.
 *
 * Its users are counted: requests under way, and open files.  Whoever may free it looks at that
 * first, and sees to it that nobody new comes.  Any thread may call anything but open and free.
 */
#pragma once

#include "fuse/errors.h"
#include "fuse/options.h"
#include "fuse/owner.h"
#include "fuse/parts.h"
#include "fuse/tree.h"
#include "overlay/overlay.h"

#include <stdatomic.h>
#include <sys/stat.h>

typedef struct VmaParked VmaParked;

typedef struct {
  const VmaMountOptions *options;
  char *source; /* the archive's absolute path: the daemon's directory changes */
  gboolean in_directory;
  gboolean growing;          /* a read may have to wait though the index knows the place */
  GCancellable *cancellable; /* ends reads that wait */
  VmaArchive *archive;       /* NULL: it cannot be opened, and `failure` says why */
  VmaOverlay *overlay;       /* NULL: read-only */
  VmaTree *tree;
  VmaParts *parts; /* NULL: not wanted */
  VmaReadErrors *errors;
  VmaParked *parked;
  char *failure; /* known when it was opened; NULL: none */
  char *notes, *log;
  int watched_fd; /* the archive, to see whether it is changed; -1: not watched */
  struct stat watched;
  VmaOwner owner;
  struct timespec mtime; /* the file's */
  _Atomic guint64 reads, read_bytes;
  atomic_uint users;
  _Atomic gint64 last_used; /* monotonic, us */
} VmaMounted;

/* How an archive is mounted that is one of a directory. */
typedef struct {
  fuse_ino_t first;        /* inode number of its root */
  gboolean growing;        /* it is still being written: as with -o follow */
  const char *failure;     /* what was wrong with it the last time, or NULL */
  const char *notes, *log; /* paths of the files that may stand beside it */
  const struct stat *file; /* what is to be opened: if it is anything else, nothing is */
  GCancellable *cancellable;
} VmaMountedPlace;

/*
 * Opens the archive at `path`; its index is not started.  `place` is NULL for a mount of its own.
 * NULL and an error with the path in front.  The options must outlive it.
 */
VmaMounted *vma_mounted_open (const char *path, const VmaMountOptions *options,
                              const VmaMountedPlace *place, GError **error);

/* In the place of an archive that cannot be opened: a tree that says why. */
VmaMounted *vma_mounted_broken (const char *path, const VmaMountOptions *options,
                                const VmaMountedPlace *place, const GError *failure);

/* Answers all requests that wait in it with EINTR, now and from now on. */
void vma_mounted_stop (VmaMounted *mounted);

/* Stops what is under way in it; nobody may use it any more. */
void vma_mounted_free (VmaMounted *mounted);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaMounted, vma_mounted_free)

/* One user more, on behalf of one that is there already; one user less. */
void vma_mounted_hold (VmaMounted *mounted);
void vma_mounted_release (VmaMounted *mounted);

/*
 * FALSE with an error where the archive's file was changed since it was opened: what was read from
 * it is not to be believed.
 */
gboolean vma_mounted_check_unchanged (VmaMounted *mounted, GError **error);

/* Why the archive cannot be read to its end, as far as is known, in a line; NULL: it can.  The
 * caller frees it. */
char *vma_mounted_dup_failure (VmaMounted *mounted);

/* The text of .vmafs/status (JSON) and .vmafs/errors (status.c). */
GBytes *vma_mounted_status (VmaMounted *mounted);
GBytes *vma_mounted_error_list (VmaMounted *mounted);
