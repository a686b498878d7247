/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/io.h"

#include <errno.h>
#include <unistd.h>

gssize
vma_io_pread (int fd, void *buffer, gsize size, guint64 offset)
{
  gsize done = 0;

  while (done < size) {
    gssize n = pread (fd, (guint8 *) buffer + done, size - done, (off_t) (offset + done));
    if (n == 0)
      break;
    if (n < 0 && errno != EINTR)
      return -1;
    if (n > 0)
      done += (gsize) n;
  }
  return (gssize) done;
}

gboolean
vma_io_pread_all (int fd, void *buffer, gsize size, guint64 offset)
{
  return vma_io_pread (fd, buffer, size, offset) == (gssize) size;
}

gboolean
vma_io_pwrite_all (int fd, const void *buffer, gsize size, guint64 offset)
{
  gsize done = 0;

  while (done < size) {
    gssize n = pwrite (fd, (const guint8 *) buffer + done, size - done, (off_t) (offset + done));
    if (n == 0)
      errno = EIO; /* nobody promises that the next one would do more */
    if (n == 0 || (n < 0 && errno != EINTR))
      return FALSE;
    if (n > 0)
      done += (gsize) n;
  }
  return TRUE;
}
