/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/files.h"

#include "backup/deadman.h"
#include "vma/error.h"
#include "vma/names.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define FOREVER 86400.0
/* Writes that are answered before they are stored: so much more than the guest wants may be under way. */
#define MAX_EARLY 32
/* QEMU has at most 64 requests at once for each of its threads. */
#define MAX_THREADS (80 + MAX_EARLY)
/* A read of QEMU's is small; what is more comes in several. */
#define MAX_READ (1024u * 1024u)

/* linux/fuse.h of Debian 12 has it; libfuse 3.14 does not. */
#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

typedef struct {
  char *name, *path;
  guint disk;
  gboolean hook;
} File;

typedef struct {
  _Atomic guint64 bytes, requests, ns, max_ns;
} Counts;

struct VmaFiles {
  VmaFilesOptions options; /* its pointers are valid in new() only, but for point and sink */
  guint64 *sizes;
  char *folder;
  uid_t uid;
  gid_t gid;
  File *files; /* two a disk: inode 2 and on */
  Counts *counts;
  _Atomic guint n_early;
  VmaDeadman *deadman;
  VmaSession *session;
};

static VmaFiles *
files_of (fuse_req_t req)
{
  return fuse_req_userdata (req);
}

static File *
file_of (fuse_req_t req, fuse_ino_t ino)
{
  VmaFiles *files = files_of (req);

  return ino >= 2 && ino - 2 < 2 * (guint64) files->options.n_disks ? &files->files[ino - 2] : NULL;
}

/* --- attributes ------------------------------------------------------------------------------- */

static void
fill_stat (VmaFiles *files, fuse_ino_t ino, struct stat *st)
{
  *st = (struct stat){
    .st_ino = ino,
    .st_uid = files->uid,
    .st_gid = files->gid,
    .st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600,
    .st_nlink = ino == FUSE_ROOT_ID ? 2 : 1,
    .st_blksize = VMA_CLUSTER_SIZE,
  };
  if (ino != FUSE_ROOT_ID) {
    st->st_size = (off_t) files->sizes[files->files[ino - 2].disk];
    st->st_blocks = (st->st_size + 511) / 512;
  }
}

static void
files_lookup (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  VmaFiles *files = files_of (req);
  struct fuse_entry_param entry = { .attr_timeout = FOREVER, .entry_timeout = FOREVER };

  for (guint i = 0; parent == FUSE_ROOT_ID && i < 2 * files->options.n_disks; i++)
    if (strcmp (files->files[i].name, name) == 0) {
      entry.ino = i + 2;
      fill_stat (files, entry.ino, &entry.attr);
      fuse_reply_entry (req, &entry);
      return;
    }
  fuse_reply_err (req, ENOENT);
}

static void
files_getattr (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi G_GNUC_UNUSED)
{
  struct stat st;

  if (ino != FUSE_ROOT_ID && file_of (req, ino) == NULL) {
    fuse_reply_err (req, ENOENT);
    return;
  }
  fill_stat (files_of (req), ino, &st);
  fuse_reply_attr (req, &st, FOREVER);
}

/* Nothing can be changed; but a change to what it is anyway is no reason to disturb anybody. */
static void
files_setattr (fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int which,
               struct fuse_file_info *fi)
{
  const File *file = file_of (req, ino);

  if (file != NULL && (which & FUSE_SET_ATTR_SIZE) != 0
      && (guint64) wanted->st_size != files_of (req)->sizes[file->disk])
    fuse_reply_err (req, EINVAL);
  else
    files_getattr (req, ino, fi);
}

static void
files_readdir (fuse_req_t req, fuse_ino_t ino G_GNUC_UNUSED, size_t size, off_t offset,
               struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaFiles *files = files_of (req);
  g_autofree char *buffer = g_malloc (size);
  gsize used = 0;

  for (guint i = (guint) offset; i < 2 * files->options.n_disks; i++) {
    struct stat st = { .st_ino = i + 2, .st_mode = S_IFREG };
    gsize n = fuse_add_direntry (req, buffer + used, size - used, files->files[i].name, &st,
                                 (off_t) i + 1);
    if (n > size - used)
      break;
    used += n;
  }
  fuse_reply_buf (req, buffer, used);
}

/* --- files ------------------------------------------------------------------------------------ */

