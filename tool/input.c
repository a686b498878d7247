/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/input.h"

#include "source/nbd-uri.h"
#include "tool/input-probe.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file or block device: raw, or whatever its content says. */
static ToolInput *
open_path (const char *path, const char *format, char *shown, guint threads, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  struct stat st;

  if (fd < 0 || fstat (fd, &st) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot open", shown);
    goto failed;
  }
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: neither a file nor a block device",
                 shown);
    goto failed;
  }
  if (format == NULL && !tool_probe (fd, path, &format, error)) {
    g_prefix_error (error, "%s: ", shown);
    goto failed;
  }
  if (strcmp (format, "raw") == 0)
    return tool_input_raw (fd, shown, error);
  close (fd);
  return tool_input_qemu (path, format, shown, threads, error);

failed:
  if (fd >= 0)
    close (fd);
  g_free (shown);
  return NULL;
}

#ifndef HAVE_LIBNBD
static ToolInput *
no_libnbd (char *shown, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "%s: this program was built without libnbd, and reads raw disks only", shown);
  g_free (shown);
  return NULL;
}

ToolInput *
tool_input_nbd_uri (const char *uri G_GNUC_UNUSED, char *shown, guint connections G_GNUC_UNUSED,
                    GError **error)
{
  return no_libnbd (shown, error);
}

ToolInput *
tool_input_qemu (const char *path G_GNUC_UNUSED, const char *format G_GNUC_UNUSED, char *shown,
                 guint connections G_GNUC_UNUSED, GError **error)
{
  return no_libnbd (shown, error);
}
#endif

ToolInput *
tool_input_open (const char *path, const char *format, const char *name, guint threads,
                 GError **error)
{
  g_autofree char *display = vma_nbd_display (path);
  char *shown = g_strdup_printf ("disk '%s' (%s)", name, display);

  if (!vma_nbd_is_uri (path))
    return open_path (path, format, shown, threads, error);
  if (format == NULL || strcmp (format, "raw") == 0)
    return tool_input_nbd_uri (path, shown, threads, error);
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: an NBD export is read as raw only", shown);
  g_free (shown);
  return NULL;
}

void
tool_input_free (ToolInput *input)
{
  g_free (input->shown);
  input->ops->free (input);
}

gboolean
tool_input_read (ToolInput *input, void *buffer, gsize size, guint64 offset, GError **error)
{
  return input->ops->read (input, buffer, size, offset, error);
}

gboolean
tool_input_next_data (ToolInput *input, guint64 offset, guint64 *start, guint64 *end,
                      GError **error)
{
  return input->ops->next_data (input, offset, start, end, error);
}
