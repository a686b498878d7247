/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/io.h"

#include <errno.h>
#include <unistd.h>

/* pread(), or read() where there is no offset (-1). */
static gsize
read_all (int fd, guint8 *buffer, gsize size, gint64 offset, int *errnum)
{
  gsize done = 0;
  int why = 0;

  while (done < size && why == 0) {
    gssize n = offset < 0 ? read (fd, buffer + done, size - done)
                          : pread (fd, buffer + done, size - done, (off_t) offset + (off_t) done);
    if (n > 0)
      done += (gsize) n;
    else if (n == 0)
      break;
    else if (errno != EINTR)
      why = errno;
  }
  if (errnum != NULL)
    *errnum = why;
  return done;
}

gsize
vma_io_pread (int fd, void *buffer, gsize size, guint64 offset, int *errnum)
{
  if (offset > G_MAXINT64) { /* behind the end of any file */
    if (errnum != NULL)
      *errnum = 0;
    return 0;
  }
  return read_all (fd, buffer, size, (gint64) offset, errnum);
}

gsize
vma_io_read (int fd, void *buffer, gsize size, int *errnum)
{
  return read_all (fd, buffer, size, -1, errnum);
}

gsize
vma_io_pwrite (int fd, const void *buffer, gsize size, guint64 offset, int *errnum)
{
  gsize done = 0;
  int why = 0;

  while (done < size && why == 0) {
    gssize n = pwrite (fd, (const guint8 *) buffer + done, size - done, (off_t) (offset + done));
    if (n > 0)
      done += (gsize) n;
    else if (n == 0)
      why = ENOSPC; /* nobody promises that the next one would do more */
    else if (errno != EINTR)
      why = errno;
  }
  if (errnum != NULL)
    *errnum = why;
  return done;
}

gboolean
vma_io_pread_all (int fd, void *buffer, gsize size, guint64 offset)
{
  return vma_io_pread (fd, buffer, size, offset, NULL) == size;
}

gboolean
vma_io_pwrite_all (int fd, const void *buffer, gsize size, guint64 offset)
{
  int errnum;

  if (vma_io_pwrite (fd, buffer, size, offset, &errnum) == size)
    return TRUE;
  errno = errnum;
  return FALSE;
}
