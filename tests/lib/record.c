/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A preloaded library that writes down what a program changes in the folder $RECORD_FOLDER, into
 * $RECORD_LOG: tests/lib/powercut.py makes of it what a power failure at any point could have left.
 *
 *   RECORD_PROGRAM      name of the program that is recorded; others that inherit the environment
 *                       are not
 *   RECORD_NO_TMPFILE   if set, there are no unnamed files, as on some file systems
 *
 * The log is a row of records: kind (1 byte), inode (8), offset (8), length (8), then `length`
 * bytes, which are data or one or two paths.  Kinds:  W write  T truncate to `offset`  Z zeros
 * S sync  N a name for an inode  M rename (two paths, a zero byte between)  U unlink.
 * Little-endian machines only.
 *
 * Locking: one mutex around each call and its record, so that the log has the order of what
 * happened.
 */
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__ ((visibility ("default")))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static dev_t device;

static ssize_t (*real_write) (int, const void *, size_t);

static void *
next (const char *name)
{
  void *found = dlsym (RTLD_NEXT, name);

  if (found == NULL)
    abort ();
  return found;
}

__attribute__ ((constructor)) static void
start (void)
{
  const char *path = getenv ("RECORD_LOG"), *folder = getenv ("RECORD_FOLDER");
  const char *program = getenv ("RECORD_PROGRAM");
  struct stat st;

  real_write = (ssize_t (*) (int, const void *, size_t))next ("write");
  if (path == NULL || folder == NULL || program == NULL
      || strcmp (program, program_invocation_short_name) != 0)
    return;
  int (*real_open) (const char *, int, ...) = (int (*) (const char *, int, ...))next ("open");
  if (stat (folder, &st) != 0
      || (log_fd = real_open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0) {
    fprintf (stderr, "record: %s\n", strerror (errno));
    _exit (125);
  }
  device = st.st_dev;
}

/* Whether a descriptor is a file or directory where we look, and its number. */
static bool
is_ours (int fd, uint64_t *inode)
{
  struct stat st;

  if (log_fd < 0 || fstat (fd, &st) != 0 || st.st_dev != device
      || (!S_ISREG (st.st_mode) && !S_ISDIR (st.st_mode)))
    return false;
  *inode = st.st_ino;
  return true;
}

static void
record (char kind, uint64_t inode, uint64_t offset, const void *data, uint64_t size)
{
  char head[25];

  if (log_fd < 0)
    return;
  head[0] = kind;
  memcpy (head + 1, &inode, 8);
  memcpy (head + 9, &offset, 8);
  memcpy (head + 17, &size, 8);
  if (real_write (log_fd, head, sizeof head) != sizeof head
      || real_write (log_fd, data, size) != (ssize_t)size)
    abort ();
}

/* A path that is relative to a directory, as an absolute one. */
static void
absolute (int dir, const char *path, char out[4096])
{
  char link[64], folder[2048] = "";

  if (path[0] != '/') {
    ssize_t n;
    if (dir == AT_FDCWD)
      strcpy (link, "/proc/self/cwd");
    else
      snprintf (link, sizeof link, "/proc/self/fd/%d", dir);
    n = readlink (link, folder, sizeof folder - 1);
    folder[n > 0 ? n : 0] = '\0';
    snprintf (out, 4096, "%s/%s", folder, path);
  } else
    snprintf (out, 4096, "%s", path);
}

static void
record_name (char kind, uint64_t inode, int dir, const char *path)
{
  char full[4096];

  absolute (dir, path, full);
  record (kind, inode, 0, full, strlen (full));
}

/* A call with the lock held, then a record where it worked. */
#define RECORDED(type, name, parameters, arguments, ...)                                           \
  EXPORT type name parameters;                                                                     \
  type name parameters                                                                             \
  {                                                                                                \
    static type (*real) parameters;                                                                \
    if (real == NULL)                                                                              \
      real = (type (*) parameters)next (#name);                                                    \
    pthread_mutex_lock (&lock);                                                                    \
    type result = real arguments;                                                                  \
    int before = errno;                                                                            \
    uint64_t inode = 0;                                                                            \
    if (result >= 0) {                                                                             \
      __VA_ARGS__                                                                                  \
    }                                                                                              \
    pthread_mutex_unlock (&lock);                                                                  \
    errno = before;                                                                                \
    return result;                                                                                 \
  }

#define AT(name, offset)                                                                           \
  RECORDED (ssize_t, name, (int fd, const void *data, size_t size, offset at),                     \
            (fd, data, size, at), {                                                                \
              if (is_ours (fd, &inode))                                                            \
                record ('W', inode, (uint64_t)at, data, (uint64_t)result);                         \
            })
AT (pwrite, off_t)
AT (pwrite64, off64_t)

#define VECTOR(name, offset)                                                                       \
  RECORDED (ssize_t, name, (int fd, const struct iovec *iov, int n, offset at),                    \
            (fd, iov, n, at), {                                                                    \
    uint64_t left = (uint64_t)result, place = (uint64_t)at;                                        \
    for (int i = 0; is_ours (fd, &inode) && i < n && left > 0; i++) {                              \
      uint64_t part = iov[i].iov_len < left ? iov[i].iov_len : left;                               \
      record ('W', inode, place, iov[i].iov_base, part);                                           \
      place += part;                                                                               \
      left -= part;                                                                                \
    }                                                                                              \
  })
VECTOR (pwritev, off_t)
VECTOR (pwritev64, off64_t)

RECORDED (ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), {
  if (is_ours (fd, &inode))
    record ('W', inode, (uint64_t)(lseek (fd, 0, SEEK_CUR) - result), data, (uint64_t)result);
})

#define TRUNCATE(name, offset)                                                                     \
  RECORDED (int, name, (int fd, offset size), (fd, size), {                                        \
    if (is_ours (fd, &inode))                                                                      \
      record ('T', inode, (uint64_t)size, "", 0);                                                  \
  })
TRUNCATE (ftruncate, off_t)
TRUNCATE (ftruncate64, off64_t)

/* The length of zeros goes where data would be: as decimal digits. */
#define ALLOCATE(name, offset)                                                                     \
  RECORDED (int, name, (int fd, int mode, offset at, offset size), (fd, mode, at, size), {         \
    char digits[32];                                                                               \
    snprintf (digits, sizeof digits, "%llu", (unsigned long long)size);                            \
    if (mode != 0 && is_ours (fd, &inode))                                                         \
      record ('Z', inode, (uint64_t)at, digits, strlen (digits));                                  \
  })
ALLOCATE (fallocate, off_t)
ALLOCATE (fallocate64, off64_t)

#define SYNC(name)                                                                                 \
  RECORDED (int, name, (int fd), (fd), {                                                           \
    if (is_ours (fd, &inode))                                                                      \
      record ('S', inode, 0, "", 0);                                                               \
  })
SYNC (fsync)
SYNC (fdatasync)

static void
record_rename (int from_dir, const char *from, int to_dir, const char *to)
{
  char both[8192 + 1];

  absolute (from_dir, from, both);
  size_t n = strlen (both) + 1;
  absolute (to_dir, to, both + n);
  record ('M', 0, 0, both, n + strlen (both + n));
}

RECORDED (int, rename, (const char *from, const char *to), (from, to),
          { record_rename (AT_FDCWD, from, AT_FDCWD, to); (void)inode; })
RECORDED (int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to),
          { record_rename (a, from, b, to); (void)inode; })