static void
files_open (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi G_GNUC_UNUSED)
{
  /* By hand: libfuse 3.14 has no field for the second flag. */
  const struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };

  if (file_of (req, ino) == NULL)
    fuse_reply_err (req, EISDIR);
  else
    fuse_reply_buf (req, (const char *) &out, sizeof out);
}

static void
raise_max (_Atomic guint64 *max, guint64 value)
{
  guint64 seen = atomic_load_explicit (max, memory_order_relaxed);

  while (seen < value
         && !atomic_compare_exchange_weak_explicit (max, &seen, value, memory_order_relaxed,
                                                    memory_order_relaxed))
    ;
}

static guint64
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (guint64) now.tv_sec * 1000000000u + (guint64) now.tv_nsec;
}

/* A write at work. */
typedef struct {
  VmaPending pending;
  VmaFiles *files;
  const File *file;
  guint64 size, start;
  gboolean early;
} Write;

static void
count (const Write *write)
{
  Counts *counts = &write->files->counts[write->file->disk];
  guint64 ns = now_ns () - write->start;

  atomic_fetch_add_explicit (&counts->bytes, write->size, memory_order_relaxed);
  atomic_fetch_add_explicit (&counts->requests, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&counts->ns, ns, memory_order_relaxed);
  raise_max (&counts->max_ns, ns);
}

static void
answer (const Write *write)
{
  if (write->file->hook)
    count (write);
  if (write->pending.written > 0)
    fuse_reply_write (write->pending.req, write->pending.written);
  else
    fuse_reply_err (write->pending.req, 0);
}

/*
 * What the hook delivers is taken, and we have a copy: the guest need not wait until it is stored.  An
 * error would not reach QEMU anyway.  But not many at once, or a medium that is too slow would not be felt.
 */
static void
on_taken (gpointer data)
{
  Write *write = data;
  VmaFiles *files = write->files;

  if (atomic_fetch_add (&files->n_early, 1) >= MAX_EARLY) {
    atomic_fetch_sub (&files->n_early, 1);
    return;
  }
  write->early = TRUE;
  if (vma_deadman_answer_early (files->deadman, &write->pending))
    answer (write);
}

/* A write, or (NULL) a write of zeros; answered in any case. */
static void
take (fuse_req_t req, const File *file, const char *data, guint64 size, guint64 offset)
{
  VmaFiles *files = files_of (req);
  Write write = {
    .pending = { .req = req, .hook = file->hook, .written = data != NULL ? size : 0 },
    .files = files,
    .file = file,
    .size = size,
    .start = now_ns (),
  };

  vma_deadman_enter (files->deadman, &write.pending);
  vma_point_write (files->options.point, file->disk, file->hook, offset, (const guint8 *) data,
                   size, file->hook ? on_taken : NULL, &write);
  if (vma_deadman_leave (files->deadman, &write.pending))
    answer (&write);
  if (write.early)
    atomic_fetch_sub (&files->n_early, 1);
}

static void
files_write (fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
             struct fuse_file_info *fi G_GNUC_UNUSED)
{
  const File *file = file_of (req, ino);

  if (file == NULL)
    fuse_reply_err (req, EISDIR);
  else
    take (req, file, data, size, (guint64) offset);
}

static void
files_fallocate (fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                 struct fuse_file_info *fi G_GNUC_UNUSED)
{
  const File *file = file_of (req, ino);
  int kind = mode & ~FALLOC_FL_KEEP_SIZE;

  if (file == NULL || offset < 0 || length < 0)
    fuse_reply_err (req, EINVAL);
  else if (kind != FALLOC_FL_ZERO_RANGE && kind != FALLOC_FL_PUNCH_HOLE)
    fuse_reply_err (req, EOPNOTSUPP); /* QEMU finds another way */
  else
    take (req, file, NULL, (guint64) length, (guint64) offset);
}

/*
 * What QEMU's snapshot reads back: clusters that it has copied before.  What was not copied is not
 * asked for, and reads as the zeros of an empty file; but not after a failure, when writes were
 * dropped.
 */
