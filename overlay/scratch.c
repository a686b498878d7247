/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The scratch file: made, opened, locked. */
#include "overlay/overlay-impl.h"

#include "base/io.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A mount that was ended a moment ago may still be writing. */
#define LOCK_WAIT_MS 3000
#define LOCK_STEP_MS 50

/* Up to this size the maps' space is taken beforehand, so that a sync cannot fail for want of it.
 */
#define RESERVED_MAX (1024u * 1024u * 1024u)

void
vma_scratch_set_error (GError **error, int errnum, const char *what)
{
  gboolean full = errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG;

  g_set_error (error, VMA_ERROR, full ? VMA_ERROR_NO_SPACE : VMA_ERROR_IO, "overlay: %s: %s", what,
               g_strerror (errnum));
}

gboolean
vma_scratch_read (int fd, void *buffer, gsize size, guint64 offset, GError **error)
{
  int errnum;

  if (vma_io_pread (fd, buffer, size, offset, &errnum) == size)
    return TRUE;
  if (errnum != 0)
    vma_scratch_set_error (error, errnum, "cannot read the scratch file");
  else
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "overlay: the scratch file was cut off");
  return FALSE;
}

/* Gives a new file its size, and its maps their space. */
static gboolean
set_size (int fd, const VmaOverlayLayout *layout, GError **error)
{
  if (ftruncate (fd, (off_t)layout->size) != 0) {
    if (errno == EFBIG)
      g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                   "a sparse file of %" G_GUINT64_FORMAT " bytes is needed, and this file system "
                   "has no files of that size (use another, such as XFS)",
                   layout->size);
    else
      vma_set_errno_error (error, errno, "cannot make it %" G_GUINT64_FORMAT " bytes long",
                           layout->size);
    return FALSE;
  }
  return TRUE;
}

static int
open_nameless (const char *dir)
{
  int fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
    return fd;
  /* A file system without such files. */
  g_autofree char *name = g_build_filename (dir, "vmafs-overlay.XXXXXX", NULL);
  fd = g_mkstemp_full (name, O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0)
    unlink (name);
  return fd;
}

const char *
vma_overlay_temporary_dir (void)
{
  const char *dir = g_getenv ("TMPDIR");

  return dir != NULL && *dir != '\0' ? dir : "/var/tmp";
}

int
vma_overlay_prepare (const char *file)
{
  if (file == NULL)
    return open_nameless (vma_overlay_temporary_dir ());
  if (access (file, F_OK) == 0)
    return -1;
  g_autofree char *dir = g_path_get_dirname (file);
  return open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

int
vma_scratch_open_temporary (int prepared, const VmaOverlayLayout *layout, GError **error)
{
  const char *dir = vma_overlay_temporary_dir ();
  int fd = prepared >= 0 ? prepared : open_nameless (dir);

  if (fd < 0)
    vma_set_errno_error (error, errno, "overlay in %s: cannot make a file", dir);
  else if (!set_size (fd, layout, error)) {
    g_prefix_error (error, "overlay in %s: ", dir);
    close (fd);
    fd = -1;
  }
  return fd;
}

/* --- files with a name ------------------------------------------------------------------------ */

static gboolean
write_new (int fd, const VmaOverlayLayout *layout, const guint8 *header, GError **error)
{
  if (!set_size (fd, layout, error))
    return FALSE;
  /* Where a file system cannot do that, a sync may fail for want of space, and that is all. */
  if (layout->map_end <= RESERVED_MAX && fallocate (fd, 0, 0, (off_t)layout->map_end) != 0
      && errno == ENOSPC) {
    vma_set_errno_error (error, errno, "no space for its map");
    return FALSE;
  }
  if (!vma_io_pwrite_all (fd, header, VMA_OVERLAY_HEADER_SIZE, 0) || fsync (fd) != 0) {
    vma_set_errno_error (error, errno, "cannot write its header");
    return FALSE;
  }
  return TRUE;
}

static gboolean
lock_file (int fd, GError **error)
{
  for (guint waited = 0; flock (fd, LOCK_EX | LOCK_NB) != 0; waited += LOCK_STEP_MS) {
    if (errno == EINTR)
      continue;
    if (errno != EWOULDBLOCK) {
      vma_set_errno_error (error, errno, "cannot lock it");
      return FALSE;
    }
    if (waited >= LOCK_WAIT_MS) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                   "the overlay is in use by another mount (unmount that first)");
      return FALSE;
    }
    g_usleep (LOCK_STEP_MS * 1000);
  }
  return TRUE;
}

static gboolean
sync_directory (const char *dir)
{
  int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  gboolean ok = fd >= 0 && fsync (fd) == 0;

  if (fd >= 0)
    close (fd);
  return ok;
}

