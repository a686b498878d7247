/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/guest-target.h"

#include "base/io.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* What something is called until it is complete; one at a time. */
typedef struct {
  int dir;
  char name[64];
} Temporary;

static void
temporary_name (Temporary *temporary, int dir)
{
  static guint n;

  temporary->dir = dir;
  g_snprintf (temporary->name, sizeof temporary->name, ".vmatool-%ld-%u", (long) getpid (), n++);
}

/* May run in another thread, or twice. */
static void
remove_temporary (gpointer data)
{
  const Temporary *temporary = data;

  unlinkat (temporary->dir, temporary->name, 0);
}

static gboolean
set_exists_error (const char *shown, GError **error)
{
  /* An error of this file only: the rest of a copy need not stop for it. */
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: exists already (-f replaces it)", shown);
  return FALSE;
}

/* Looks before anything is read; whether it holds is seen at the commit. */
static gboolean
check_free (int dir, const char *name, const char *shown, const ToolGuestKeep *keep, GError **error)
{
  struct stat st;

  return keep->replace || fstatat (dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0
         || set_exists_error (shown, error);
}

/* Gives what is complete its name. */
static gboolean
commit (const Temporary *temporary, const char *name, const char *shown, gboolean replace,
        GError **error)
{
  int dir = temporary->dir, failed;

  if (replace)
    failed = renameat (dir, temporary->name, dir, name) != 0 ? errno : 0;
  else {
    failed = renameat2 (dir, temporary->name, dir, name, RENAME_NOREPLACE) != 0 ? errno : 0;
    if (failed == EINVAL || failed == ENOSYS) /* not every file system can */
      failed = linkat (dir, temporary->name, dir, name, 0) != 0 ? errno : 0;
  }
  /* Also after success: a name that is another one of the same file stays. */
  unlinkat (dir, temporary->name, 0);
  if (failed == 0)
    return TRUE;
  if (failed == EEXIST)
    return set_exists_error (shown, error);
  if (failed == EISDIR || failed == ENOTDIR)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: a directory is in the way", shown);
  else
    vma_set_errno_error (error, failed, "%s: cannot write", shown);
  return FALSE;
}

/* --- attributes -------------------------------------------------------------------------------- */

/* The bits a file gets; `owned`: it belongs to whom it did in the guest. */
static mode_t
mode_for (const VmaExtStat *st, gboolean owned, const ToolGuestKeep *keep)
{
  if (keep->attributes) /* set-user-id for anybody else would be a hole */
    return owned ? st->mode & 07777 : st->mode & 01777;
  mode_t mask = umask (0);
  umask (mask);
  return st->mode & 0777 & ~mask;
}

typedef struct {
  int fd;
  const char *shown;
  ToolGuestKeep *keep;
} Xattrs;

static gboolean
set_xattr (gpointer data, const char *name, const void *value, gsize size,
           GError **error G_GNUC_UNUSED)
{
  Xattrs *xattrs = data;

  if (fsetxattr (xattrs->fd, name, value, size, 0) == 0)
    return TRUE;
  if (xattrs->keep->refused++ == 0)
    xattrs->keep->first_refused
        = g_strdup_printf ("%s: %s: %s", xattrs->shown, name, g_strerror (errno));
  return TRUE;
}

/* In the order in which one does not undo the other. */
static gboolean
set_attributes (VmaExt *ext, const VmaExtStat *st, const char *source, int fd, const char *shown,
                ToolGuestKeep *keep, GError **error)
{
  const struct timespec times[2] = { st->atime, st->mtime };
  Xattrs xattrs = { .fd = fd, .shown = shown, .keep = keep };
  /* As cp does: who is not root keeps what is his own. */
  gboolean owned = keep->attributes && fchown (fd, st->uid, st->gid) == 0;

  if (fchmod (fd, mode_for (st, owned, keep)) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot set the mode", shown);
    return FALSE;
  }
  if (keep->xattrs && !vma_ext_xattrs (ext, st->ino, source, set_xattr, &xattrs, error))
    return FALSE;
  if (keep->attributes && futimens (fd, times) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot set the times", shown);
    return FALSE;
  }
  return TRUE;
}

/* Of what has no descriptor. */
static gboolean
set_attributes_at (const VmaExtStat *st, const Temporary *temporary, const char *shown,
                   const ToolGuestKeep *keep, GError **error)
{
  const struct timespec times[2] = { st->atime, st->mtime };
  int dir = temporary->dir;

  if (!keep->attributes)
    return TRUE;
  gboolean owned
      = fchownat (dir, temporary->name, st->uid, st->gid, AT_SYMLINK_NOFOLLOW) == 0;
  if ((!S_ISLNK (st->mode)
       && fchmodat (dir, temporary->name, mode_for (st, owned, keep), 0) != 0)
      || utimensat (dir, temporary->name, times, AT_SYMLINK_NOFOLLOW) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot set mode or times", shown);
    unlinkat (dir, temporary->name, 0);
    return FALSE;
  }
  return TRUE;
}

/* --- files ------------------------------------------------------------------------------------- */

typedef struct {
  int fd;
  const char *shown;
} Output;

static gboolean
on_data (gpointer data, const void *bytes, gsize size, guint64 offset, GError **error)
{
  const Output *output = data;

  if (g_cancellable_is_cancelled (tool_cancellable ())) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
    return FALSE;
  }
  if (!vma_io_pwrite_all (output->fd, bytes, size, offset)) {
    vma_set_errno_error (error, errno, "%s: cannot write", output->shown);
    return FALSE;
  }
  tool_progress_add (size);
  return TRUE;
}

