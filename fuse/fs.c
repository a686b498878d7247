/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file system: each FUSE request, answered from the tree and its images.  The only place where
 * errors become errno values.
 */
#include "fuse/mount.h"

#include "fuse/parked.h"
#include "vma/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#define MAX_READ       (1024u * 1024u)
#define FOREVER        86400.0 /* nothing here changes */
#define PREFIX_XATTR   "user.vmafs."

static VmaMount *
mount_of (fuse_req_t req)
{
  return fuse_req_userdata (req);
}

/* EIO for whatever cannot be read; a reader that was interrupted is told just that. */
static int
errno_of (const GError *error)
{
  return g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED) ? EINTR : EIO;
}

/* The node of a request, or an error reply. */
static VmaNode *
node_of (fuse_req_t req, fuse_ino_t ino)
{
  VmaNode *node = vma_tree_node (mount_of (req)->tree, ino);

  if (node == NULL)
    fuse_reply_err (req, ENOENT);
  return node;
}

/* --- attributes -------------------------------------------------------------------------------- */

/*
 * st_blocks counts what is stored; clusters that cannot be read count as stored, or `tar -S` would take
 * them for holes.  While the scan runs nobody knows: then the whole size, which makes nobody skip
 * anything.
 */
static guint64
image_blocks (VmaImage *image, guint64 size)
{
  VmaIndex *index = vma_archive_index (vma_image_archive (image));
  guint8 id = vma_image_device (image)->id;
  VmaDeviceCounts counts;

  if (vma_index_state (index) == VMA_INDEX_BUILDING)
    return (size + 511) / 512;
  vma_index_get_device_counts (index, id, &counts);
  guint64 unreadable = counts.bad + vma_index_missing (index, id);
  return (counts.blocks + unreadable * VMA_BLOCKS_PER_CLUSTER) * (VMA_BLOCK_SIZE / 512);
}

/* Fills *st and returns for how many seconds it holds. */
static double
node_stat (VmaMount *mount, VmaNode *node, struct stat *st)
{
  double valid = FOREVER;
  guint64 size = 0;

  *st = (struct stat){
    .st_ino = node->ino,
    .st_uid = mount->uid,
    .st_gid = mount->gid,
    .st_nlink = 1,
    .st_mode = S_IFREG | mount->mode,
    .st_blksize = mount->options->direct_io ? (blksize_t) MAX_READ : 65536,
  };
  st->st_mtime = st->st_ctime = st->st_atime
      = (time_t) vma_archive_header (mount->archive)->ctime;

  switch (node->kind) {
  case VMA_NODE_DIR:
    st->st_mode = S_IFDIR | mount->mode | (mount->mode & 0444) >> 2;
    st->st_nlink = node->parent == node ? 3 : 2;
    break;
  case VMA_NODE_IMAGE:
    vma_image_size (node->image, &size, NULL, NULL); /* known: the request was parked until then */
    st->st_size = (off_t) size;
    st->st_blocks = (blkcnt_t) image_blocks (node->image, size);
    if (vma_index_state (vma_archive_index (mount->archive)) == VMA_INDEX_BUILDING)
      valid = 0;
    break;
  case VMA_NODE_TEXT:
    st->st_size = (off_t) g_bytes_get_size (node->text);
    st->st_blocks = (st->st_size + 511) / 512;
    break;
  case VMA_NODE_STATUS:
  case VMA_NODE_ERRORS:
    valid = 0;
    break;
  }
  return valid;
}

static gboolean
stat_is_ready (const VmaRequest *request)
{
  return request->node->kind != VMA_NODE_IMAGE || vma_image_size_is_known (request->node->image);
}

static void
answer_lookup (const VmaRequest *request)
{
  struct fuse_entry_param entry = { .ino = request->node->ino, .entry_timeout = FOREVER };

  entry.attr_timeout = node_stat (request->mount, request->node, &entry.attr);
  fuse_reply_entry (request->req, &entry);
}

/*
 * As root, the read-ahead of the mount is raised from 128 KiB; INIT cannot ask for more, and would undo
 * it, so this waits for the first request after it.
 */
