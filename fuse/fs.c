/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file system: each FUSE request, answered from a tree and its images.  The only place where
 * errors become errno values.
 *
 * fs_NAME() is what libfuse calls; it has the request routed to what it is about, and served there by
 * serve_NAME().  What depends on the index goes to fuse/parked from there, and is replied to by
 * answer_NAME().
 */
#include "fuse/mount.h"

#include "fuse/attributes.h"
#include "fuse/fs-write.h"
#include "fuse/text.h"
#include "fuse/top.h"
#include "fuse/volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writes that nobody has synced reach the medium after this time, as the kernel does it for files. */
#define FLUSH_SECONDS 10

static VmaMount *
mount_of (fuse_req_t req)
{
  return fuse_req_userdata (req);
}

/* --- attributes -------------------------------------------------------------------------------- */

static gboolean
stat_is_ready (const VmaRequest *request)
{
  return request->node->kind != VMA_NODE_IMAGE || vma_image_size_is_known (request->node->image);
}

static void
answer_lookup (const VmaRequest *request)
{
  struct fuse_entry_param entry = { .ino = request->node->ino };
  gboolean stays = request->node->kind != VMA_NODE_ERROR && request->node->kind != VMA_NODE_BESIDE;

  entry.entry_timeout = stays ? VMA_FOREVER : 0;
  entry.attr_timeout = vma_node_stat (request->mounted, request->node, &entry.attr);
  fuse_reply_entry (request->req, &entry);
}

/* Whether somebody asks for a partition that was not found so far. */
static gboolean
may_become_window (const VmaRequest *request)
{
  VmaParts *parts = request->mounted->parts;

  if (parts == NULL || request->node->hidden || !g_str_has_suffix (request->name, ".raw"))
    return FALSE;
  vma_parts_start (parts);
  return TRUE;
}

static gboolean
windows_are_known (const VmaRequest *request)
{
  return vma_parts_is_finished (request->mounted->parts);
}

static void
answer_lookup_window (const VmaRequest *request)
{
  VmaRequest found = *request;

  found.node = vma_tree_lookup (request->node, request->name);
  if (found.node == NULL)
    fuse_reply_err (request->req, ENOENT);
  else
    answer_lookup (&found);
}

static void
serve_lookup (const VmaRequest *request)
{
  VmaRequest found = *request;

  found.node = vma_tree_lookup (request->node, request->name);
  if (found.node == NULL && may_become_window (request))
    vma_request_submit (request, windows_are_known, answer_lookup_window);
  else if (found.node == NULL || !vma_node_exists (found.mounted, found.node))
    fuse_reply_err (request->req, ENOENT);
  else
    vma_request_submit (&found, stat_is_ready, answer_lookup);
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
  VmaRequest request = {
    .req = req,
    .name = name,
    .serve = serve_lookup,
    .serve_top = vma_top_lookup,
  };

  raise_readahead (mount_of (req));
  vma_mount_route (mount_of (req), parent, &request);
}

static void
answer_getattr (const VmaRequest *request)
{
  struct stat st;
  double valid = vma_node_stat (request->mounted, request->node, &st);

  fuse_reply_attr (request->req, &st, valid);
}

static void
serve_getattr (const VmaRequest *request)
{
  vma_request_submit (request, stat_is_ready, answer_getattr);
}

static void
fs_getattr (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaRequest request = {
    .req = req,
    .serve = serve_getattr,
    .serve_top = vma_top_getattr,
    .unopened = TRUE,
  };

  vma_mount_route (mount_of (req), ino, &request);
}

static void
serve_statfs (const VmaRequest *request)
{
  VmaArchive *archive = request->mounted->archive;
  const VmaHeader *header = archive != NULL ? vma_archive_header (archive) : NULL;
  struct statvfs st = {
    .f_bsize = VMA_BLOCK_SIZE,
    .f_frsize = VMA_BLOCK_SIZE,
    .f_files = vma_tree_size (request->mounted->tree),
    .f_namemax = 255,
    .f_flag = request->mounted->overlay == NULL ? ST_RDONLY : 0,
  };

  for (guint i = 0; header != NULL && i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    st.f_blocks += device->size / VMA_BLOCK_SIZE;
  }
  fuse_reply_statfs (request->req, &st);
}

static void
fs_statfs (fuse_req_t req, fuse_ino_t ino)
{
  VmaRequest request = { .req = req, .serve = serve_statfs, .serve_top = vma_top_statfs };

  vma_mount_route (mount_of (req), ino, &request);
}