RECORDED (int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
          (a, from, b, to, flags), { record_rename (a, from, b, to); (void)inode; })
RECORDED (int, linkat, (int a, const char *from, int b, const char *to, int flags),
          (a, from, b, to, flags), {
            struct stat st;
            if (log_fd >= 0 && fstatat (b, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
              inode = st.st_ino;
            record_name ('N', inode, b, to);
          })
RECORDED (int, unlink, (const char *path), (path), { record_name ('U', inode, AT_FDCWD, path); })
RECORDED (int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags),
          { record_name ('U', inode, dir, path); })

#define OPEN(name, dir, parameters, call)                                                          \
  EXPORT int name parameters;                                                                      \
  int name parameters                                                                              \
  {                                                                                                \
    static int (*real) parameters;                                                                 \
    if (real == NULL)                                                                              \
      real = (int (*) parameters)next (#name);                                                     \
    mode_t mode = 0;                                                                               \
    bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;                                               \
    if (unnamed || (flags & O_CREAT) != 0) {                                                       \
      va_list list;                                                                                \
      va_start (list, flags);                                                                      \
      mode = va_arg (list, mode_t);                                                                \
      va_end (list);                                                                               \
    }                                                                                              \
    if (unnamed && log_fd >= 0 && getenv ("RECORD_NO_TMPFILE") != NULL) {                          \
      errno = EOPNOTSUPP;                                                                          \
      return -1;                                                                                   \
    }                                                                                              \
    pthread_mutex_lock (&lock);                                                                    \
    int result = real call;                                                                        \
    int before = errno;                                                                            \
    uint64_t inode;                                                                                \
    if (result >= 0 && (flags & O_CREAT) != 0 && is_ours (result, &inode))                         \
      record_name ('N', inode, dir, path);                                                         \
    pthread_mutex_unlock (&lock);                                                                  \
    errno = before;                                                                                \
    return result;                                                                                 \
  }

OPEN (open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN (open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN (openat, at, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN (openat64, at, (int at, const char *path, int flags, ...), (at, path, flags, mode))
