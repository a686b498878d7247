/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/fs-write.h"

#include "fuse/attributes.h"
#include "fuse/volume.h"

#include <errno.h>
#include <linux/falloc.h>

static VmaMount *
mount_of (fuse_req_t req)
{
  return fuse_req_userdata (req);
}

/* Replies with an error where the file is not one to be changed. */
static gboolean
check_writable (const VmaRequest *request)
{
  if (vma_volume_is_writable (request->mounted, request->node))
    return TRUE;
  fuse_reply_err (request->req, EROFS);
  return FALSE;
}

static gboolean
write_is_ready (const VmaRequest *request)
{
  return vma_volume_is_ready_to_write (request->mounted, request->node, request->offset,
                                       request->size);
}

/* --- write ------------------------------------------------------------------------------------ */

static void
answer_write (const VmaRequest *request)
{
  g_autoptr (GError) error = NULL;
  gssize n = vma_volume_pwrite (request->mounted, request->node, request->data, request->size,
                                request->offset, &error);

  vma_request_settle (request);
  if (n < 0)
    vma_request_fail (request, error);
  else
    fuse_reply_write (request->req, (gsize)n);
}

static void
serve_write (const VmaRequest *request)
{
  if (check_writable (request))
    vma_request_submit (request, write_is_ready, answer_write);
}

void
vma_fs_write (fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
              struct fuse_file_info *fi)
{
  VmaRequest request = {
    .req = req,
    .file = *fi,
    .data = data,
    .offset = (guint64)offset,
    .size = size,
    .reads_archive = TRUE, /* where a block is written in part */
    .serve = serve_write,
  };

  vma_mount_route (mount_of (req), ino, &request);
}

/* --- fsync ------------------------------------------------------------------------------------ */

static void
serve_fsync (const VmaRequest *request)
{
  g_autoptr (GError) error = NULL;

  if (request->mounted->overlay != NULL && !vma_overlay_sync (request->mounted->overlay, &error))
    vma_request_fail (request, error);
  else
    fuse_reply_err (request->req, 0);
}

void
vma_fs_fsync (fuse_req_t req, fuse_ino_t ino, int datasync G_GNUC_UNUSED,
              struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaRequest request = { .req = req, .serve = serve_fsync };

  vma_mount_route (mount_of (req), ino, &request);
}

/* --- fallocate -------------------------------------------------------------------------------- */

static void
answer_zero (const VmaRequest *request)
{
  g_autoptr (GError) error = NULL;

  if (vma_volume_zero (request->mounted, request->node, request->offset, request->length, &error))
    fuse_reply_err (request->req, 0);
  else
    vma_request_fail (request, error);
}

static gboolean
zero_is_ready (const VmaRequest *request)
{
  return vma_volume_is_ready_to_write (request->mounted, request->node, request->offset,
                                       request->length);
}

static void
serve_fallocate (const VmaRequest *request)
{
  guint64 size;

  if (!check_writable (request))
    return;
  vma_image_size (request->node->image, &size, NULL, NULL); /* no vmstate: it is known */
  if ((request->mode & FALLOC_FL_KEEP_SIZE) == 0
      && (request->offset > size || request->length > size - request->offset))
    fuse_reply_err (request->req, EFBIG);
  else
    vma_request_submit (request, zero_is_ready, answer_zero);
}

/* Only what makes zeros: space is not given out beforehand. */
void
vma_fs_fallocate (fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t size,
                  struct fuse_file_info *fi)
{
  VmaRequest request = {
    .req = req,
    .file = *fi,
    .offset = (guint64)offset,
    .length = (guint64)size,
    .mode = mode,
    .serve = serve_fallocate,
  };
  int kind = mode & ~FALLOC_FL_KEEP_SIZE;

  if (offset < 0 || size <= 0)
    fuse_reply_err (req, EINVAL);
  else if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) && kind != FALLOC_FL_ZERO_RANGE)
    fuse_reply_err (req, EOPNOTSUPP);
  else
    vma_mount_route (mount_of (req), ino, &request);
}

/* --- attributes ------------------------------------------------------------------------------- */

/* A disk keeps its size, as a block device does, and its owner.  Times may be set, to no effect. */
static void
serve_setattr (const VmaRequest *request)
{
  struct stat st;

  if (!check_writable (request))
    return;
  double valid = vma_node_stat (request->mounted, request->node, &st);
  if ((request->mode & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0
      || ((request->mode & FUSE_SET_ATTR_SIZE) != 0 && request->offset != (guint64)st.st_size))
    fuse_reply_err (request->req, EPERM);
  else
    fuse_reply_attr (request->req, &st, valid);
}

void
vma_fs_setattr (fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int to_set,
                struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaRequest request = {
    .req = req,
    .mode = to_set,
    .offset = (guint64)wanted->st_size,
    .serve = serve_setattr,
  };

  vma_mount_route (mount_of (req), ino, &request);
}