/* --- directories ------------------------------------------------------------------------------- */

static void
serve_opendir (const VmaRequest *request)
{
  struct fuse_file_info file = request->file;

  if (request->node->kind != VMA_NODE_DIR) {
    fuse_reply_err (request->req, ENOTDIR);
    return;
  }
  if (request->mounted->parts != NULL)
    vma_parts_start (request->mounted->parts);
  /* A listing is not the last word until the partitions are known, or where things come and go. */
  file.cache_readdir = file.keep_cache
      = !request->mounted->in_directory
        && (request->mounted->parts == NULL || windows_are_known (request));
  fuse_reply_open (request->req, &file);
}

static void
fs_opendir (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  VmaRequest request = {
    .req = req,
    .file = *fi,
    .serve = serve_opendir,
    .serve_top = vma_top_opendir,
  };

  vma_mount_route (mount_of (req), ino, &request);
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
  const VmaNode *child = vma_tree_child (dir, i - 2);
  if (child != NULL)
    *name = child->name;
  return child;
}

static void
serve_readdir (const VmaRequest *request)
{
  const VmaNode *dir = request->node, *entry;
  const char *name;
  gsize used = 0, size = request->size;

  if (dir->kind != VMA_NODE_DIR) {
    fuse_reply_err (request->req, ENOTDIR);
    return;
  }
  g_autofree char *buffer = g_malloc (size);
  for (guint i = (guint) request->offset; (entry = dir_entry (dir, i, &name)) != NULL; i++) {
    struct stat st = {
      .st_ino = entry->ino,
      .st_mode = entry->kind == VMA_NODE_DIR ? S_IFDIR : S_IFREG,
    };

    if (i >= 2 && (entry->hidden || !vma_node_exists (request->mounted, entry)))
      continue;
    gsize n = fuse_add_direntry (request->req, buffer + used, size - used, name, &st,
                                 (off_t) i + 1);
    if (n > size - used)
      break;
    used += n;
  }
  fuse_reply_buf (request->req, buffer, used);
}

static void
fs_readdir (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
            struct fuse_file_info *fi)
{
  VmaRequest request = {
    .req = req,
    .file = *fi,
    .size = size,
    .offset = (guint64) offset,
    .serve = serve_readdir,
    .serve_top = vma_top_readdir,
  };

  vma_mount_route (mount_of (req), ino, &request);
}

static void
fs_releasedir (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  if (mount_of (req)->directory != NULL && vma_directory_is_top (ino))
    vma_top_releasedir (fi);
  fuse_reply_err (req, 0);
}

/* --- files ------------------------------------------------------------------------------------- */

static gboolean
is_text (VmaNodeKind kind)
{
  return kind == VMA_NODE_STATUS || kind == VMA_NODE_ERRORS || kind == VMA_NODE_ERROR
         || kind == VMA_NODE_BESIDE;
}

/* What a file holds that is made anew each time it is opened.  NULL and errno. */
static GBytes *
make_text (VmaMounted *mounted, const VmaNode *node)
{
  g_autofree char *failure = NULL;

  switch (node->kind) {
  case VMA_NODE_STATUS:
    return vma_mounted_status (mounted);
  case VMA_NODE_ERRORS:
    return vma_mounted_error_list (mounted);
  case VMA_NODE_BESIDE:
    return vma_text_of_file (node->path);
  default:
    failure = vma_mounted_dup_failure (mounted);
    char *line = g_strconcat (failure != NULL ? failure : "no error", "\n", NULL);
    return g_bytes_new_take (line, strlen (line));
  }
}

/* An open file is a user of its archive, until the kernel releases it. */
static void
open_text (const VmaRequest *request)
{
  struct fuse_file_info file = request->file;
  GBytes *text = make_text (request->mounted, request->node);

  if (text == NULL) {
    fuse_reply_err (request->req, errno);
    return;
  }
  vma_mounted_hold (request->mounted);
  if (!vma_text_reply_open (request->req, &file, text))
    vma_mounted_release (request->mounted);
}