static void
raise_readahead (VmaMount *mount)
{
  char text[16];

  if (mount->readahead_fd < 0 || atomic_exchange (&mount->answered, TRUE))
    return;
  int n = snprintf (text, sizeof text, "%u", mount->options->readahead);
  if (write (mount->readahead_fd, text, (gsize) n) != n)
    return; /* slower, and that is all */
}

static void
fs_lookup (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  VmaMount *mount = mount_of (req);
  VmaNode *dir = node_of (req, parent);

  if (dir == NULL)
    return;
  raise_readahead (mount);
  VmaNode *node = vma_tree_lookup (dir, name);
  if (node == NULL) {
    fuse_reply_err (req, ENOENT);
    return;
  }
  VmaRequest request = {
    .req = req,
    .mount = mount,
    .node = node,
    .is_ready = stat_is_ready,
    .answer = answer_lookup,
  };
  vma_parked_submit (mount->parked, &request);
}

static void
answer_getattr (const VmaRequest *request)
{
  struct stat st;
  double valid = node_stat (request->mount, request->node, &st);

  fuse_reply_attr (request->req, &st, valid);
}

static void
fs_getattr (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaNode *node = node_of (req, ino);

  if (node == NULL)
    return;
  VmaRequest request = {
    .req = req,
    .mount = mount_of (req),
    .node = node,
    .is_ready = stat_is_ready,
    .answer = answer_getattr,
  };
  vma_parked_submit (request.mount->parked, &request);
}

static void
fs_statfs (fuse_req_t req, fuse_ino_t ino G_GNUC_UNUSED)
{
  VmaMount *mount = mount_of (req);
  const VmaHeader *header = vma_archive_header (mount->archive);
  struct statvfs st = {
    .f_bsize = VMA_BLOCK_SIZE,
    .f_frsize = VMA_BLOCK_SIZE,
    .f_files = vma_tree_size (mount->tree),
    .f_namemax = 255,
    .f_flag = ST_RDONLY,
  };

  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    st.f_blocks += device->size / VMA_BLOCK_SIZE;
  }
  fuse_reply_statfs (req, &st);
}

/* --- directories ------------------------------------------------------------------------------- */

static void
fs_opendir (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  VmaNode *node = node_of (req, ino);

  if (node == NULL)
    return;
  if (node->kind != VMA_NODE_DIR) {
    fuse_reply_err (req, ENOTDIR);
    return;
  }
  fi->cache_readdir = 1;
  fi->keep_cache = 1;
  fuse_reply_open (req, fi);
}

/* The i-th name in a directory: itself, its parent, its children.  NULL behind the last. */
static const VmaNode *
dir_entry (const VmaNode *dir, guint i, const char **name)
{
  if (i == 0) {
    *name = ".";
    return dir;
  }
  if (i == 1) {
    *name = "..";
    return dir->parent;
  }
  if (i - 2 >= dir->children->len)
    return NULL;
  const VmaNode *child = g_ptr_array_index (dir->children, i - 2);
  *name = child->name;
  return child;
}

static void
fs_readdir (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
            struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaNode *dir = node_of (req, ino);
  const VmaNode *entry;
  const char *name;
  gsize used = 0;

  if (dir == NULL)
    return;
  g_autofree char *buffer = g_malloc (size);
  for (guint i = (guint) offset; (entry = dir_entry (dir, i, &name)) != NULL; i++) {
    struct stat st = {
      .st_ino = entry->ino,
      .st_mode = entry->kind == VMA_NODE_DIR ? S_IFDIR : S_IFREG,
    };

    if (entry->hidden && i >= 2)
      continue;
    gsize n = fuse_add_direntry (req, buffer + used, size - used, name, &st, (off_t) i + 1);
    if (n > size - used)
      break;
    used += n;
  }
  fuse_reply_buf (req, buffer, used);
}

/* --- files ------------------------------------------------------------------------------------- */

