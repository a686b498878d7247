/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/attributes.h"

#include "fuse/text.h"
#include "fuse/volume.h"

#include <string.h>
#include <uuid/uuid.h>

#define PREFIX_XATTR "user.vmafs."

/*
 * st_blocks counts what is stored; clusters that cannot be read count as stored, or `tar -S` would take
 * them for holes.  While the scan runs nobody knows, and for a part of a disk nobody counts: then the
 * whole size, which makes nobody skip anything.
 */
static guint64
image_blocks (VmaMounted *mounted, const VmaNode *node, guint64 size)
{
  VmaImage *image = node->image;
  VmaIndex *index = vma_archive_index (vma_image_archive (image));
  guint8 id = vma_image_device (image)->id;
  VmaDeviceCounts counts;

  if (vma_index_state (index) == VMA_INDEX_BUILDING || vma_image_is_window (image))
    return (size + 511) / 512;
  vma_index_get_device_counts (index, id, &counts);
  guint64 unreadable = counts.bad + vma_index_missing (index, id);
  guint64 below = counts.blocks + unreadable * VMA_BLOCKS_PER_CLUSTER;
  return vma_volume_stored_blocks (mounted, node, below) * (VMA_BLOCK_SIZE / 512);
}

static gsize
error_size (VmaMounted *mounted)
{
  g_autofree char *failure = vma_mounted_dup_failure (mounted);

  return failure != NULL ? strlen (failure) + 1 : 0;
}

/* A file beside the archive has its own attributes; who may not read the archive may not read it. */
static void
beside_stat (VmaMounted *mounted, const VmaNode *node, struct stat *st)
{
  struct stat file;

  if (!vma_text_stat_file (node->path, &file))
    return;
  VmaOwner owner = vma_owner_of (&file, mounted->options);
  st->st_uid = owner.uid;
  st->st_gid = owner.gid;
  st->st_mode = S_IFREG | owner.mode;
  st->st_size = file.st_size;
  st->st_blocks = (file.st_size + 511) / 512;
  st->st_mtim = st->st_ctim = st->st_atim = file.st_mtim;
}

double
vma_node_stat (VmaMounted *mounted, VmaNode *node, struct stat *st)
{
  double valid = VMA_FOREVER;
  guint64 size = 0;

  *st = (struct stat){
    .st_ino = node->ino,
    .st_uid = mounted->owner.uid,
    .st_gid = mounted->owner.gid,
    .st_nlink = 1,
    .st_mode = S_IFREG | mounted->owner.mode,
    .st_blksize = mounted->options->direct_io ? (blksize_t) VMA_MAX_READ : 65536,
  };
  if (mounted->archive != NULL)
    st->st_mtime = st->st_ctime = st->st_atime
        = (time_t) vma_archive_header (mounted->archive)->ctime;
  else
    st->st_mtim = st->st_ctim = st->st_atim = mounted->mtime;

  switch (node->kind) {
  case VMA_NODE_DIR:
    st->st_mode = S_IFDIR | mounted->owner.mode | (mounted->owner.mode & 0444) >> 2;
    st->st_nlink = node->parent == node ? 3 : 2;
    break;
  case VMA_NODE_IMAGE:
    vma_image_size (node->image, &size, NULL, NULL); /* known: the request was parked until then */
    st->st_size = (off_t) size;
    st->st_blocks = (blkcnt_t) image_blocks (mounted, node, size);
    if (vma_index_state (vma_archive_index (mounted->archive)) == VMA_INDEX_BUILDING)
      valid = 0;
    if (mounted->overlay != NULL)
      valid = 0;
    if (vma_volume_mtime (mounted, node) > st->st_mtime)
      st->st_mtime = st->st_ctime = (time_t) vma_volume_mtime (mounted, node);
    break;
  case VMA_NODE_TEXT:
    st->st_size = (off_t) g_bytes_get_size (node->text);
    st->st_blocks = (st->st_size + 511) / 512;
    break;
  case VMA_NODE_STATUS:
  case VMA_NODE_ERRORS:
    valid = 0;
    break;
  case VMA_NODE_ERROR:
    st->st_size = (off_t) error_size (mounted);
    valid = 0;
    break;
  case VMA_NODE_BESIDE:
    beside_stat (mounted, node, st);
    valid = 0;
    break;
  }
  if (!vma_volume_is_writable (mounted, node))
    st->st_mode &= ~(mode_t) 0222;
  return valid;
}

gboolean
vma_node_exists (VmaMounted *mounted, const VmaNode *node)
{
  struct stat st;

  switch (node->kind) {
  case VMA_NODE_ERROR:
    return error_size (mounted) > 0;
  case VMA_NODE_BESIDE:
    return vma_text_stat_file (node->path, &st);
  default:
    return TRUE;
  }
}

char *
vma_node_xattr (VmaMounted *mounted, const VmaNode *node, const char *name)
{
  char uuid[UUID_STR_LEN];

  if (node->kind != VMA_NODE_IMAGE)
    return NULL;
  const VmaDevice *device = vma_image_device (node->image);
  if (strcmp (name, PREFIX_XATTR "uuid") == 0) {
    uuid_unparse_lower (vma_archive_header (mounted->archive)->uuid, uuid);
    return g_strdup (uuid);
  }
  if (strcmp (name, PREFIX_XATTR "device") == 0)
    return g_strdup (device->name);
  if (strcmp (name, PREFIX_XATTR "device-id") == 0)
    return g_strdup_printf ("%u", device->id);
  return NULL;
}

const char *
vma_node_xattr_names (const VmaNode *node, gsize *size)
{
  static const char names[] = PREFIX_XATTR "uuid\0" PREFIX_XATTR "device\0" PREFIX_XATTR
                                           "device-id";

  *size = node->kind == VMA_NODE_IMAGE ? sizeof names : 0;
  return names;
}
