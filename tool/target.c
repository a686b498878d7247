/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/target.h"

#include "base/io.h"
#include "tool/interrupt.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Zeros are written this much at a time, so that an interrupt need not wait for long. */
#define ZERO_STEP (64u * 1024 * 1024)
#define PLAIN_ZEROS (1024u * 1024)
/*
 * After so much data the medium is set to work.  Otherwise all of it would be left for the fsync at the
 * end (measured: a tenth faster in all).
 */
#define WRITEBACK_STEP (16u * 1024 * 1024)
/* What block devices can be told to zero comes in units of this. */
#define SECTOR 512u

struct ToolTarget {
  char *shown;
  int fd;
  guint64 size;  /* of the disk; nothing behind it is written */
  gboolean fresh;
  gboolean is_device;
  gboolean write_zeros;
  guint64 zero_start, zero_end; /* yet to be zeroed */
  guint64 unsynced;             /* written since writeback was last started */
  struct stat st;
};

static ToolTarget *
target_new (int fd, const char *shown, guint64 size)
{
  ToolTarget *target = g_new0 (ToolTarget, 1);

  target->fd = fd;
  target->shown = g_strdup (shown);
  target->size = size;
  return target;
}

ToolTarget *
tool_target_create (int dir_fd, const char *name, const char *shown, guint64 size, GError **error)
{
  int fd = openat (dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);

  if (fd < 0) {
    vma_set_errno_error (error, errno, "%s: cannot create", shown);
    return NULL;
  }
  ToolTarget *target = target_new (fd, shown, size);
  target->fresh = TRUE;
  fstat (fd, &target->st);
  return target;
}

/* Checks that the open target can take the disk. */
static gboolean
check_existing (ToolTarget *target, GError **error)
{
  if (fstat (target->fd, &target->st) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot look at it", target->shown);
    return FALSE;
  }
  target->is_device = S_ISBLK (target->st.st_mode);
  if (!target->is_device && !S_ISREG (target->st.st_mode)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "%s: neither a file nor a block device", target->shown);
    return FALSE;
  }
  off_t there = lseek (target->fd, 0, SEEK_END);
  if (there < 0) {
    vma_set_errno_error (error, errno, "%s: cannot find its size", target->shown);
    return FALSE;
  }
  if ((guint64) there < target->size || (guint64) there > target->size + TOOL_TARGET_SLACK) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "%s: is of %" G_GINT64_FORMAT " bytes, and the disk of %" G_GUINT64_FORMAT
                 " (at most 4 MiB more are accepted)",
                 target->shown, (gint64) there, target->size);
    return FALSE;
  }
  return TRUE;
}

ToolTarget *
tool_target_open (const char *path, guint64 size, gboolean write_zeros, GError **error)
{
  struct stat st;
  /* O_EXCL refuses a device that is in use, e.g. mounted. */
  int exclusive = stat (path, &st) == 0 && S_ISBLK (st.st_mode) ? O_EXCL : 0;
  int fd = open (path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | exclusive);

  if (fd < 0) {
    vma_set_errno_error (error, errno,
                         errno == ENOENT && strchr (path, ':') != NULL
                             ? "%s: cannot open (only raw files and block devices can be targets)"
                             : "%s: cannot open",
                         path);
    return NULL;
  }
  g_autoptr (ToolTarget) target = target_new (fd, path, size);
  target->write_zeros = write_zeros;
  return check_existing (target, error) ? g_steal_pointer (&target) : NULL;
}

gboolean
tool_target_is_same (const ToolTarget *a, const ToolTarget *b)
{
  if (a->is_device && b->is_device)
    return a->st.st_rdev == b->st.st_rdev;
  return a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino;
}

/* --- writing ----------------------------------------------------------------------------------- */

static gboolean
write_all (ToolTarget *target, const guint8 *data, gsize size, guint64 offset, GError **error)
{
  int errnum;
  gsize done = vma_io_pwrite (target->fd, data, size, offset, &errnum);

  if (done < size)
    vma_set_errno_error (error, errnum, "%s: cannot write at %" G_GUINT64_FORMAT, target->shown,
                         offset + done);
  return done == size;
}

gboolean
tool_target_write (ToolTarget *target, const void *data, gsize size, guint64 offset, GError **error)
{
  if (offset >= target->size)
    return TRUE;
  if (!write_all (target, data, (gsize) MIN (size, target->size - offset), offset, error))
    return FALSE;
  target->unsynced += size;
  if (target->unsynced >= WRITEBACK_STEP) {
    sync_file_range (target->fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a wish only */
    target->unsynced = 0;
  }
  return TRUE;
}

/* Has the system zero a range; FALSE where it cannot. */
static gboolean
zero_range (ToolTarget *target, guint64 offset, guint64 size)
{
  if (target->is_device) {
    uint64_t range[2] = { offset, size };
    return ioctl (target->fd, BLKZEROOUT, range) == 0;
  }
  /* A hole is the better zero: it takes no space. */
  return fallocate (target->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) offset,
                    (off_t) size)
             == 0
         || fallocate (target->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t) offset,
                       (off_t) size)
                == 0;
}

static gboolean
write_zeros (ToolTarget *target, guint64 offset, guint64 size, GError **error)
{
  g_autofree guint8 *zeros = g_malloc0 (PLAIN_ZEROS);

  for (guint64 done = 0, n; done < size; done += n) {
    n = MIN (PLAIN_ZEROS, size - done);
    if (!write_all (target, zeros, (gsize) n, offset + done, error))
      return FALSE;
  }
  return TRUE;
}

/* Zeroes what was put off. */
static gboolean
flush_zeros (ToolTarget *target, GError **error)
{
  guint64 end = MIN (target->zero_end, target->size);

  for (guint64 at = target->zero_start, n; at < end; at += n) {
    if (g_cancellable_is_cancelled (tool_cancellable ())) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    n = MIN (ZERO_STEP, end - at);
    if (n > SECTOR)
      n -= n % SECTOR; /* the odd tail of a disk is a step of its own */
    if ((n < SECTOR || !zero_range (target, at, n)) && !write_zeros (target, at, n, error))
      return FALSE;
  }
  target->zero_start = target->zero_end = 0;
  return TRUE;
}

gboolean
tool_target_zero (ToolTarget *target, guint64 offset, guint64 size, GError **error)
{
  if (!target->write_zeros)
    return TRUE;
  if (target->zero_end == offset && target->zero_start < target->zero_end) {
    target->zero_end += size;
    return TRUE;
  }
  if (!flush_zeros (target, error))
    return FALSE;
  target->zero_start = offset;
  target->zero_end = offset + size;
  return TRUE;
}

gboolean
tool_target_finish (ToolTarget *target, guint64 size, GError **error)
{
  if (!flush_zeros (target, error))
    return FALSE;
  if (target->fresh && ftruncate (target->fd, (off_t) size) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot set its size", target->shown);
    return FALSE;
  }
  if (fsync (target->fd) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot write", target->shown);
    return FALSE;
  }
  return TRUE;
}

void
tool_target_free (ToolTarget *target)
{
  if (target->fd >= 0)
    close (target->fd);
  g_free (target->shown);
  g_free (target);
}
