/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/view.h"

#include "backup/session.h"
#include "backup/through.h"
#include "base/thread.h"
#include "index/lock.h"
#include "vma/names.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FOREVER 86400.0
/* Threads that serve the mount: they read what was collected. */
#define MAX_THREADS 16
/* Threads that wait for QEMU. */
#define READERS 8
/* How often reads that wait for a cluster look whether it is there. */
#define POLL_MS 20

typedef struct {
  const char *name; /* owned by names */
  gboolean is_disk;
  guint disk;
  guint64 size;
  GBytes *data; /* of a config */
} Node;

typedef struct {
  VmaView *view;
  fuse_req_t req;
  guint disk;
  guint64 offset, size;
  atomic_bool interrupted;
  GList link;
} Read;

struct VmaView {
  VmaPoint *point;
  VmaNames *names;
  GArray *nodes; /* Node; inode 2 and on */
  time_t time;
  guint n_disks;
  VmaSession *session;
  GCancellable *stopping; /* of reads of the base */

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  VmaThrough **through; /* of each disk; NULL: none.  Stay once they are there */
  VmaBase *base;        /* NULL: none */
  GQueue reads;         /* Read, in order of arrival */
  gboolean stopped;
  guint n_threads;
  pthread_t threads[READERS];
};

static VmaView *
view_of (fuse_req_t req)
{
  return fuse_req_userdata (req);
}

static const Node *
node_of (fuse_req_t req, fuse_ino_t ino)
{
  VmaView *view = view_of (req);

  return ino >= 2 && ino - 2 < view->nodes->len ? &g_array_index (view->nodes, Node, ino - 2)
                                                : NULL;
}

/* --- attributes ------------------------------------------------------------------------------- */

static void
fill_stat (VmaView *view, fuse_ino_t ino, struct stat *st)
{
  *st = (struct stat){
    .st_ino = ino,
    .st_uid = geteuid (),
    .st_gid = getegid (),
    .st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0500 : S_IFREG | 0400,
    .st_nlink = ino == FUSE_ROOT_ID ? 2 : 1,
    .st_blksize = VMA_CLUSTER_SIZE,
    .st_mtime = view->time,
    .st_ctime = view->time,
    .st_atime = view->time,
  };
  if (ino != FUSE_ROOT_ID) {
    st->st_size = (off_t) g_array_index (view->nodes, Node, ino - 2).size;
    /* Nobody knows yet what is sparse. */
    st->st_blocks = (st->st_size + 511) / 512;
  }
}

static void
view_lookup (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  VmaView *view = view_of (req);
  struct fuse_entry_param entry = { .attr_timeout = FOREVER, .entry_timeout = FOREVER };

  for (guint i = 0; parent == FUSE_ROOT_ID && i < view->nodes->len; i++)
    if (strcmp (g_array_index (view->nodes, Node, i).name, name) == 0) {
      entry.ino = i + 2;
      fill_stat (view, entry.ino, &entry.attr);
      fuse_reply_entry (req, &entry);
      return;
    }
  fuse_reply_err (req, ENOENT);
}

static void
view_getattr (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi G_GNUC_UNUSED)
{
  struct stat st;

  if (ino != FUSE_ROOT_ID && node_of (req, ino) == NULL) {
    fuse_reply_err (req, ENOENT);
    return;
  }
  fill_stat (view_of (req), ino, &st);
  fuse_reply_attr (req, &st, FOREVER);
}

static void
view_readdir (fuse_req_t req, fuse_ino_t ino G_GNUC_UNUSED, size_t size, off_t offset,
              struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaView *view = view_of (req);
  g_autofree char *buffer = g_malloc (size);
  gsize used = 0;

  for (guint i = (guint) offset; i < view->nodes->len + 2; i++) {
    struct stat st = { .st_ino = i < 2 ? FUSE_ROOT_ID : i, .st_mode = i < 2 ? S_IFDIR : S_IFREG };
    const char *name = i == 0 ? "." : i == 1 ? ".." : g_array_index (view->nodes, Node, i - 2).name;
    gsize n = fuse_add_direntry (req, buffer + used, size - used, name, &st, (off_t) i + 1);
    if (n > size - used)
      break;
    used += n;
  }
  fuse_reply_buf (req, buffer, used);
}

static void
view_open (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  if (node_of (req, ino) == NULL)
    fuse_reply_err (req, EISDIR);
  else if ((fi->flags & O_ACCMODE) != O_RDONLY)
    fuse_reply_err (req, EROFS);
  else {
    fi->keep_cache = 1;
    fuse_reply_open (req, fi);
  }
}

