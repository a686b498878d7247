/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that QEMU writes to: NAME.cow and NAME.raw of each disk, in a mount of their own.
 *
 * Each write ends in the point, and is always acknowledged.  Data do not go through the page cache,
 * and writes of one file run in parallel.
 *
 * Owns the mount, its private folder, and the dead-man's thread.
 *
 * Locking: new and free by one thread; the rest by any.
 */
#pragma once

#include "backup/point.h"

#include <sys/types.h>

typedef struct VmaFiles VmaFiles;

typedef struct {
  VmaPoint *point;
  VmaTargetSink *sink;
  const char *const *names; /* of the disks */
  const guint64 *sizes;
  guint n_disks;
  gboolean allow_other;
  uid_t owner; /* of the files, with allow_other */
  guint request_timeout;
} VmaFilesOptions;

VmaFiles *vma_files_new (const VmaFilesOptions *options, GError **error);

/* FALSE where threads are stuck for good: then nothing that they use may be freed. */
gboolean vma_files_free (VmaFiles *files);

const char *vma_files_mountpoint (VmaFiles *files);
const char *vma_files_path (VmaFiles *files, guint disk, gboolean hook);

/* The point has failed: nobody waits any longer. */
void vma_files_release (VmaFiles *files);

typedef struct {
  guint64 bytes, requests, ns, max_ns; /* of hook writes */
} VmaFilesCounts;

void vma_files_get_counts (VmaFiles *files, guint disk, VmaFilesCounts *counts);
