/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/mount.h"
#include "fuse/parked.h"

#include <errno.h>

static gboolean
parts_are_known (const VmaRequest *request)
{
  return vma_parts_is_finished (request->mounted->parts);
}

static void
serve_part (const VmaRequest *request)
{
  VmaRequest found = *request;

  found.node = vma_tree_node (request->mounted->tree, request->ino);
  if (found.node != NULL)
    found.serve (&found);
  else
    fuse_reply_err (request->req, ENOENT);
}

/* The partition was known when the archive was open before, and will be known again. */
static void
wait_for_parts (const VmaRequest *request)
{
  VmaRequest waiting = *request;

  vma_parts_start (request->mounted->parts);
  waiting.is_ready = parts_are_known;
  waiting.answer = serve_part;
  vma_parked_submit (request->mounted->parked, &waiting);
}

void
vma_request_serve (const VmaRequest *request, VmaMounted *mounted)
{
  VmaRequest routed = *request;

  routed.mounted = mounted;
  routed.node = vma_tree_node (mounted->tree, request->ino);
  if (routed.node != NULL)
    routed.serve (&routed);
  else if (mounted->parts != NULL)
    wait_for_parts (&routed);
  else
    fuse_reply_err (request->req, ENOENT);
}

void
vma_mount_route (VmaMount *mount, fuse_ino_t ino, const VmaRequest *request)
{
  VmaRequest routed = *request;

  routed.ino = ino;
  if (mount->directory != NULL) {
    vma_directory_route (mount->directory, &routed);
    return;
  }
  vma_mounted_hold (mount->mounted);
  vma_request_serve (&routed, mount->mounted);
  vma_mounted_release (mount->mounted);
}

VmaMounted *
vma_mount_of_open_file (VmaMount *mount, fuse_ino_t ino)
{
  return mount->directory != NULL ? vma_directory_of_open_file (mount->directory, ino)
                                  : mount->mounted;
}
