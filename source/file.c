/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plain archive in a file or on a block device.
 *
 * Where the file is followed, a read behind what there is waits until it is there, or the file has
 * ended; until then nobody knows the size.
 */
#include "source/follow.h"
#include "source/identity.h"
#include "source/source-impl.h"

#include "base/io.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

/* How often a file that grows is looked at. */
#define POLL_US (G_USEC_PER_SEC / 10)

typedef struct {
  VmaSource base;
  int fd;
  int index_fd; /* the same file once more: read-ahead advice belongs to an open file */
  _Atomic guint64 size; /* so far, where `growing` */
  atomic_bool growing;
  pthread_mutex_t lock; /* of `follow` */
  VmaFollow follow;
} FileSource;

static VmaSource *
file_open (int fd, const guint8 *head G_GNUC_UNUSED, gsize head_size G_GNUC_UNUSED,
           const VmaSourceOptions *options, GError **error)
{
  g_autofree char *again = g_strdup_printf ("/proc/self/fd/%d", fd);
  gint64 size = lseek (fd, 0, SEEK_END);

  if (size < 0) {
    vma_set_errno_error (error, errno, "cannot find its size");
    close (fd);
    return NULL;
  }
  FileSource *source = g_new0 (FileSource, 1);
  source->fd = fd;
  atomic_init (&source->size, (guint64) size);
  pthread_mutex_init (&source->lock, NULL);
  if (options != NULL && options->follow) {
    atomic_init (&source->growing, TRUE);
    vma_follow_init (&source->follow, fd);
  }
  /* Without /proc the scan reads ahead too much, and that is all. */
  source->index_fd = open (again, O_RDONLY | O_CLOEXEC);
  if (source->index_fd >= 0)
    posix_fadvise (source->index_fd, 0, 0, POSIX_FADV_RANDOM);
  return &source->base;
}

/* Looks how large the file is by now. */
static gboolean
look (FileSource *source, GError **error)
{
  struct stat st;

  pthread_mutex_lock (&source->lock);
  /* In this order: what was written before the end is seen. */
  gboolean ended = vma_follow_has_ended (&source->follow);
  int failed = fstat (source->fd, &st) != 0 ? errno : 0;
  if (failed == 0)
    atomic_store (&source->size, (guint64) st.st_size);
  if (ended)
    atomic_store (&source->growing, FALSE);
  pthread_mutex_unlock (&source->lock);
  if (failed != 0)
    vma_set_errno_error (error, failed, "cannot find its size");
  return failed == 0;
}

/* Waits until the file reaches to `end`, or has ended. */
static gboolean
wait_for_growth (FileSource *source, guint64 end, GCancellable *cancellable, GError **error)
{
  while (atomic_load (&source->growing) && atomic_load (&source->size) < end) {
    if (!look (source, error))
      return FALSE;
    if (!atomic_load (&source->growing) || atomic_load (&source->size) >= end)
      break;
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    g_usleep (POLL_US);
  }
  return TRUE;
}

static gssize
file_pread (VmaSource *base, void *buffer, gsize size, guint64 offset, VmaReadHint hint,
            GCancellable *cancellable, GError **error)
{
  FileSource *source = (FileSource *) base;
  int fd = hint == VMA_READ_INDEX && source->index_fd >= 0 ? source->index_fd : source->fd;
  int errnum;

  if (!wait_for_growth (source, offset + size, cancellable, error))
    return -1;
  guint64 file_size = atomic_load (&source->size);
  if (offset >= file_size)
    return 0;
  size = (gsize) MIN (size, file_size - offset);
  gsize done = vma_io_pread (fd, buffer, size, offset, &errnum);
  if (done == size)
    return (gssize) done;
  if (errnum != 0)
    vma_set_errno_error (error, errnum, "cannot read at %" G_GUINT64_FORMAT, offset + done);
  else
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                 "the file was cut off at %" G_GUINT64_FORMAT " while it was in use", offset + done);
  return -1;
}

static guint64
file_size (VmaSource *base)
{
  FileSource *source = (FileSource *) base;

  return atomic_load (&source->growing) ? VMA_SIZE_UNKNOWN : atomic_load (&source->size);
}

static gboolean
file_identity (VmaSource *base, VmaSourceIdentity *identity, GError **error)
{
  return vma_identity_of_fd (((FileSource *) base)->fd, identity, error);
}

static void
file_free (VmaSource *base)
{
  FileSource *source = (FileSource *) base;

  if (source->index_fd >= 0)
    close (source->index_fd);
  close (source->fd);
  pthread_mutex_destroy (&source->lock);
  g_free (source);
}

const VmaSourceOps vma_file_source_ops = {
  .kind = "plain",
  .requests = 4,
  .open = file_open,
  .pread = file_pread,
  .size = file_size,
  .identity = file_identity,
  .free = file_free,
};
