/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/packed-file.h"

#include "source/identity.h"
#include "vma/error.h"

#include <errno.h>
#include <unistd.h>

void
vma_packed_file_clear (VmaPackedFile *file)
{
  if (file->below != NULL)
    vma_source_unref (file->below);
  else if (file->fd >= 0)
    close (file->fd);
  *file = (VmaPackedFile){ .fd = -1 };
}

gssize
vma_packed_file_read (const VmaPackedFile *file, void *buffer, gsize size, guint64 offset,
                      GCancellable *cancellable, GError **error)
{
  gssize n;

  if (file->below != NULL)
    return vma_source_pread (file->below, buffer, size, offset, VMA_READ_DATA, cancellable, error);
  do
    n = pread (file->fd, buffer, size, (off_t)offset);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    vma_set_errno_error (error, errno, "cannot read at %" G_GUINT64_FORMAT " of the file", offset);
  return n;
}

guint64
vma_packed_file_size (const VmaPackedFile *file)
{
  return file->below != NULL ? vma_source_size (file->below)
                             : (guint64) lseek (file->fd, 0, SEEK_END);
}

gboolean
vma_packed_file_identity (const VmaPackedFile *file, VmaSourceIdentity *identity, GError **error)
{
  return file->below != NULL ? vma_source_identity (file->below, identity, error)
                             : vma_identity_of_fd (file->fd, identity, error);
}