int
vma_overlay_name (int fd, const char *file)
{
  g_autofree char *link_of = g_strdup_printf ("/proc/self/fd/%d", fd);
  g_autofree char *dir = g_path_get_dirname (file);

  if (linkat (AT_FDCWD, link_of, AT_FDCWD, file, AT_SYMLINK_FOLLOW) != 0)
    return errno;
  if (sync_directory (dir))
    return 0;
  int errnum = errno;
  unlink (file);
  return errnum;
}

/* Completes a file that was made beforehand. */
static int
finish_prepared (const VmaOverlayPrepared *prepared, const VmaOverlayLayout *layout,
                 const guint8 *header, GError **error)
{
  int errnum;

  if (write_new (prepared->fd, layout, header, error) && lock_file (prepared->fd, error)) {
    if ((errnum = prepared->name (prepared->data)) == 0)
      return prepared->fd;
    vma_set_errno_error (error, errnum, "cannot give it its name");
  }
  close (prepared->fd);
  return -1;
}

/* Makes the file under a temporary name, or none, and gives it its own when it is complete. */
static int
create_file (const char *file, const VmaOverlayLayout *layout, const guint8 *header, GError **error)
{
  g_autofree char *dir = g_path_get_dirname (file);
  g_autofree char *temporary = NULL;
  int fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    temporary = g_strconcat (file, ".XXXXXX", NULL);
    fd = g_mkstemp_full (temporary, O_RDWR | O_CLOEXEC, 0600);
  }
  if (fd < 0) {
    vma_set_errno_error (error, errno, "cannot make it");
    return -1;
  }
  g_autofree char *link_of
      = temporary != NULL ? g_strdup (temporary) : g_strdup_printf ("/proc/self/fd/%d", fd);
  gboolean ok = write_new (fd, layout, header, error) && lock_file (fd, error);
  if (ok && linkat (AT_FDCWD, link_of, AT_FDCWD, file, AT_SYMLINK_FOLLOW) != 0) {
    vma_set_errno_error (error, errno, "cannot give it its name");
    ok = FALSE;
  }
  if (temporary != NULL)
    unlink (temporary);
  if (ok && !sync_directory (dir)) {
    vma_set_errno_error (error, errno, "cannot write its directory");
    unlink (file);
    ok = FALSE;
  }
  if (!ok) {
    close (fd);
    return -1;
  }
  return fd;
}

static gboolean
check_file (int fd, const VmaOverlayLayout *layout, const guint8 *wanted, GError **error)
{
  g_autofree guint8 *found = g_malloc0 (VMA_OVERLAY_HEADER_SIZE);
  struct stat st;
  int errnum = 0;

  if (fstat (fd, &st) != 0) {
    vma_set_errno_error (error, errno, "cannot read it");
    return FALSE;
  }
  if (!S_ISREG (st.st_mode)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "an overlay must be a regular file");
    return FALSE;
  }
  vma_io_pread (fd, found, VMA_OVERLAY_HEADER_SIZE, 0, &errnum);
  if (errnum != 0) {
    vma_set_errno_error (error, errnum, "cannot read it");
    return FALSE;
  }
  if (!vma_overlay_header_check (found, wanted, error))
    return FALSE;
  if ((guint64)st.st_size != layout->size) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "the overlay is %" G_GINT64_FORMAT " bytes long, but must be %" G_GUINT64_FORMAT
                 " (it was cut off, or not copied as a whole)",
                 (gint64)st.st_size, layout->size);
    return FALSE;
  }
  return TRUE;
}

int
vma_scratch_open (const char *file, const VmaOverlayPrepared *prepared,
                  const VmaOverlayLayout *layout, const guint8 header[VMA_OVERLAY_HEADER_SIZE], gboolean *created, GError **error)
{
  struct stat opened, named;
  gboolean was_used = FALSE;
  int fd = open (file, O_RDWR | O_CLOEXEC | O_NONBLOCK);

  if (fd < 0 && errno == ENOENT) {
    fd = prepared->fd >= 0 ? finish_prepared (prepared, layout, header, error)
                           : create_file (file, layout, header, error);
    *created = fd >= 0;
    was_used = TRUE;
  } else if (fd < 0)
    vma_set_errno_error (error, errno, "cannot open it");
  else if (!lock_file (fd, error) || !check_file (fd, layout, header, error)) {
    close (fd);
    fd = -1;
  } else if (fstat (fd, &opened) != 0 || stat (file, &named) != 0 || opened.st_ino != named.st_ino
             || opened.st_dev != named.st_dev) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "it was replaced meanwhile (try again)");
    close (fd);
    fd = -1;
  }
  if (prepared->fd >= 0 && !was_used)
    close (prepared->fd);
  if (fd < 0)
    g_prefix_error (error, "%s: ", file);
  return fd;
}
