/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A preloaded library that makes small reads of $SLOW_PREAD_FILE slow, $SLOW_PREAD_US each: a scan that
 * takes seconds, as on a cold disk, without an archive of terabytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int
is_slow_file (int fd)
{
  const char *wanted = getenv ("SLOW_PREAD_FILE");
  char link[64], path[PATH_MAX];

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink (link, path, sizeof path - 1);
  if (n < 0 || wanted == NULL)
    return 0;
  path[n] = '\0';
  return strcmp (path, wanted) == 0;
}

static void
delay (int fd, size_t size)
{
  const char *us = getenv ("SLOW_PREAD_US");

  if (us != NULL && size <= 4096 && is_slow_file (fd)) {
    struct timespec t = { atol (us) / 1000000, atol (us) % 1000000 * 1000 };
    nanosleep (&t, NULL);
  }
}

#define SLOW(name, offset)                                                                         \
  ssize_t name (int fd, void *buffer, size_t size, offset at);                                     \
  ssize_t name (int fd, void *buffer, size_t size, offset at)                                      \
  {                                                                                                \
    static ssize_t (*real) (int, void *, size_t, offset);                                          \
    if (real == NULL)                                                                              \
      real = (ssize_t (*) (int, void *, size_t, offset)) dlsym (RTLD_NEXT, #name);                 \
    delay (fd, size);                                                                              \
    return real (fd, buffer, size, at);                                                            \
  }

SLOW (pread, off_t)
SLOW (pread64, off64_t)
