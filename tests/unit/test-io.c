/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole reads and writes: how much it was, and why no more. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void
test_file (void)
{
  int fd = memfd_create ("io", MFD_CLOEXEC), errnum = -1;
  guint8 bytes[10], got[20];

  for (guint i = 0; i < sizeof bytes; i++)
    bytes[i] = (guint8) (i + 1);
  g_assert_cmpuint (vma_io_pwrite (fd, bytes, sizeof bytes, 5, &errnum), ==, 10);
  g_assert_cmpint (errnum, ==, 0);
  g_assert_true (vma_io_pread_all (fd, got, 15, 0));
  g_assert_cmpmem (got + 5, 10, bytes, 10);
  g_assert_false (vma_io_pread_all (fd, got, 16, 0));
  errnum = -1;
  g_assert_cmpuint (vma_io_pread (fd, got, sizeof got, 7, &errnum), ==, 8);
  g_assert_cmpint (errnum, ==, 0);
  g_assert_cmpmem (got, 8, bytes + 2, 8);
  g_assert_cmpuint (vma_io_pread (fd, got, 1, 15, NULL), ==, 0);
  /* Offsets of a hostile file. */
  g_assert_cmpuint (vma_io_pread (fd, got, 1, G_MAXUINT64, &errnum), ==, 0);
  g_assert_cmpuint (vma_io_pread (fd, got, sizeof got, G_MAXINT64, &errnum), ==, 0);
  close (fd);
}

static void
test_errors (void)
{
  guint8 got[4] = { 0 };
  int fd = open ("/dev/full", O_RDWR | O_CLOEXEC), errnum = 0;

  g_assert_cmpuint (vma_io_pread (-1, got, 4, 0, &errnum), ==, 0);
  g_assert_cmpint (errnum, ==, EBADF);
  g_assert_cmpuint (vma_io_pwrite (fd, got, 4, 0, &errnum), ==, 0);
  g_assert_cmpint (errnum, ==, ENOSPC);
  errno = 0;
  g_assert_false (vma_io_pwrite_all (fd, got, 4, 0));
  g_assert_cmpint (errno, ==, ENOSPC);
  close (fd);
}

static void *
write_slowly (void *data)
{
  int fd = GPOINTER_TO_INT (data);

  for (guint i = 0; i < 5; i++) {
    g_assert_cmpint (write (fd, "abc", 3), ==, 3);
    g_usleep (2000);
  }
  close (fd);
  return NULL;
}

/* A pipe hands out what it has, piece by piece. */
static void
test_pipe (void)
{
  int ends[2], errnum = -1;
  char got[20];
  pthread_t thread;

  g_assert_cmpint (pipe (ends), ==, 0);
  pthread_create (&thread, NULL, write_slowly, GINT_TO_POINTER (ends[1]));
  g_assert_cmpuint (vma_io_read (ends[0], got, 8, NULL), ==, 8);
  g_assert_cmpmem (got, 8, "abcabcab", 8);
  g_assert_cmpuint (vma_io_read (ends[0], got, sizeof got, &errnum), ==, 7);
  g_assert_cmpint (errnum, ==, 0);
  pthread_join (thread, NULL);
  close (ends[0]);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/io/file", test_file);
  g_test_add_func ("/io/errors", test_errors);
  g_test_add_func ("/io/pipe", test_pipe);
  return g_test_run ();
}