static void
fs_open (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  VmaMount *mount = mount_of (req);
  VmaNode *node = node_of (req, ino);

  if (node == NULL)
    return;
  if ((fi->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err (req, EROFS);
    return;
  }
  switch (node->kind) {
  case VMA_NODE_DIR:
    fuse_reply_err (req, EISDIR);
    return;
  case VMA_NODE_IMAGE:
    fi->direct_io = mount->options->direct_io;
    fi->keep_cache = !mount->options->direct_io;
    break;
  case VMA_NODE_TEXT:
    fi->keep_cache = 1;
    break;
  case VMA_NODE_STATUS:
    fi->fh = (guint64) (guintptr) vma_mount_status (mount);
    fi->direct_io = 1; /* its size is not known before it is read */
    break;
  case VMA_NODE_ERRORS:
    fi->fh = (guint64) (guintptr) vma_mount_error_list (mount);
    fi->direct_io = 1;
    break;
  }
  fuse_reply_open (req, fi);
}

static void
fs_release (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  VmaNode *node = vma_tree_node (mount_of (req)->tree, ino);

  if (node != NULL && (node->kind == VMA_NODE_STATUS || node->kind == VMA_NODE_ERRORS))
    g_bytes_unref ((GBytes *) (guintptr) fi->fh);
  fuse_reply_err (req, 0);
}

/*
 * A thread's read buffer.  One each, kept: its pages were touched once, and the copy into the kernel
 * finds them in the processor's cache.
 */
static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void
make_buffer_key (void)
{
  pthread_key_create (&buffer_key, free);
}

static guint8 *
thread_buffer (void)
{
  pthread_once (&buffer_once, make_buffer_key);
  guint8 *buffer = pthread_getspecific (buffer_key);
  if (buffer == NULL) {
    buffer = aligned_alloc (4096, MAX_READ);
    pthread_setspecific (buffer_key, buffer);
  }
  return buffer;
}

static gboolean
read_is_ready (const VmaRequest *request)
{
  return vma_image_is_ready (request->node->image, request->offset, request->size);
}

static void
answer_read (const VmaRequest *request)
{
  VmaMount *mount = request->mount;
  g_autoptr (GError) error = NULL;
  guint8 *buffer = thread_buffer ();

  if (buffer == NULL) {
    fuse_reply_err (request->req, ENOMEM);
    return;
  }
  gssize n = vma_image_pread (request->node->image, buffer, request->size, request->offset, NULL,
                              &error);
  if (n < 0) {
    vma_read_errors_add (mount->errors, error);
    fuse_reply_err (request->req, errno_of (error));
    return;
  }
  atomic_fetch_add_explicit (&mount->reads, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&mount->read_bytes, (guint64) n, memory_order_relaxed);
  fuse_reply_buf (request->req, (const char *) buffer, (gsize) n);
}

static void
reply_text (fuse_req_t req, GBytes *text, gsize size, off_t offset)
{
  /* With the reply in its hands the reader may close the file before we are back from sending it. */
  g_autoptr (GBytes) held = g_bytes_ref (text);
  gsize total;
  const char *data = g_bytes_get_data (text, &total);

  if ((guint64) offset >= total)
    fuse_reply_buf (req, NULL, 0);
  else
    fuse_reply_buf (req, data + offset, MIN (size, total - (gsize) offset));
}

static void
fs_read (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
  VmaMount *mount = mount_of (req);
  VmaNode *node = node_of (req, ino);

  if (node == NULL)
    return;
  switch (node->kind) {
  case VMA_NODE_DIR:
    fuse_reply_err (req, EISDIR);
    return;
  case VMA_NODE_TEXT:
    reply_text (req, node->text, size, offset);
    return;
  case VMA_NODE_STATUS:
  case VMA_NODE_ERRORS:
    reply_text (req, (GBytes *) (guintptr) fi->fh, size, offset);
    return;
  case VMA_NODE_IMAGE:
    break;
  }
  VmaRequest request = {
    .req = req,
    .mount = mount,
    .node = node,
    .offset = (guint64) offset,
    .size = MIN (size, MAX_READ),
    .is_ready = read_is_ready,
    .answer = answer_read,
  };
  vma_parked_submit (mount->parked, &request);
}

static gboolean
lseek_is_ready (const VmaRequest *request)
{
  return vma_index_state (vma_archive_index (request->mount->archive)) != VMA_INDEX_BUILDING;
}

static void
answer_lseek (const VmaRequest *request)
{
  VmaImage *image = request->node->image;
  g_autoptr (GError) error = NULL;
  guint64 found, size;

  gboolean ok = vma_image_size (image, &size, NULL, &error)
                && (request->whence == SEEK_DATA
                        ? vma_image_next_data (image, request->offset, &found, NULL, &error)
                        : vma_image_next_hole (image, request->offset, &found, NULL, &error));
  if (!ok)
    fuse_reply_err (request->req, errno_of (error));
  else if (request->offset >= size || (request->whence == SEEK_DATA && found == size))
    fuse_reply_err (request->req, ENXIO);
  else
    fuse_reply_lseek (request->req, (off_t) found);
}

static void
fs_lseek (fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
          struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaNode *node = node_of (req, ino);

  if (node == NULL)
    return;
  if (node->kind != VMA_NODE_IMAGE || (whence != SEEK_DATA && whence != SEEK_HOLE) || offset < 0) {
    fuse_reply_err (req, EINVAL);
    return;
  }
  VmaRequest request = {
    .req = req,
    .mount = mount_of (req),
    .node = node,
    .offset = (guint64) offset,
    .whence = whence,
    .is_ready = lseek_is_ready,
    .answer = answer_lseek,
  };
  vma_parked_submit (request.mount->parked, &request);
}

/* --- extended attributes ----------------------------------------------------------------------- */

static const char xattr_names[] = PREFIX_XATTR "uuid\0" PREFIX_XATTR "device\0" PREFIX_XATTR
                                               "device-id";

/* The value of an attribute of a node, or NULL. */
static char *
xattr_value (VmaMount *mount, const VmaNode *node, const char *name)
{
  char uuid[UUID_STR_LEN];

  if (node->kind != VMA_NODE_IMAGE)
    return NULL;
  const VmaDevice *device = vma_image_device (node->image);
  if (strcmp (name, PREFIX_XATTR "uuid") == 0) {
    uuid_unparse_lower (vma_archive_header (mount->archive)->uuid, uuid);
    return g_strdup (uuid);
  }
  if (strcmp (name, PREFIX_XATTR "device") == 0)
    return g_strdup (device->name);
  if (strcmp (name, PREFIX_XATTR "device-id") == 0)
    return g_strdup_printf ("%u", device->id);
  return NULL;
}

static void
reply_xattr (fuse_req_t req, const char *value, gsize length, gsize size)
{
  if (size == 0)
    fuse_reply_xattr (req, length);
  else if (size < length)
    fuse_reply_err (req, ERANGE);
  else
    fuse_reply_buf (req, value, length);
}

static void
fs_getxattr (fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
  VmaNode *node = node_of (req, ino);

  if (node == NULL)
    return;
  g_autofree char *value = xattr_value (mount_of (req), node, name);
  if (value == NULL)
    fuse_reply_err (req, ENODATA);
  else
    reply_xattr (req, value, strlen (value), size);
}

static void
fs_listxattr (fuse_req_t req, fuse_ino_t ino, size_t size)
{
  VmaNode *node = node_of (req, ino);

  if (node != NULL)
    reply_xattr (req, xattr_names, node->kind == VMA_NODE_IMAGE ? sizeof xattr_names : 0, size);
}

/* --- the session ------------------------------------------------------------------------------- */

static void
fs_init (void *data, struct fuse_conn_info *conn)
{
  VmaMount *mount = data;

  /* A spliced read of an archive that was cut off comes out short without an error. */
  conn->want &= ~(unsigned) (FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  conn->want |= conn->capable & FUSE_CAP_EXPORT_SUPPORT;
  conn->max_read = MAX_READ;
  vma_daemon_ready (mount->daemon);
}

const struct fuse_lowlevel_ops vma_fs_ops = {
  .init = fs_init,
  .lookup = fs_lookup,
  .getattr = fs_getattr,
  .statfs = fs_statfs,
  .opendir = fs_opendir,
  .readdir = fs_readdir,
  .open = fs_open,
  .release = fs_release,
  .read = fs_read,
  .lseek = fs_lseek,
  .getxattr = fs_getxattr,
  .listxattr = fs_listxattr,
};
