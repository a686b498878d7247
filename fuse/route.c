/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/mount.h"

#include <errno.h>

void
vma_mount_route (VmaMount *mount, fuse_ino_t ino, const VmaRequest *request)
{
  VmaRequest routed = *request;

  routed.mounted = mount->mounted;
  routed.node = vma_tree_node (routed.mounted->tree, ino);
  if (routed.node == NULL) {
    fuse_reply_err (request->req, ENOENT);
    return;
  }
  vma_mounted_hold (routed.mounted);
  routed.serve (&routed);
  vma_mounted_release (routed.mounted);
}

VmaMounted *
vma_mount_of_open_file (VmaMount *mount, fuse_ino_t ino, VmaNode **node)
{
  *node = vma_tree_node (mount->mounted->tree, ino);
  return mount->mounted;
}