static void
serve_open (const VmaRequest *request)
{
  VmaMounted *mounted = request->mounted;
  struct fuse_file_info file = request->file;

  if ((file.flags & O_ACCMODE) != O_RDONLY
      && !vma_volume_is_writable (mounted, request->node)) {
    fuse_reply_err (request->req, EROFS);
    return;
  }
  switch (request->node->kind) {
  case VMA_NODE_DIR:
    fuse_reply_err (request->req, EISDIR);
    return;
  case VMA_NODE_IMAGE:
    file.direct_io = mounted->options->direct_io;
    /* A partition is there twice, and the kernel keeps both apart: what is opened again is fresh. */
    file.keep_cache = !mounted->options->direct_io
                      && (mounted->overlay == NULL || mounted->parts == NULL);
    break;
  case VMA_NODE_TEXT:
    file.keep_cache = 1;
    break;
  case VMA_NODE_STATUS:
  case VMA_NODE_ERRORS:
  case VMA_NODE_ERROR:
  case VMA_NODE_BESIDE:
    open_text (request);
    return;
  }
  vma_mounted_hold (mounted);
  if (fuse_reply_open (request->req, &file) == -ENOENT) /* interrupted: nobody will release it */
    vma_mounted_release (mounted);
}

static void
fs_open (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  VmaRequest request = { .req = req, .file = *fi, .serve = serve_open, .serve_top = vma_top_open };

  vma_mount_route (mount_of (req), ino, &request);
}

static void
fs_release (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  VmaMount *mount = mount_of (req);

  if (mount->directory != NULL && vma_directory_is_top (ino))
    vma_top_release (fi);
  else {
    VmaMounted *mounted = vma_mount_of_open_file (mount, ino);
    if (is_text (vma_tree_node (mounted->tree, ino)->kind))
      vma_text_release (fi);
    vma_mounted_release (mounted);
  }
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
    buffer = aligned_alloc (4096, VMA_MAX_READ);
    pthread_setspecific (buffer_key, buffer);
  }
  return buffer;
}

static gboolean
read_is_ready (const VmaRequest *request)
{
  return vma_volume_is_ready_to_read (request->mounted, request->node, request->offset,
                                      request->size);
}

static void
answer_read (const VmaRequest *request)
{
  VmaMounted *mounted = request->mounted;
  g_autoptr (GError) error = NULL;
  guint8 *buffer = thread_buffer ();

  if (buffer == NULL) {
    fuse_reply_err (request->req, ENOMEM);
    return;
  }
  gssize n = vma_volume_pread (mounted, request->node, buffer, request->size, request->offset,
                               request->cancellable, &error);
  vma_request_settle (request);
  if (n >= 0 && !vma_mounted_check_unchanged (mounted, &error))
    n = -1;
  if (n < 0) {
    vma_request_fail (request, error);
    return;
  }
  atomic_fetch_add_explicit (&mounted->reads, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&mounted->read_bytes, (guint64) n, memory_order_relaxed);
  fuse_reply_buf (request->req, (const char *) buffer, (gsize) n);
}

static void
read_image (const VmaRequest *request)
{
  VmaRequest reading = *request;

  reading.may_wait = request->mounted->growing;
  vma_request_submit (&reading, read_is_ready, answer_read);
}

static void
serve_read (const VmaRequest *request)
{
  switch (request->node->kind) {
  case VMA_NODE_DIR:
    fuse_reply_err (request->req, EISDIR);
    break;
  case VMA_NODE_TEXT:
    vma_text_reply_read (request, request->node->text);
    break;
  case VMA_NODE_STATUS:
  case VMA_NODE_ERRORS:
  case VMA_NODE_ERROR:
  case VMA_NODE_BESIDE:
    vma_text_reply_read (request, NULL);
    break;
  case VMA_NODE_IMAGE:
    read_image (request);
    break;
  }
}

static void
fs_read (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
  VmaRequest request = {
    .req = req,
    .file = *fi,
    .offset = (guint64) offset,
    .size = MIN (size, VMA_MAX_READ),
    .reads_archive = TRUE,
    .serve = serve_read,
    .serve_top = vma_top_read,
  };

  vma_mount_route (mount_of (req), ino, &request);
}

static gboolean
lseek_is_ready (const VmaRequest *request)
{
  return vma_index_state (vma_archive_index (request->mounted->archive)) != VMA_INDEX_BUILDING;
}

static void
answer_lseek (const VmaRequest *request)
{
  VmaImage *image = request->node->image;
  g_autoptr (GError) error = NULL;
  guint64 found, size;

  gboolean ok = vma_image_size (image, &size, NULL, &error)
                && vma_volume_seek (request->mounted, request->node, request->whence,
                                    request->offset, &found, &error);
  if (!ok)
    vma_request_fail (request, error);
  else if (request->offset >= size || (request->whence == SEEK_DATA && found == size))
    fuse_reply_err (request->req, ENXIO);
  else
    fuse_reply_lseek (request->req, (off_t) found);
}

