/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that change a file, for the table in fs.c.  They come only where there is an overlay. */
#pragma once

#include "fuse/mount.h"

void vma_fs_write (fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                   struct fuse_file_info *fi);
void vma_fs_fsync (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void vma_fs_fallocate (fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t size,
                       struct fuse_file_info *fi);
void vma_fs_setattr (fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int to_set,
                     struct fuse_file_info *fi);