static void
view_lseek (fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
            struct fuse_file_info *fi G_GNUC_UNUSED)
{
  const Node *node = node_of (req, ino);
  guint64 found;

  if (node == NULL || offset < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
    fuse_reply_err (req, EINVAL);
    return;
  }
  if (node->is_disk)
    found = vma_point_seek (view_of (req)->point, node->disk, (guint64) offset,
                            whence == SEEK_DATA);
  else
    found = whence == SEEK_DATA ? (guint64) offset : node->size;
  if ((guint64) offset >= node->size || (whence == SEEK_DATA && found >= node->size))
    fuse_reply_err (req, ENXIO);
  else
    fuse_reply_lseek (req, (off_t) found);
}

/* --- reading ---------------------------------------------------------------------------------- */

static VmaThrough *
through_of (VmaView *view, guint disk)
{
  VMA_LOCK (&view->lock);
  return view->through[disk];
}

static VmaBase *
base_of (VmaView *view)
{
  VMA_LOCK (&view->lock);
  return view->base;
}

/*
 * Fills the clusters of [first, first + n) that were collected into buffer, and counts the others
 * into open[].  FALSE on an error.
 */
static gboolean
read_collected (VmaView *view, guint disk, guint64 first, guint n, guint8 *buffer, guint *open,
                guint *n_open)
{
  *n_open = 0;
  for (guint i = 0; i < n; i++) {
    int found
        = vma_point_read (view->point, disk, first + i,
                          buffer + (gsize) i * VMA_CLUSTER_SIZE, NULL);
    if (found < 0)
      return FALSE;
    if (found == 0)
      open[(*n_open)++] = i;
  }
  return TRUE;
}

/*
 * From the base what did not change, and the rest from QEMU, whose filter lets nothing else be read.
 * got[] says what came.
 */
static void
read_changed (VmaView *view, VmaThrough *through, const Read *read, const guint64 *clusters,
              guint n, guint8 *buffer, gboolean *got)
{
  g_autofree gboolean *dirty = g_new0 (gboolean, n);

  if (!vma_through_find_dirty (through, clusters, n, dirty, &read->interrupted, NULL))
    return;
  for (guint i = 0; i < n; i++) {
    guint8 *to = buffer + (gsize) i * VMA_CLUSTER_SIZE;
    if (dirty[i])
      vma_through_read (through, &clusters[i], 1, to, &got[i], &read->interrupted, NULL);
    else
      got[i] = vma_base_read (view->base, read->disk, clusters[i], to, view->stopping, NULL);
  }
}

static void
read_through (VmaView *view, VmaThrough *through, const Read *read, const guint64 *clusters,
              guint n, guint8 *buffer, gboolean *got)
{
  if (vma_base_has (base_of (view), read->disk))
    read_changed (view, through, read, clusters, n, buffer, got);
  else
    vma_through_read (through, clusters, n, buffer, got, &read->interrupted, NULL);
}

/*
 * Reads clusters through, and asks the map again: QEMU's answer counts only if the cluster is still
 * open after it came (the guest may have written there since) and the point has not failed.
 */
static gboolean
read_open (VmaView *view, const Read *read, guint64 first, const guint *open, guint n,
           guint8 *buffer)
{
  VmaThrough *through = through_of (view, read->disk);
  g_autofree guint64 *clusters = g_new (guint64, n);
  g_autofree gboolean *got = g_new0 (gboolean, n);
  g_autofree guint8 *own = g_try_malloc ((gsize) n * VMA_CLUSTER_SIZE);

  if (own == NULL)
    return FALSE;
  for (guint i = 0; i < n; i++)
    clusters[i] = first + open[i];
  if (through != NULL)
    read_through (view, through, read, clusters, n, own, got);
  for (guint i = 0; i < n; i++) {
    guint8 *to = buffer + (gsize) open[i] * VMA_CLUSTER_SIZE;
    int found = vma_point_read (view->point, read->disk, clusters[i], to, NULL);

    /* Open it is for a point that has not failed only. */
    if (found < 0 || (found == 0 && !got[i]))
      return FALSE;
    if (found == 0) {
      memcpy (to, own + (gsize) i * VMA_CLUSTER_SIZE, VMA_CLUSTER_SIZE);
      vma_point_overlay (view->point, read->disk, clusters[i], to);
    }
  }
  return TRUE;
}