static gboolean
read_back (VmaFiles *files, const File *file, guint8 *buffer, guint64 offset, guint64 size)
{
  g_autofree guint8 *cluster = g_malloc (VMA_CLUSTER_SIZE);
  VmaPoint *point = files->options.point;

  for (guint64 at = offset; at < offset + size;) {
    guint64 skip = at % VMA_CLUSTER_SIZE;
    guint64 n = MIN (VMA_CLUSTER_SIZE - skip, offset + size - at);
    int found = 0;

    /* Where nothing can be read back nothing is shown either: what QEMU makes of this is dropped,
     * since the cluster is there already. */
    if (files->options.sink->ops->read != NULL || vma_point_has_failed (point, NULL))
      found = vma_point_read (point, file->disk, at / VMA_CLUSTER_SIZE, cluster, NULL);
    if (found < 0)
      return FALSE;
    if (found == 0) {
      memset (cluster, 0, VMA_CLUSTER_SIZE);
      vma_point_overlay (point, file->disk, at / VMA_CLUSTER_SIZE, cluster);
    }
    memcpy (buffer + (at - offset), cluster + skip, n);
    at += n;
  }
  return TRUE;
}

static void
files_read (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
            struct fuse_file_info *fi G_GNUC_UNUSED)
{
  VmaFiles *files = files_of (req);
  const File *file = file_of (req, ino);

  if (file == NULL || offset < 0) {
    fuse_reply_err (req, EINVAL);
    return;
  }
  guint64 end = files->sizes[file->disk];
  if ((guint64) offset >= end) {
    fuse_reply_buf (req, NULL, 0);
    return;
  }
  VmaPending pending = { .req = req, .reads = TRUE };
  guint64 n = MIN (MIN (size, MAX_READ), end - (guint64) offset);
  g_autofree guint8 *buffer = g_malloc (n);
  vma_deadman_enter (files->deadman, &pending);
  gboolean ok = read_back (files, file, buffer, (guint64) offset, n);
  if (!vma_deadman_leave (files->deadman, &pending))
    return;
  if (ok)
    fuse_reply_buf (req, (const char *) buffer, n);
  else
    fuse_reply_err (req, EIO);
}

/* Nothing is promised before the archive is complete. */
static void
files_fsync (fuse_req_t req, fuse_ino_t ino G_GNUC_UNUSED, int datasync G_GNUC_UNUSED,
             struct fuse_file_info *fi G_GNUC_UNUSED)
{
  fuse_reply_err (req, 0);
}

static void
files_flush (fuse_req_t req, fuse_ino_t ino G_GNUC_UNUSED, struct fuse_file_info *fi G_GNUC_UNUSED)
{
  fuse_reply_err (req, 0);
}

