/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUIET_US (60 * G_USEC_PER_SEC)

/* The kernel keeps the link of an open file up to date when the file is renamed. */
static gboolean
name_ends_in_dat (int fd)
{
  char link[64], path[PATH_MAX];

  g_snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  gssize n = readlink (link, path, sizeof path);
  return n >= 4 && memcmp (path + n - 4, ".dat", 4) == 0;
}

typedef enum { WRITERS_NONE, WRITERS_SOME, WRITERS_UNKNOWN } Writers;

static Writers
find_writers (int fd)
{
  /* A writer that comes while we hold the lease breaks it by a signal, which must not be SIGIO: that
   * one ends a process.  SIGURG is ignored where nobody cares for it. */
  if (fcntl (fd, F_SETSIG, SIGURG) != 0)
    return WRITERS_UNKNOWN;
  if (fcntl (fd, F_SETLEASE, F_RDLCK) != 0)
    return errno == EAGAIN ? WRITERS_SOME : WRITERS_UNKNOWN;
  fcntl (fd, F_SETLEASE, F_UNLCK);
  return WRITERS_NONE;
}

static guint64
current_size (int fd)
{
  struct stat st;

  return fstat (fd, &st) == 0 ? (guint64) st.st_size : 0;
}

void
vma_follow_init (VmaFollow *follow, int fd)
{
  follow->fd = fd;
  follow->was_dat = name_ends_in_dat (fd);
  follow->size = current_size (fd);
  follow->grown = g_get_monotonic_time ();
}

gboolean
vma_follow_has_ended (VmaFollow *follow)
{
  guint64 size = current_size (follow->fd);
  struct stat st;

  if (fstat (follow->fd, &st) == 0 && st.st_nlink == 0)
    return TRUE;
  if (follow->was_dat)
    return !name_ends_in_dat (follow->fd);

  Writers writers = find_writers (follow->fd);
  if (writers != WRITERS_UNKNOWN)
    return writers == WRITERS_NONE;

  if (size != follow->size) {
    follow->size = size;
    follow->grown = g_get_monotonic_time ();
  }
  return g_get_monotonic_time () - follow->grown >= QUIET_US;
}
