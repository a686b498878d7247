/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/configs.h"

#include "vma/error.h"
#include "vma/format.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

char *
tool_take_name (const char **text)
{
  const char *equals = strchr (*text, '=');
  const char *slash = strchr (*text, '/');

  if (equals == NULL || equals == *text || (slash != NULL && slash < equals))
    return NULL;
  char *name = g_strndup (*text, (gsize) (equals - *text));
  *text = equals + 1;
  return name;
}

/* A config's bytes, or one more than an archive can hold. */
static GByteArray *
read_config (const char *path, GError **error)
{
  g_autoptr (GByteArray) data = g_byte_array_new ();
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  gssize n = -1;

  g_byte_array_set_size (data, VMA_MAX_BLOB + 1);
  guint done = 0;
  while (fd >= 0 && done < data->len) {
    n = read (fd, data->data + done, data->len - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      break;
    done += (guint) n;
  }
  if (n < 0)
    vma_set_errno_error (error, errno, "config %s: cannot %s", path, fd < 0 ? "open" : "read");
  if (fd >= 0)
    close (fd);
  if (n < 0)
    return NULL;
  g_byte_array_set_size (data, done);
  return g_steal_pointer (&data);
}

gboolean
tool_read_config (const char *text, char **name, GBytes **bytes, GError **error)
{
  g_autofree char *called = tool_take_name (&text);

  if (called == NULL)
    called = g_path_get_basename (text);
  g_autoptr (GByteArray) data = read_config (text, error);
  if (data == NULL)
    return FALSE;
  if (data->len > VMA_MAX_BLOB) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "config '%s' (%s) has more than the %u bytes that an archive takes", called, text,
                 VMA_MAX_BLOB);
    return FALSE;
  }
  *name = g_steal_pointer (&called);
  *bytes = g_byte_array_free_to_bytes (g_steal_pointer (&data));
  return TRUE;
}