static void
answer_read (VmaView *view, const Read *read)
{
  guint64 first = read->offset / VMA_CLUSTER_SIZE;
  guint n = (guint) ((read->offset + read->size - 1) / VMA_CLUSTER_SIZE - first + 1);
  g_autofree guint8 *buffer = g_try_malloc ((gsize) n * VMA_CLUSTER_SIZE);
  g_autofree guint *open = g_new (guint, n);
  guint n_open = 0;
  gboolean ok = buffer != NULL && read_collected (view, read->disk, first, n, buffer, open, &n_open)
                && (n_open == 0 || read_open (view, read, first, open, n_open, buffer));

  /* Returns only when no interrupt is being delivered to it: `read` is gone soon. */
  fuse_req_interrupt_func (read->req, NULL, NULL);
  if (ok)
    fuse_reply_buf (read->req, (const char *) buffer + (read->offset - first * VMA_CLUSTER_SIZE),
                    read->size);
  else
    fuse_reply_err (read->req, atomic_load (&read->interrupted) ? EINTR : EIO);
}

/* --- reads that wait -------------------------------------------------------------------------- */

/* Whether it can be answered now, be it with an error.  The caller holds the lock. */
static gboolean
is_ready (VmaView *view, const Read *read)
{
  VmaThrough *through = view->through[read->disk];

  return view->stopped || atomic_load (&read->interrupted)
         || (through != NULL && !vma_through_has_ended (through))
         || vma_point_has_failed (view->point, NULL)
         || vma_point_covers (view->point, read->disk, read->offset, read->size);
}

/* The caller holds the lock. */
static Read *
take_ready (VmaView *view)
{
  for (GList *at = view->reads.head; at != NULL; at = at->next) {
    Read *read = at->data;
    if (is_ready (view, read)) {
      g_queue_unlink (&view->reads, at);
      return read;
    }
  }
  return NULL;
}

static void
finish_read (VmaView *view, Read *read, gboolean stopped)
{
  if (stopped)
    atomic_store (&read->interrupted, TRUE);
  if (atomic_load (&read->interrupted)) {
    fuse_req_interrupt_func (read->req, NULL, NULL);
    fuse_reply_err (read->req, EINTR);
  } else
    answer_read (view, read);
}

static void *
reader_thread (void *data)
{
  VmaView *view = data;

  pthread_mutex_lock (&view->lock);
  while (!view->stopped || view->reads.length > 0) {
    Read *read = take_ready (view);
    if (read != NULL) {
      gboolean stopped = view->stopped;
      pthread_mutex_unlock (&view->lock);
      finish_read (view, read, stopped);
      g_free (read);
      pthread_mutex_lock (&view->lock);
    } else if (view->reads.length == 0)
      pthread_cond_wait (&view->changed, &view->lock);
    else {
      struct timespec until;
      clock_gettime (CLOCK_REALTIME, &until);
      until.tv_nsec += POLL_MS * 1000000L;
      until.tv_sec += until.tv_nsec / 1000000000L;
      until.tv_nsec %= 1000000000L;
      pthread_cond_timedwait (&view->changed, &view->lock, &until);
    }
  }
  pthread_mutex_unlock (&view->lock);
  return NULL;
}

/* The caller holds the lock. */
static void
start_threads (VmaView *view)
{
  while (view->n_threads < READERS
         && vma_thread_start (&view->threads[view->n_threads], reader_thread, view) == 0)
    view->n_threads++;
}

/* Called by libfuse when the reader was interrupted. */
static void
on_interrupt (fuse_req_t req G_GNUC_UNUSED, void *data)
{
  Read *read = data;

  atomic_store (&read->interrupted, TRUE);
}

static void
view_read (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
           struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaView *view = view_of (req);
  const Node *node = node_of (req, ino);

  if (node == NULL || offset < 0) {
    fuse_reply_err (req, EINVAL);
    return;
  }
  if ((guint64) offset >= node->size) {
    fuse_reply_buf (req, NULL, 0);
    return;
  }
  guint64 n = MIN (size, node->size - (guint64) offset);
  if (!node->is_disk) {
    fuse_reply_buf (req, (const char *) g_bytes_get_data (node->data, NULL) + offset, n);
    return;
  }
  if (vma_point_covers (view->point, node->disk, (guint64) offset, n)) {
    const Read now
        = { .view = view, .req = req, .disk = node->disk, .offset = (guint64) offset, .size = n };
    answer_read (view, &now);
    return;
  }
  Read *read = g_new0 (Read, 1);
  read->view = view;
  read->req = req;
  read->disk = node->disk;
  read->offset = (guint64) offset;
  read->size = n;
  read->link.data = read;
  /* Before it is on the list: from there another thread may answer and free it. */
  fuse_req_interrupt_func (req, on_interrupt, read);

  pthread_mutex_lock (&view->lock);
  if (view->n_threads == 0 && !view->stopped)
    start_threads (view);
  gboolean refused = view->stopped || view->n_threads == 0;
  if (!refused) {
    g_queue_push_tail_link (&view->reads, &read->link);
    pthread_cond_signal (&view->changed);
  }
  pthread_mutex_unlock (&view->lock);
  if (refused) {
    finish_read (view, read, TRUE);
    g_free (read);
  }
}

