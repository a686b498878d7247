/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A preloaded library that stands for a kernel without Landlock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

long
syscall (long number, ...)
{
  static long (*real) (long, ...);
  long a[6];
  va_list list;

  if (number == SYS_landlock_create_ruleset) {
    errno = ENOSYS;
    return -1;
  }
  if (real == NULL)
    real = (long (*) (long, ...)) dlsym (RTLD_NEXT, "syscall");
  va_start (list, number);
  for (int i = 0; i < 6; i++)
    a[i] = va_arg (list, long);
  va_end (list);
  return real (number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
