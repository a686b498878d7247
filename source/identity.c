/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/identity.h"

#include "base/io.h"
#include "vma/error.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static gboolean
hash_at (int fd, guint64 offset, guint8 digest[16], GError **error)
{
  g_autofree guint8 *buffer = g_malloc (VMA_IDENTITY_HASHED);
  int errnum;
  gsize n = vma_io_pread (fd, buffer, VMA_IDENTITY_HASHED, offset, &errnum);

  if (errnum != 0) {
    vma_set_errno_error (error, errnum, "cannot read at %" G_GUINT64_FORMAT, offset);
    return FALSE;
  }
  XXH128_canonicalFromHash ((XXH128_canonical_t *) digest, XXH3_128bits (buffer, n));
  return TRUE;
}

gboolean
vma_identity_of_fd (int fd, VmaSourceIdentity *identity, GError **error)
{
  struct stat st;
  off_t size = lseek (fd, 0, SEEK_END); /* st_size is 0 for a block device */

  if (size < 0 || fstat (fd, &st) != 0) {
    vma_set_errno_error (error, errno, "cannot find its size");
    return FALSE;
  }
  identity->size = (guint64) size;
  identity->mtime_ns = (gint64) st.st_mtim.tv_sec * G_GINT64_CONSTANT (1000000000)
                       + st.st_mtim.tv_nsec;
  return hash_at (fd, 0, identity->head, error)
         && hash_at (fd, size > (off_t) VMA_IDENTITY_HASHED ? (guint64) size - VMA_IDENTITY_HASHED : 0,
                     identity->tail, error);
}