static void
files_init (void *data G_GNUC_UNUSED, struct fuse_conn_info *conn)
{
  conn->want &= ~(unsigned) (FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  conn->max_write = MIN (conn->max_write, VMA_SESSION_MAX_WRITE);
}

/*
 * No extended attributes: the kernel would ask for one at each write.  And no lseek: QEMU calls it in
 * its main loop, which is not to wait for us; so the kernel answers by itself that all is data.
 */
static const struct fuse_lowlevel_ops files_ops = {
  .init = files_init,
  .lookup = files_lookup,
  .getattr = files_getattr,
  .setattr = files_setattr,
  .readdir = files_readdir,
  .open = files_open,
  .read = files_read,
  .write = files_write,
  .fallocate = files_fallocate,
  .fsync = files_fsync,
  .flush = files_flush,
};

/* --- the mount -------------------------------------------------------------------------------- */

static guint64
progress (gpointer data)
{
  VmaTargetSink *sink = ((VmaFiles *) data)->options.sink;

  return sink->ops->written (sink);
}

static void
too_late (gpointer data, guint seconds)
{
  VmaFiles *files = data;
  g_autoptr (GError) error
      = g_error_new (VMA_ERROR, VMA_ERROR_IO,
                     "a request of QEMU had no answer for %u seconds: the output hangs", seconds);

  vma_point_fail (files->options.point, error);
}

static void
answered (gpointer data, guint n)
{
  VmaFiles *files = data;

  if (files->session != NULL)
    vma_session_relieve (files->session, n);
}

static gboolean
make_folder (VmaFiles *files, GError **error)
{
  const char *runtime = g_getenv ("XDG_RUNTIME_DIR");
  const char *parent = geteuid () == 0 ? "/run" : runtime != NULL ? runtime : g_get_tmp_dir ();

  files->folder = g_build_filename (parent, "vmabackup-XXXXXX", NULL);
  if (g_mkdtemp_full (files->folder, 0700) == NULL) {
    vma_set_errno_error (error, errno, "%s: cannot make a folder for QEMU's files", parent);
    g_clear_pointer (&files->folder, g_free);
    return FALSE;
  }
  return TRUE;
}

/*
 * The kernel finds out with the first call that there is no lseek, and no extended attributes; and never
 * asks again.  That call must not be one of QEMU's main loop, at a time when we hang.
 */
static void
teach_kernel (VmaFiles *files)
{
  char value[4];
  int fd = open (files->files[0].path, O_RDONLY | O_CLOEXEC);

  if (fd < 0)
    return;
  if (lseek (fd, 0, SEEK_DATA) < 0 || fgetxattr (fd, "user.x", value, sizeof value) < 0)
    g_debug ("%s: %s", files->files[0].path, g_strerror (errno));
  close (fd);
}

VmaFiles *
vma_files_new (const VmaFilesOptions *options, GError **error)
{
  VmaFiles *files = g_new0 (VmaFiles, 1);
  g_autoptr (GString) mount_options = g_string_new ("fsname=vmabackup,subtype=vmabackup,"
                                                    "default_permissions,nosuid,nodev,noexec");
  VmaDeadmanOptions deadman = {
    .seconds = options->request_timeout,
    .progress = progress,
    .too_late = too_late,
    .answered = answered,
    .data = files,
  };

  files->options = *options;
  files->sizes = g_memdup2 (options->sizes, options->n_disks * sizeof *options->sizes);
  files->counts = g_new0 (Counts, options->n_disks);
  files->files = g_new0 (File, 2 * options->n_disks);
  files->uid = options->allow_other ? options->owner : geteuid ();
  files->gid = getegid ();
  if (options->allow_other)
    g_string_append (mount_options, ",allow_other");
  if (!make_folder (files, error))
    goto failed;
  for (guint i = 0; i < 2 * options->n_disks; i++) {
    File *file = &files->files[i];
    g_autofree char *escaped = vma_name_escape (options->names[i / 2]);

    file->disk = i / 2;
    file->hook = i % 2 == 0;
    file->name = g_strdup_printf ("%s.%s", escaped, file->hook ? "cow" : "raw");
    file->path = g_build_filename (files->folder, file->name, NULL);
  }
  files->deadman = vma_deadman_new (&deadman);
  if (files->deadman == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "cannot start a thread");
    goto failed;
  }
  files->session = vma_session_mount (&files_ops, files, files->folder, mount_options->str,
                                      MAX_THREADS, error);
  if (files->session == NULL)
    goto failed;
  if (options->n_disks > 0)
    teach_kernel (files);
  return files;

failed:
  vma_files_free (files);
  return NULL;
}

gboolean
vma_files_free (VmaFiles *files)
{
  gboolean free_all = files->session == NULL || vma_session_stop (files->session);

  if (files->folder != NULL)
    rmdir (files->folder);
  if (!free_all)
    return FALSE;
  g_clear_pointer (&files->session, vma_session_free);
  g_clear_pointer (&files->deadman, vma_deadman_free);
  for (guint i = 0; i < 2 * files->options.n_disks; i++) {
    g_free (files->files[i].name);
    g_free (files->files[i].path);
  }
  g_free (files->files);
  g_free (files->counts);
  g_free (files->sizes);
  g_free (files->folder);
  g_free (files);
  return TRUE;
}

const char *
vma_files_mountpoint (VmaFiles *files)
{
  return files->folder;
}

const char *
vma_files_path (VmaFiles *files, guint disk, gboolean hook)
{
  return files->files[2 * disk + (hook ? 0 : 1)].path;
}

void
vma_files_release (VmaFiles *files)
{
  vma_deadman_answer_all (files->deadman);
}

void
vma_files_get_counts (VmaFiles *files, guint disk, VmaFilesCounts *counts)
{
  const Counts *from = &files->counts[disk];

  *counts = (VmaFilesCounts){
    .bytes = atomic_load_explicit (&from->bytes, memory_order_relaxed),
    .requests = atomic_load_explicit (&from->requests, memory_order_relaxed),
    .ns = atomic_load_explicit (&from->ns, memory_order_relaxed),
    .max_ns = atomic_load_explicit (&from->max_ns, memory_order_relaxed),
  };
}
