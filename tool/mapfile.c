/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/mapfile.h"

#include "image/find.h"
#include "tool/open.h"
#include "vma/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
tool_map_free (ToolMap *map)
{
  for (guint i = 0; i < VMA_MAX_DEVICES; i++)
    g_free (map->lines[i].path);
  g_free (map);
}

/* Takes "name=value:" off the front of *line; the value, or NULL where the line begins otherwise. */
static char *
take_field (char **line, const char *name)
{
  gsize n = strlen (name);

  if (strncmp (*line, name, n) != 0 || (*line)[n] != '=')
    return NULL;
  char *value = *line + n + 1;
  char *end = strchr (value, ':');
  if (end == NULL)
    return NULL;
  *end = '\0';
  *line = end + 1;
  return value;
}

/* The fields before {0|1}, in any order. */
static gboolean
take_fields (char **line, GError **error)
{
  for (;;) {
    const char *format = take_field (line, "format");
    if (format != NULL) {
      if (strcmp (format, "raw") == 0)
        continue;
      g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                   "format '%s': only raw targets can be written", format);
      return FALSE;
    }
    if (take_field (line, "throttling.bps") == NULL && take_field (line, "throttling.group") == NULL
        && take_field (line, "cache") == NULL)
      return TRUE;
  }
}

static ToolMapLine *
claim (ToolMap *map, VmaArchive *archive, const char *name, GError **error)
{
  const VmaDevice *device = vma_archive_find_disk (archive, name, error);

  if (device == NULL)
    return NULL;
  ToolMapLine *line = &map->lines[device->id];
  if (line->mentioned) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s is mapped twice", name);
    return NULL;
  }
  line->mentioned = TRUE;
  if (device->is_vmstate)
    line->skip = TRUE; /* unless this turns out to be a target for it */
  return line;
}

static gboolean
parse_line (ToolMap *map, VmaArchive *archive, char *text, GError **error)
{
  if (g_str_has_prefix (text, "skip=")) {
    ToolMapLine *line = claim (map, archive, text + strlen ("skip="), error);
    if (line != NULL)
      line->skip = TRUE;
    return line != NULL;
  }
  if (!take_fields (&text, error))
    return FALSE;
  char *equals = strchr (text, '=');
  if ((text[0] != '0' && text[0] != '1') || text[1] != ':' || equals == NULL || equals == text + 2
      || equals[1] == '\0') {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "expected {0|1}:DEVNAME=PATH, skip=DEVNAME or done");
    return FALSE;
  }
  *equals = '\0';
  ToolMapLine *line = claim (map, archive, text + 2, error);
  if (line == NULL)
    return FALSE;
  if (line->skip) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "vmstate always goes to vmstate.bin (or skip=vmstate)");
    return FALSE;
  }
  line->write_zeros = text[0] == '1';
  line->path = g_strdup (equals + 1);
  return TRUE;
}

static gboolean
read_lines (ToolMap *map, FILE *file, const char *path, VmaArchive *archive, GError **error)
{
  char *text = NULL;
  size_t room = 0;
  gboolean ok = TRUE;

  for (guint number = 1; ok; number++) {
    ssize_t n = getline (&text, &room, file);
    if (n < 0)
      break;
    if (n > 0 && text[n - 1] == '\n')
      text[n - 1] = '\0';
    if (text[0] == '\0' || strcmp (text, "done") == 0)
      break;
    ok = parse_line (map, archive, text, error);
    if (!ok)
      g_prefix_error (error, "%s: line %u: ", path, number);
  }
  free (text);
  if (ok && ferror (file)) {
    vma_set_errno_error (error, errno, "%s: cannot read", path);
    return FALSE;
  }
  return ok;
}

ToolMap *
tool_map_read (const char *path, VmaArchive *archive, GError **error)
{
  g_autoptr (ToolMap) map = g_new0 (ToolMap, 1);
  gboolean is_stdin = strcmp (path, "-") == 0;
  FILE *file = is_stdin ? stdin : fopen (path, "re");

  if (file == NULL) {
    vma_set_errno_error (error, errno, "%s: cannot open", path);
    return NULL;
  }
  gboolean ok = read_lines (map, file, path, archive, error);
  if (!is_stdin)
    fclose (file);
  return ok ? g_steal_pointer (&map) : NULL;
}