static gboolean
write_content (VmaExt *ext, const VmaExtStat *st, const char *source, const Output *output,
               GError **error)
{
  if (!vma_ext_read (ext, st->ino, source, on_data, (gpointer) output, error))
    return FALSE;
  if (st->size <= G_MAXINT64 && ftruncate (output->fd, (off_t) st->size) == 0)
    return TRUE;
  vma_set_errno_error (error, st->size <= G_MAXINT64 ? errno : EFBIG, "%s: cannot write",
                       output->shown);
  return FALSE;
}

gboolean
tool_guest_put_file (VmaExt *ext, const VmaExtStat *st, const char *source, int dir,
                     const char *name, const char *shown, ToolGuestKeep *keep, GError **error)
{
  Temporary temporary;

  if (!check_free (dir, name, shown, keep, error))
    return FALSE;
  temporary_name (&temporary, dir);
  int fd = openat (dir, temporary.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) {
    vma_set_errno_error (error, errno, "%s: cannot write", shown);
    return FALSE;
  }
  tool_interrupt_set_cleanup (remove_temporary, &temporary);
  Output output = { .fd = fd, .shown = shown };
  gboolean ok = write_content (ext, st, source, &output, error)
                && set_attributes (ext, st, source, fd, shown, keep, error);
  if (close (fd) != 0 && ok) {
    vma_set_errno_error (error, errno, "%s: cannot write", shown);
    ok = FALSE;
  }
  if (ok)
    ok = commit (&temporary, name, shown, keep->replace, error);
  else
    remove_temporary (&temporary);
  tool_interrupt_set_cleanup (NULL, NULL);
  return ok;
}

/* --- all else ---------------------------------------------------------------------------------- */

gboolean
tool_guest_put_symlink (const char *to, const VmaExtStat *st, int dir, const char *name,
                        const char *shown, const ToolGuestKeep *keep, GError **error)
{
  Temporary temporary;

  temporary_name (&temporary, dir);
  if (symlinkat (to, dir, temporary.name) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot make the symbolic link", shown);
    return FALSE;
  }
  return set_attributes_at (st, &temporary, shown, keep, error)
         && commit (&temporary, name, shown, keep->replace, error);
}

gboolean
tool_guest_put_special (const VmaExtStat *st, int dir, const char *name, const char *shown,
                        const ToolGuestKeep *keep, GError **error)
{
  Temporary temporary;

  temporary_name (&temporary, dir);
  mode_t mode = (st->mode & S_IFMT) | mode_for (st, FALSE, keep);
  if (mknodat (dir, temporary.name, mode, makedev (st->major, st->minor)) != 0) {
    if (errno == EPERM)
      g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: only root can make a device", shown);
    else
      vma_set_errno_error (error, errno, "%s: cannot make it", shown);
    return FALSE;
  }
  return set_attributes_at (st, &temporary, shown, keep, error)
         && commit (&temporary, name, shown, keep->replace, error);
}

gboolean
tool_guest_put_hard_link (int root, const char *there, int dir, const char *name, const char *shown,
                          const ToolGuestKeep *keep, GError **error)
{
  Temporary temporary;

  temporary_name (&temporary, dir);
  if (linkat (root, there, dir, temporary.name, 0) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot make the hard link", shown);
    return FALSE;
  }
  return commit (&temporary, name, shown, keep->replace, error);
}

int
tool_guest_make_dir (int dir, const char *name, const char *shown, gboolean *is_new, GError **error)
{
  *is_new = mkdirat (dir, name, 0700) == 0;
  if (!*is_new && errno != EEXIST) {
    vma_set_errno_error (error, errno, "%s: cannot make the directory", shown);
    return -1;
  }
  int fd = openat (dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: what is there is no directory", shown);
  else if (fd < 0)
    vma_set_errno_error (error, errno, "%s: cannot open", shown);
  return fd;
}

gboolean
tool_guest_finish_dir (VmaExt *ext, const VmaExtStat *st, const char *source, int fd,
                       gboolean is_new, const char *shown, ToolGuestKeep *keep, GError **error)
{
  if (!is_new && !keep->attributes)
    return TRUE;
  return set_attributes (ext, st, source, fd, shown, keep, error);
}