/* --- the mount -------------------------------------------------------------------------------- */

static void
view_init (void *data G_GNUC_UNUSED, struct fuse_conn_info *conn)
{
  conn->want &= ~(unsigned) (FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  conn->max_write = MIN (conn->max_write, VMA_SESSION_MAX_WRITE);
}

static const struct fuse_lowlevel_ops view_ops = {
  .init = view_init,
  .lookup = view_lookup,
  .getattr = view_getattr,
  .readdir = view_readdir,
  .open = view_open,
  .read = view_read,
  .lseek = view_lseek,
};

static void
clear_node (gpointer data)
{
  g_clear_pointer (&((Node *) data)->data, g_bytes_unref);
}

static void
make_nodes (VmaView *view, const VmaHeader *header)
{
  view->names = vma_names_new (header);
  view->nodes = g_array_new (FALSE, TRUE, sizeof (Node));
  g_array_set_clear_func (view->nodes, clear_node);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    Node node
        = { vma_names_device (view->names, device->id), TRUE, view->n_disks, device->size, NULL };
    if (device->is_vmstate)
      continue;
    g_array_append_val (view->nodes, node);
    view->n_disks++;
  }
  for (guint i = 0; i < header->configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (header->configs, i);
    Node node = { .name = vma_names_config (view->names, i),
                  .size = g_bytes_get_size (config->data),
                  .data = g_bytes_ref (config->data) };
    g_array_append_val (view->nodes, node);
  }
}

VmaView *
vma_view_new (VmaPoint *point, const VmaHeader *header, const char *mountpoint, GError **error)
{
  VmaView *view = g_new0 (VmaView, 1);

  view->point = point;
  view->time = (time_t) header->ctime;
  view->stopping = g_cancellable_new ();
  pthread_mutex_init (&view->lock, NULL);
  pthread_cond_init (&view->changed, NULL);
  g_queue_init (&view->reads);
  make_nodes (view, header);
  view->through = g_new0 (VmaThrough *, view->n_disks + 1);
  view->session = vma_session_mount (
      &view_ops, view, mountpoint,
      "ro,fsname=vmabackup,subtype=vmabackup,default_permissions,nosuid,nodev", MAX_THREADS, error);
  if (view->session != NULL)
    return view;
  vma_view_free (view);
  return NULL;
}

/* Answers all that wait, now and from now on. */
static void
stop_readers (VmaView *view)
{
  guint n;

  g_cancellable_cancel (view->stopping);
  {
    VMA_LOCK (&view->lock);
    view->stopped = TRUE;
    n = view->n_threads;
    view->n_threads = 0;
    pthread_cond_broadcast (&view->changed);
  }
  for (guint i = 0; i < view->n_disks; i++)
    vma_view_end_read_through (view, i);
  for (guint i = 0; i < n; i++)
    pthread_join (view->threads[i], NULL);
}

gboolean
vma_view_free (VmaView *view)
{
  if (view->session != NULL) {
    stop_readers (view);
    if (!vma_session_stop (view->session))
      return FALSE;
    vma_session_free (view->session);
  }
  for (guint i = 0; i < view->n_disks; i++)
    g_clear_pointer (&view->through[i], vma_through_free);
  g_free (view->through);
  g_array_unref (view->nodes);
  vma_names_free (view->names);
  g_object_unref (view->stopping);
  pthread_cond_destroy (&view->changed);
  pthread_mutex_destroy (&view->lock);
  g_free (view);
  return TRUE;
}

void
vma_view_begin (VmaView *view, const char *const *uris, const char *const *bitmaps, VmaBase *base)
{
  VMA_LOCK (&view->lock);
  for (guint i = 0; i < view->n_disks; i++)
    if (uris != NULL && uris[i] != NULL && view->through[i] == NULL)
      view->through[i] = vma_through_new (uris[i], g_array_index (view->nodes, Node, i).size,
                                          bitmaps[i]);
  view->base = base;
  pthread_cond_broadcast (&view->changed);
}

void
vma_view_end_read_through (VmaView *view, guint disk)
{
  VmaThrough *through = through_of (view, disk);

  if (through != NULL)
    vma_through_end (through);
}

guint64
vma_view_read_through_bytes (VmaView *view, guint disk)
{
  VmaThrough *through = through_of (view, disk);

  return through != NULL ? vma_through_bytes (through) : 0;
}