static void
serve_lseek (const VmaRequest *request)
{
  if (request->node->kind != VMA_NODE_IMAGE)
    fuse_reply_err (request->req, EINVAL);
  else
    vma_request_submit (request, lseek_is_ready, answer_lseek);
}

static void
fs_lseek (fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
          struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaRequest request
      = { .req = req, .offset = (guint64) offset, .whence = whence, .serve = serve_lseek };

  if ((whence != SEEK_DATA && whence != SEEK_HOLE) || offset < 0)
    fuse_reply_err (req, EINVAL);
  else
    vma_mount_route (mount_of (req), ino, &request);
}

/* --- extended attributes ----------------------------------------------------------------------- */

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

/*
 * Before each write the kernel asks for the attribute security.capability, unless it may take for granted
 * that a write clears it (FUSE_CAP_HANDLE_KILLPRIV_V2, which libfuse may be too old for) or that there
 * are no attributes at all.  It would double what a write takes.
 */
static gboolean
has_xattrs (const VmaMounted *mounted)
{
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
  (void) mounted;
  return TRUE;
#else
  return mounted->overlay == NULL;
#endif
}

static void
serve_getxattr (const VmaRequest *request)
{
  if (!has_xattrs (request->mounted)) {
    fuse_reply_err (request->req, ENOSYS);
    return;
  }
  g_autofree char *value = vma_node_xattr (request->mounted, request->node, request->name);

  if (value == NULL)
    fuse_reply_err (request->req, ENODATA);
  else
    reply_xattr (request->req, value, strlen (value), request->size);
}

static void
fs_getxattr (fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
  VmaRequest request = {
    .req = req,
    .name = name,
    .size = size,
    .serve = serve_getxattr,
    .serve_top = vma_top_xattr,
    .unopened = TRUE,
  };

  vma_mount_route (mount_of (req), ino, &request);
}

static void
serve_listxattr (const VmaRequest *request)
{
  gsize length;
  const char *names = vma_node_xattr_names (request->node, &length);

  if (has_xattrs (request->mounted))
    reply_xattr (request->req, names, length, request->size);
  else
    fuse_reply_err (request->req, ENOSYS);
}

static void
fs_listxattr (fuse_req_t req, fuse_ino_t ino, size_t size)
{
  VmaRequest request = {
    .req = req,
    .size = size,
    .serve = serve_listxattr,
    .serve_top = vma_top_xattr,
    .unopened = TRUE,
  };

  vma_mount_route (mount_of (req), ino, &request);
}

/* --- the session ------------------------------------------------------------------------------- */

static void
fs_init (void *data, struct fuse_conn_info *conn)
{
  VmaMount *mount = data;

  /* A spliced read of an archive that was cut off comes out short without an error. */
  conn->want &= ~(unsigned) (FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  conn->want |= conn->capable & FUSE_CAP_EXPORT_SUPPORT;
  conn->max_read = VMA_MAX_READ;
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
  conn->want |= conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2; /* nothing here is setuid */
#endif
  /* The kernel's read-ahead is worth it where each request takes long. */
  if (mount->mounted != NULL && vma_source_is_remote (vma_archive_source (mount->mounted->archive)))
    conn->max_background = conn->congestion_threshold = 64;
  /* O_TRUNC comes as a change of size, which is refused; what we hold of times is no sign of change. */
  conn->want &= ~(unsigned) (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA);
  if (mount->mounted != NULL && mount->mounted->overlay != NULL) {
    vma_overlay_keep (mount->mounted->overlay);
    vma_overlay_start_flusher (mount->mounted->overlay, FLUSH_SECONDS);
  }
  vma_keeper_ready (mount->keeper);
  vma_daemon_ready (mount->daemon);
}

const struct fuse_lowlevel_ops vma_fs_ops = {
  .init = fs_init,
  .lookup = fs_lookup,
  .getattr = fs_getattr,
  .statfs = fs_statfs,
  .opendir = fs_opendir,
  .readdir = fs_readdir,
  .releasedir = fs_releasedir,
  .open = fs_open,
  .release = fs_release,
  .read = fs_read,
  .write = vma_fs_write,
  .fsync = vma_fs_fsync,
  .fallocate = vma_fs_fallocate,
  .setattr = vma_fs_setattr,
  .lseek = fs_lseek,
  .getxattr = fs_getxattr,
  .listxattr = fs_listxattr,
};
