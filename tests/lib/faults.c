/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A preloaded library that makes one call of the system fail, or many; tests/lib/faults.py drives it.
 *
 * Each call below that can fail is counted at its site: the name of the call and the stack of its
 * callers.  Sites stay the same from run to run, whatever order threads run in, so that "the third
 * pread() that is called from there" can be asked for.
 *
 *   FAULTS_STATE    a file of at least sizeof (State) zero bytes: what was called and what failed.
 *                   It is shared by a process and its children
 *   FAULTS_PROGRAM  name of the program that meets the faults; others that inherit the environment
 *                   do not
 *   FAULTS          nothing: calls are listed only
 *                   KIND:SITE:N    the N-th call at this site (hexadecimal) fails in this way
 *                   KIND:SITE:N+   and so does all that is called later and can
 *                   KIND:every     all calls that can; eintr: every other call of a thread
 *   KIND            short eintr stop eio enospc enomem emfile eagain
 *                   (stop: EINTR where few programs look for it, in open() and the like)
 *
 * Not counted are standard error, and descriptors that are neither files nor pipes.  Of allocations
 * only GLib's g_try_...() can fail: all others abort the program, by design of GLib, and are
 * bounded instead.
 *
 * Locking: none; what is shared are atomics.  Before main() all calls go through: what the loader
 * does, and what compilers add to a program, is not what is tested.
 */
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#define _GNU_SOURCE 1
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__ ((visibility ("default")))
#define MAX_SITES 4096
#define MAX_FRAMES 9
#define MODULE_NAME 24

enum {
  SHORT = 1,
  INTR = 2,
  IO = 4,
  SPACE = 8,
  MEMORY = 16,
  FILES = 32,
  AGAIN = 64,
  STOP = 128,
};

static const struct {
  const char *name;
  int kind, errnum;
} kinds[] = {
  { "short", SHORT, 0 },        { "eintr", INTR, EINTR },     { "eio", IO, EIO },
  { "enospc", SPACE, ENOSPC },  { "enomem", MEMORY, ENOMEM }, { "emfile", FILES, EMFILE },
  { "eagain", AGAIN, EAGAIN },  { "stop", STOP, EINTR },
};

/* faults.py knows this layout. */
typedef struct {
  _Atomic uint64_t hash, calls;
  uint32_t kinds, n_frames;
  char call[24];
  struct {
    uint64_t offset;
    char module[MODULE_NAME];
  } frames[MAX_FRAMES];
} Site;

typedef struct {
  _Atomic uint64_t hits, broken;
  char padding[48];
  Site sites[MAX_SITES];
} State;

static State *state; /* NULL: not for this process */
static int kind, kind_errno;
static bool every, sticky;
static uint64_t wanted_site, wanted_call;
static _Thread_local bool inside;
static _Thread_local unsigned turn;

static void *
real (const char *name)
{
  bool was = inside;

  inside = true; /* dlsym() may allocate */
  void *function = dlsym (RTLD_NEXT, name);
  inside = was;
  if (function == NULL)
    abort ();
  return function;
}

/* --- sites ------------------------------------------------------------------------------------ */

static const char *
base_name (const char *path)
{
  const char *slash = strrchr (path, '/');

  return slash != NULL ? slash + 1 : path;
}

static void
mix (uint64_t *hash, const void *bytes, size_t size)
{
  const unsigned char *p = bytes;

  for (size_t i = 0; i < size; i++)
    *hash = (*hash ^ p[i]) * UINT64_C (0x100000001b3);
}

