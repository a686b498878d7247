/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/mountpoint.h"

#include "vma/error.h"

#include <errno.h>
#include <sys/stat.h>

gboolean
vma_mountpoint_check (const char *path, GError **error)
{
  struct stat st;

  if (g_str_has_prefix (path, VMA_MOUNTPOINT_FD))
    return TRUE;
  if (stat (path, &st) == 0) {
    if (S_ISDIR (st.st_mode))
      return TRUE;
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: the mount point is not a directory",
                 path);
  } else if (errno == ENOTCONN)
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                 "%s: a dead mount is in the way (remove it with: umount -l %s)", path, path);
  else if (errno == ENOENT)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "%s: the mount point does not exist (make it with: mkdir %s)", path, path);
  else
    vma_set_errno_error (error, errno, "%s", path);
  return FALSE;
}
