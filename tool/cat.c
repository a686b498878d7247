/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool cat: prints files of the guest.
 */
#include "tool/command.h"
#include "tool/guest-path.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "vma/error.h"

#include <errno.h>
#include <stdio.h>

static gboolean
write_out (const void *bytes, gsize size, GError **error)
{
  if (fwrite (bytes, 1, size, stdout) == size)
    return TRUE;
  vma_set_errno_error (error, errno, "cannot write");
  return FALSE;
}

static gboolean
write_zeros (guint64 size, GError **error)
{
  static const guint8 zeros[65536];

  for (guint64 n; size > 0; size -= n) {
    n = MIN (size, sizeof zeros);
    if (g_cancellable_is_cancelled (tool_cancellable ())) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    if (!write_out (zeros, (gsize) n, error))
      return FALSE;
  }
  return TRUE;
}

/* `data` is the offset that was reached. */
static gboolean
on_data (gpointer data, const void *bytes, gsize size, guint64 offset, GError **error)
{
  guint64 *at = data;

  if (!write_zeros (offset - *at, error) || !write_out (bytes, size, error))
    return FALSE;
  *at = offset + size;
  return TRUE;
}

/* ToolGuestAction */
static gboolean
print_file (const ToolGuestPath *path, gpointer data G_GNUC_UNUSED, GError **error)
{
  VmaExtStat st;
  ext2_ino_t ino;
  guint64 at = 0;

  if (!vma_ext_lookup (path->ext, path->path, TRUE, &ino, error)
      || !vma_ext_stat (path->ext, ino, path->path, &st, error))
    return FALSE;
  if (!S_ISREG (st.mode)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s%s: %s", path->prefix, path->path,
                 S_ISDIR (st.mode) ? "is a directory (vmatool ls shows it)" : "not a regular file");
    return FALSE;
  }
  return vma_ext_read (path->ext, ino, path->path, on_data, &at, error)
         && write_zeros (st.size - at, error);
}

int
tool_cat (int argc, char **argv)
{
  ToolGuestOptions options = { 0 };
  const GOptionEntry entries[] = {
    TOOL_GUEST_OPTIONS (&options),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE:[DISK/][PART/]PATH...",
    .about = "Prints files out of the file system of a guest.  ext2, ext3 and ext4.",
    .entries = entries, .min = 1, .max = TOOL_ANY,
  };
  int status = TOOL_OK;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  tool_guest_confine (arguments, &options);
  tool_interrupt_start ();
  status = tool_guest_do_all ("cat", arguments, &options, print_file, NULL);
  g_free (options.cache_option);
  return status;
}