/* Who calls, without us. */
static uint64_t
look_at_callers (const char *call, Site *site)
{
  void *stack[MAX_FRAMES + 8];
  int n = backtrace (stack, MAX_FRAMES + 8);
  uint64_t hash = UINT64_C (0xcbf29ce484222325);
  static const char *self;

  mix (&hash, call, strlen (call));
  site->n_frames = 0;
  for (int i = 0; i < n && site->n_frames < MAX_FRAMES; i++) {
    Dl_info info;
    if (dladdr (stack[i], &info) == 0 || info.dli_fname == NULL)
      continue;
    if (self == NULL)
      self = info.dli_fname; /* the first frame is this function */
    if (strcmp (info.dli_fname, self) == 0)
      continue;
    uint64_t offset = (uint64_t)((char *)stack[i] - (char *)info.dli_fbase);
    const char *module = base_name (info.dli_fname);
    mix (&hash, &offset, sizeof offset);
    mix (&hash, module, strlen (module));
    site->frames[site->n_frames].offset = offset;
    snprintf (site->frames[site->n_frames].module, MODULE_NAME, "%s", module);
    site->n_frames++;
  }
  return hash | 1;
}

/* The number of this call at its site, from 1. */
static uint64_t
count_call (const char *call, int possible, uint64_t *hash)
{
  Site mine;

  *hash = look_at_callers (call, &mine);
  for (uint64_t i = 0; i < MAX_SITES; i++) {
    Site *site = &state->sites[(*hash + i) % MAX_SITES];
    uint64_t found = 0;
    if (atomic_compare_exchange_strong (&site->hash, &found, *hash)) {
      site->kinds = (uint32_t)possible;
      site->n_frames = mine.n_frames;
      snprintf (site->call, sizeof site->call, "%s", call);
      memcpy (site->frames, mine.frames, sizeof mine.frames);
      found = *hash;
    }
    if (found == *hash)
      return atomic_fetch_add (&site->calls, 1) + 1;
  }
  abort (); /* too many: the table must grow */
}

/* Which of the possible faults this call is to meet: 0, or the kind asked for, with errno set. */
static int
fault (const char *call, int possible)
{
  bool now = false;

  if (state == NULL || inside || possible == 0)
    return 0;
  int before = errno;
  inside = true;
  if (kind == 0 || ((possible & kind) != 0 && !every)) {
    uint64_t site, n = count_call (call, possible, &site);
    now = kind != 0
          && ((site == wanted_site && n == wanted_call)
              || (sticky && atomic_load (&state->broken)));
  } else if ((possible & kind) != 0)
    now = kind == SHORT || ++turn % 2 == 1;
  inside = false;
  if (now) {
    atomic_fetch_add (&state->hits, 1);
    atomic_store (&state->broken, 1);
  }
  errno = now && kind_errno != 0 ? kind_errno : before;
  return now ? kind : 0;
}

/* Memory that looks like a file: it may run short when it is written, and that is all. */
static bool
is_memory (int fd, const struct stat *st)
{
  char link[64], path[16];

  if (st->st_nlink != 0)
    return false;
  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  return readlink (link, path, sizeof path) >= 7 && strncmp (path, "/memfd:", 7) == 0;
}

/* What can happen to reads or writes of a descriptor. */
static int
of_descriptor (int fd, int possible)
{
  struct stat st;
  int before = errno, result = 0;

  if (state == NULL || inside || fd == STDERR_FILENO)
    return 0;
  inside = true;
  if (fstat (fd, &st) == 0) {
    if (S_ISREG (st.st_mode) || S_ISBLK (st.st_mode) || S_ISDIR (st.st_mode))
      result = possible & (is_memory (fd, &st) ? SPACE : ~AGAIN);
    else if (S_ISFIFO (st.st_mode))
      result = possible & (INTR | SHORT);
  }
  inside = false;
  errno = before;
  return result;
}

static void
start (void)
{
  const char *path = getenv ("FAULTS_STATE"), *program = getenv ("FAULTS_PROGRAM");
  const char *what = getenv ("FAULTS");
  void *warm_up[2];

  if (path == NULL || program == NULL || strcmp (program, program_invocation_short_name) != 0)
    return;
  for (size_t i = 0; what != NULL && i < sizeof kinds / sizeof *kinds; i++) {
    size_t n = strlen (kinds[i].name);
    if (strncmp (what, kinds[i].name, n) != 0 || what[n] != ':')
      continue;
    kind = kinds[i].kind;
    kind_errno = kinds[i].errnum;
    every = strcmp (what + n + 1, "every") == 0;
    if (!every) {
      char *end;
      wanted_site = strtoull (what + n + 1, &end, 16);
      wanted_call = *end == ':' ? strtoull (end + 1, &end, 10) : 0;
      sticky = *end == '+';
    }
  }
  inside = true;
  backtrace (warm_up, 2); /* loads what it needs */
  int fd = open (path, O_RDWR | O_CLOEXEC);
  void *memory = MAP_FAILED;
  if (fd >= 0)
    memory = mmap (NULL, sizeof (State), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    fprintf (stderr, "faults: %s: %s\n", path, strerror (errno));
    _exit (125);
  }
  close (fd);
  inside = false;
  state = memory;
}

