/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The top of a mount of a directory: the requests that are not about what is in an archive.
 *
 *   /              a directory for each archive
 *   /NAME          (from outside: an archive's own requests go to its tree)
 *   /.vmafs        not listed
 *   /.vmafs/status, /.vmafs/errors
 *
 * Each function replies.  Any thread.
 */
#pragma once

#include "fuse/directory.h"

void vma_top_lookup (VmaDirectory *directory, const VmaRequest *request);
void vma_top_getattr (VmaDirectory *directory, const VmaRequest *request);
void vma_top_statfs (VmaDirectory *directory, const VmaRequest *request);
void vma_top_opendir (VmaDirectory *directory, const VmaRequest *request);
void vma_top_readdir (VmaDirectory *directory, const VmaRequest *request);
void vma_top_open (VmaDirectory *directory, const VmaRequest *request);
void vma_top_read (VmaDirectory *directory, const VmaRequest *request);
void vma_top_xattr (VmaDirectory *directory, const VmaRequest *request);

/* What an open directory or file of ours holds, goes. */
void vma_top_releasedir (const struct fuse_file_info *file);
void vma_top_release (const struct fuse_file_info *file);
