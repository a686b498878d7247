/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who the files of a mount belong to: the owner of the archive, unless the options say otherwise;
 * and who may read the archive may read them.  Pure.
 */
#pragma once

#include "fuse/options.h"

#include <sys/stat.h>

typedef struct {
  uid_t uid;
  gid_t gid;
  mode_t mode; /* of files */
} VmaOwner;

static inline VmaOwner
vma_owner_of (const struct stat *archive, const VmaMountOptions *options)
{
  return (VmaOwner){
    .uid = options->has_uid ? options->uid : archive->st_uid,
    .gid = options->has_gid ? options->gid : archive->st_gid,
    .mode = options->has_mode ? options->mode : archive->st_mode & (options->overlay ? 0666 : 0444),
  };
}