/* --- calls ------------------------------------------------------------------------------------ */

/* A function `name` that goes to the real one, with code before. */
#define CALL(type, name, parameters, arguments, ...)                                               \
  EXPORT type name parameters;                                                                     \
  type name parameters                                                                             \
  {                                                                                                \
    static type (*next) parameters;                                                                \
    if (next == NULL)                                                                              \
      next = (type (*) parameters) real (#name);                                                   \
    __VA_ARGS__                                                                                    \
    return next arguments;                                                                         \
  }

/* A transfer of `size` bytes. */
#define TRANSFER(name, possible, parameters, arguments)                                            \
  CALL (ssize_t, name, parameters, arguments, {                                                    \
    int hit = fault (#name, of_descriptor (fd, (possible) & (size > 1 ? ~0 : ~SHORT)));            \
    if (hit != 0 && hit != SHORT)                                                                  \
      return -1;                                                                                   \
    if (hit == SHORT)                                                                              \
      size = size / 2;                                                                             \
  })

#define READS (SHORT | INTR | IO)
#define WRITES (SHORT | INTR | IO | SPACE)

TRANSFER (read, READS, (int fd, void *data, size_t size), (fd, data, size))
TRANSFER (write, WRITES, (int fd, const void *data, size_t size), (fd, data, size))
TRANSFER (pread, READS, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
TRANSFER (pread64, READS, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))
TRANSFER (pwrite, WRITES, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
TRANSFER (pwrite64, WRITES, (int fd, const void *data, size_t size, off64_t at),
          (fd, data, size, at))

/* Short in the middle of the first piece. */
#define VECTOR(name, possible, scalar, offset)                                                     \
  CALL (ssize_t, name, (int fd, const struct iovec *iov, int n, offset at), (fd, iov, n, at), {    \
    int hit = fault (#name, of_descriptor (fd, (possible) & (n > 0 ? ~0 : ~SHORT)));               \
    if (hit != 0 && hit != SHORT)                                                                  \
      return -1;                                                                                   \
    if (hit == SHORT && iov->iov_len > 1)                                                          \
      return next (fd, &(struct iovec){ iov->iov_base, iov->iov_len / 2 }, 1, at);                 \
    if (hit == SHORT)                                                                              \
      n = 1;                                                                                       \
  })

VECTOR (preadv, READS, pread, off_t)
VECTOR (preadv64, READS, pread64, off64_t)
VECTOR (pwritev, WRITES, pwrite, off_t)
VECTOR (pwritev64, WRITES, pwrite64, off64_t)

/* A call that fails, or not. */
#define PLAIN(type, name, possible, parameters, arguments)                                         \
  CALL (type, name, parameters, arguments, {                                                       \
    if (fault (#name, possible) != 0)                                                              \
      return (type) - 1;                                                                           \
  })

#define ON_MEDIUM of_descriptor (fd, STOP | IO | SPACE)
PLAIN (int, fsync, ON_MEDIUM, (int fd), (fd))
PLAIN (int, fdatasync, ON_MEDIUM, (int fd), (fd))
PLAIN (int, ftruncate, ON_MEDIUM, (int fd, off_t size), (fd, size))
PLAIN (int, ftruncate64, ON_MEDIUM, (int fd, off64_t size), (fd, size))
PLAIN (int, fallocate, ON_MEDIUM, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
PLAIN (int, fallocate64, ON_MEDIUM, (int fd, int mode, off64_t at, off64_t size),
       (fd, mode, at, size))
PLAIN (int, sync_file_range, of_descriptor (fd, IO | SPACE),
       (int fd, off64_t at, off64_t size, unsigned flags), (fd, at, size, flags))
PLAIN (off_t, lseek, of_descriptor (fd, IO), (int fd, off_t at, int whence), (fd, at, whence))
PLAIN (off64_t, lseek64, of_descriptor (fd, IO), (int fd, off64_t at, int whence),
       (fd, at, whence))
PLAIN (int, flock, of_descriptor (fd, STOP | IO), (int fd, int operation), (fd, operation))
PLAIN (int, rename, IO | SPACE, (const char *from, const char *to), (from, to))
PLAIN (int, renameat, IO | SPACE, (int a, const char *from, int b, const char *to),
       (a, from, b, to))
PLAIN (int, renameat2, IO | SPACE, (int a, const char *from, int b, const char *to, unsigned flags),
       (a, from, b, to, flags))
PLAIN (int, link, IO | SPACE, (const char *from, const char *to), (from, to))
PLAIN (int, linkat, IO | SPACE, (int a, const char *from, int b, const char *to, int flags),
       (a, from, b, to, flags))
PLAIN (int, symlinkat, IO | SPACE, (const char *target, int dir, const char *name),
       (target, dir, name))
PLAIN (int, mkdir, IO | SPACE, (const char *path, mode_t mode), (path, mode))
PLAIN (int, mkdirat, IO | SPACE, (int dir, const char *path, mode_t mode), (dir, path, mode))
PLAIN (int, stat, IO, (const char *path, struct stat *st), (path, st))
PLAIN (int, stat64, IO, (const char *path, struct stat64 *st), (path, st))
PLAIN (int, lstat, IO, (const char *path, struct stat *st), (path, st))
PLAIN (int, lstat64, IO, (const char *path, struct stat64 *st), (path, st))
PLAIN (int, fstat, of_descriptor (fd, IO), (int fd, struct stat *st), (fd, st))
PLAIN (int, fstat64, of_descriptor (fd, IO), (int fd, struct stat64 *st), (fd, st))
PLAIN (int, fstatat, IO, (int dir, const char *path, struct stat *st, int flags),
       (dir, path, st, flags))
PLAIN (int, fstatat64, IO, (int dir, const char *path, struct stat64 *st, int flags),
       (dir, path, st, flags))
PLAIN (int, memfd_create, FILES | MEMORY, (const char *name, unsigned flags), (name, flags))
PLAIN (int, eventfd, FILES, (unsigned value, int flags), (value, flags))
PLAIN (int, pipe2, FILES, (int fds[2], int flags), (fds, flags))
PLAIN (int, dup3, FILES, (int from, int to, int flags), (from, to, flags))

/* It is closed all the same, as Linux does. */
CALL (int, close, (int fd), (fd), {
  if (fault ("close", of_descriptor (fd, IO)) != 0) {
    next (fd);
    errno = EIO;
    return -1;
  }
})

CALL (DIR *, opendir, (const char *path), (path), {
  if (fault ("opendir", IO | MEMORY | FILES) != 0)
    return NULL;
})
CALL (DIR *, fdopendir, (int fd), (fd), {
  if (fault ("fdopendir", MEMORY) != 0)
    return NULL;
})
CALL (struct dirent *, readdir, (DIR * dir), (dir), {
  if (fault ("readdir", IO) != 0)
    return NULL;
})
CALL (struct dirent64 *, readdir64, (DIR * dir), (dir), {
  if (fault ("readdir64", IO) != 0)
    return NULL;
})

CALL (void *, mmap, (void *at, size_t size, int access, int flags, int fd, off_t offset),
      (at, size, access, flags, fd, offset), {
        if (fault ("mmap", MEMORY) != 0)
          return MAP_FAILED;
      })
CALL (void *, mmap64, (void *at, size_t size, int access, int flags, int fd, off64_t offset),
      (at, size, access, flags, fd, offset), {
        if (fault ("mmap64", MEMORY) != 0)
          return MAP_FAILED;
      })

CALL (int, pthread_create,
      (pthread_t * thread, const pthread_attr_t *attributes, void *(*function) (void *),
       void *data),
      (thread, attributes, function, data), {
        if (fault ("pthread_create", AGAIN) != 0)
          return EAGAIN;
      })

/* The mode is there only if a file may be made. */
#define OPEN(name, parameters, call)                                                               \
  EXPORT int name parameters;                                                                      \
  int name parameters                                                                              \
  {                                                                                                \
    static int (*next) parameters;                                                                 \
    mode_t mode = 0;                                                                               \
    int makes = (flags & (O_CREAT | O_TMPFILE)) & ~O_DIRECTORY;                                    \
    if (makes != 0) {                                                                              \
      va_list list;                                                                                \
      va_start (list, flags);                                                                      \
      mode = va_arg (list, mode_t);                                                                \
      va_end (list);                                                                               \
    }                                                                                              \
    if (next == NULL)                                                                              \
      next = (int (*) parameters) real (#name);                                                    \
    if (fault (#name, STOP | IO | FILES | (makes != 0 ? SPACE : 0)) != 0)                          \
      return -1;                                                                                   \
    return next call;                                                                              \
  }

OPEN (open, (const char *path, int flags, ...), (path, flags, mode))
OPEN (open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN (openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
OPEN (openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
PLAIN (int, mkostemp, IO | SPACE | FILES, (char *template, int flags), (template, flags))
PLAIN (int, mkostemp64, IO | SPACE | FILES, (char *template, int flags), (template, flags))

/* Only the duplicates. */
#define CONTROL(name)                                                                              \
  EXPORT int name (int fd, int command, ...);                                                      \
  int name (int fd, int command, ...)                                                              \
  {                                                                                                \
    static int (*next) (int, int, ...);                                                            \
    va_list list;                                                                                  \
    va_start (list, command);                                                                      \
    void *argument = va_arg (list, void *);                                                        \
    va_end (list);                                                                                 \
    if (next == NULL)                                                                              \
      next = (int (*) (int, int, ...)) real (#name);                                               \
    if ((command == F_DUPFD_CLOEXEC || command == F_DUPFD) && fault (#name, FILES) != 0)           \
      return -1;                                                                                   \
    return next (fd, command, argument);                                                           \
  }

CONTROL (fcntl)
CONTROL (fcntl64)

#define ALLOCATES(name, parameters, arguments)                                                     \
  CALL (void *, name, parameters, arguments, {                                                     \
    if (fault (#name, MEMORY) != 0)                                                                \
      return NULL;                                                                                 \
  })

ALLOCATES (g_try_malloc, (size_t size), (size))
ALLOCATES (g_try_malloc0, (size_t size), (size))
ALLOCATES (g_try_malloc_n, (size_t n, size_t size), (n, size))
ALLOCATES (g_try_malloc0_n, (size_t n, size_t size), (n, size))
ALLOCATES (g_try_realloc, (void *old, size_t size), (old, size))
ALLOCATES (g_try_realloc_n, (void *old, size_t n, size_t size), (old, n, size))

static int (*real_main) (int, char **, char **);

static int
start_and_run (int argc, char **argv, char **envp)
{
  start ();
  return real_main (argc, argv, envp);
}

/* Called by _start with the program's main(). */
EXPORT int __libc_start_main (int (*main) (int, char **, char **), int argc, char **argv,
                              void (*init) (void), void (*fini) (void), void (*rtld_fini) (void),
                              void *stack_end);

EXPORT int
__libc_start_main (int (*main) (int, char **, char **), int argc, char **argv,
                   void (*init) (void), void (*fini) (void), void (*rtld_fini) (void),
                   void *stack_end)
{
  __typeof__ (__libc_start_main) *next
      = (__typeof__ (__libc_start_main) *) dlsym (RTLD_NEXT, "__libc_start_main");

  real_main = main;
  return next (start_and_run, argc, argv, init, fini, rtld_fini, stack_end);
}
