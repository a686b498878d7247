/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The interface as of version 6; what the headers at hand know may be older, and what the kernel
 * knows may be older still.
 */
typedef struct {
  guint64 fs, net, scoped;
} Attributes;

#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_BIND_TCP (1ull << 0)
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_SOCKET (1ull << 0)
#define SCOPE_SIGNAL (1ull << 1)

/* Version 1: from LANDLOCK_ACCESS_FS_EXECUTE to LANDLOCK_ACCESS_FS_MAKE_SYM. */
#define FS_FIRST ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define FS_REFER (1ull << 13)

/* What a rule about a file may have; the rest is about directories. */
#define FS_OF_FILES                                                                                \
  (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE       \
   | FS_TRUNCATE | FS_IOCTL_DEV)

struct VmaLandlock {
  gint version;
  Attributes handled;
  int fd;
};

VmaLandlock *
vma_landlock_new (gboolean network)
{
  long version = syscall (SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

  if (version < 1) {
    if (errno == ENOSYS || errno == EOPNOTSUPP)
      errno = 0;
    return NULL;
  }
  Attributes handled = { .fs = FS_FIRST };
  if (version >= 2)
    handled.fs |= FS_REFER;
  if (version >= 3)
    handled.fs |= FS_TRUNCATE;
  if (version >= 4)
    handled.net = NET_BIND_TCP | (network ? 0 : NET_CONNECT_TCP);
  if (version >= 5)
    handled.fs |= FS_IOCTL_DEV;
  if (version >= 6)
    handled.scoped = SCOPE_SIGNAL | (network ? 0 : SCOPE_ABSTRACT_SOCKET);
  /* An older kernel takes a longer structure, if what it does not know is zero. */
  int fd = (int) syscall (SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
  if (fd < 0)
    return NULL;
  VmaLandlock *landlock = g_new (VmaLandlock, 1);
  *landlock = (VmaLandlock){ (gint) version, handled, fd };
  return landlock;
}

void
vma_landlock_free (VmaLandlock *landlock)
{
  close (landlock->fd);
  g_free (landlock);
}

static guint64
rights (VmaSandboxAccess access)
{
  guint64 bits = 0;

  if (access & VMA_SANDBOX_READ)
    bits |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
  if (access & VMA_SANDBOX_WRITE)
    bits |= LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE;
  if (access & VMA_SANDBOX_CREATE)
    bits |= LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR
            | LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_REFER;
  return bits;
}

gboolean
vma_landlock_allow (VmaLandlock *landlock, const char *path, VmaSandboxAccess access)
{
  struct stat st;
  int fd;

  do
    fd = open (path, O_PATH | O_CLOEXEC);
  while (fd < 0 && errno == EINTR);
  /* What cannot be opened now cannot be opened later either, unless we are short of something. */
  if (fd < 0)
    return errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != EIO;
  struct landlock_path_beneath_attr rule
      = { .allowed_access = rights (access) & landlock->handled.fs, .parent_fd = fd };
  gboolean ok = fstat (fd, &st) == 0;
  if (ok && !S_ISDIR (st.st_mode))
    rule.allowed_access &= FS_OF_FILES;
  if (ok && rule.allowed_access != 0)
    /* EBADFD: a file of no file system, such as a pipe.  Landlock does not care for these. */
    ok = syscall (SYS_landlock_add_rule, landlock->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0
         || errno == EBADFD;
  int saved = errno;
  close (fd);
  errno = saved;
  return ok;
}

gboolean
vma_landlock_enter (VmaLandlock *landlock)
{
  return syscall (SYS_landlock_restrict_self, landlock->fd, 0) == 0;
}

gint
vma_landlock_version (const VmaLandlock *landlock)
{
  return landlock->version;
}
