/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plain archive in a file or on a block device.
 */
#include "source/identity.h"
#include "source/source-impl.h"

#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

typedef struct {
  VmaSource base;
  int fd;
  int index_fd; /* the same file once more: read-ahead advice belongs to an open file */
  guint64 size;
} FileSource;

static VmaSource *
file_open (int fd, const guint8 *head G_GNUC_UNUSED, gsize head_size G_GNUC_UNUSED,
           const VmaSourceOptions *options G_GNUC_UNUSED, GError **error)
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
  source->size = (guint64) size;
  /* Without /proc the scan reads ahead too much, and that is all. */
  source->index_fd = open (again, O_RDONLY | O_CLOEXEC);
  if (source->index_fd >= 0)
    posix_fadvise (source->index_fd, 0, 0, POSIX_FADV_RANDOM);
  return &source->base;
}

static gssize
file_pread (VmaSource *base, void *buffer, gsize size, guint64 offset, VmaReadHint hint,
            GCancellable *cancellable G_GNUC_UNUSED, GError **error)
{
  FileSource *source = (FileSource *) base;
  int fd = hint == VMA_READ_INDEX && source->index_fd >= 0 ? source->index_fd : source->fd;
  gsize done = 0;

  if (offset >= source->size)
    return 0;
  size = (gsize) MIN (size, source->size - offset);
  while (done < size) {
    gssize n = pread (fd, (guint8 *) buffer + done, size - done, (off_t) (offset + done));
    if (n > 0) {
      done += (gsize) n;
    } else if (n == 0) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                   "the file was cut off at %" G_GUINT64_FORMAT " while it was in use",
                   offset + done);
      return -1;
    } else if (errno != EINTR) {
      vma_set_errno_error (error, errno, "cannot read at %" G_GUINT64_FORMAT, offset + done);
      return -1;
    }
  }
  return (gssize) done;
}

static guint64
file_size (VmaSource *base)
{
  return ((FileSource *) base)->size;
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
