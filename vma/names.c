/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vma/names.h"

#include <string.h>

/* Room for "disk-", ".raw" and "~NNN" within the 255 bytes a file name may have. */
#define MAX_NAME 200

struct VmaNames {
  GHashTable *taken; /* every name given; owns the strings */
  const char *devices[VMA_MAX_DEVICES];
  GPtrArray *configs;
  const char *first_escaped;
};

/*
 * Whether the byte at `p` may stand in a file name, and on a terminal: no slash, no control character,
 * nor one of the second set (U+0080 to U+009F), which `p` is in the first or second byte of.
 */
static gboolean
is_plain_byte (const char *name, const char *p)
{
  guchar c = (guchar) *p, next = (guchar) p[1];

  if (c < 0x20 || c == 0x7f || c == '/')
    return FALSE;
  if (c == 0xc2 && next >= 0x80 && next < 0xa0)
    return FALSE;
  return !(p > name && (guchar) p[-1] == 0xc2 && c >= 0x80 && c < 0xa0);
}

static gboolean
is_plain (const char *name)
{
  gsize size = strlen (name);

  if (size == 0 || size > MAX_NAME || !g_utf8_validate (name, (gssize) size, NULL)
      || strcmp (name, ".") == 0 || strcmp (name, "..") == 0)
    return FALSE;
  for (const char *p = name; *p != '\0'; p++)
    if (!is_plain_byte (name, p))
      return FALSE;
  return TRUE;
}

char *
vma_name_escape (const char *name)
{
  if (is_plain (name))
    return g_strdup (name);

  GString *out = g_string_new (NULL);
  gboolean utf8 = g_utf8_validate (name, -1, NULL);
  gboolean dots = strcmp (name, ".") == 0 || strcmp (name, "..") == 0;

  for (const char *p = name; *p != '\0'; p++) {
    guchar c = (guchar) *p;
    if (!is_plain_byte (name, p) || c == '%' || (c >= 0x80 && !utf8) || (c == '.' && dots))
      g_string_append_printf (out, "%%%02X", c);
    else
      g_string_append_c (out, (char) c);
  }
  if (out->len > MAX_NAME) {
    const char *end;
    g_string_truncate (out, MAX_NAME);
    g_utf8_validate (out->str, -1, &end); /* not in the middle of a character */
    g_string_truncate (out, (gsize) (end - out->str));
    g_string_append_c (out, '~');
  }
  if (out->len == 0)
    g_string_append_c (out, '~');
  return g_string_free (out, FALSE);
}

/* Takes `stem` + `extension`, or the first stem~N + extension that is free. */
static const char *
take (VmaNames *names, const char *stem, const char *extension)
{
  g_autofree char *name = g_strconcat (stem, extension, NULL);

  for (guint n = 2; g_hash_table_contains (names->taken, name); n++) {
    g_free (name);
    name = g_strdup_printf ("%s~%u%s", stem, n, extension);
  }
  const char *result = name;
  g_hash_table_add (names->taken, g_steal_pointer (&name));
  return result;
}

static void
note_escaped (VmaNames *names, const char *original, const char *given)
{
  if (names->first_escaped == NULL && !is_plain (original))
    names->first_escaped = given;
}

VmaNames *
vma_names_new (const VmaHeader *header)
{
  VmaNames *names = g_new0 (VmaNames, 1);

  names->taken = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  names->configs = g_ptr_array_new ();
  g_hash_table_add (names->taken, g_strdup (".vmafs")); /* the control folder of a mount */

  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    g_autofree char *escaped = vma_name_escape (device->name);
    g_autofree char *disk = g_strconcat ("disk-", escaped, NULL);

    names->devices[device->id]
        = device->is_vmstate ? take (names, "vmstate", ".bin") : take (names, disk, ".raw");
    note_escaped (names, device->name, names->devices[device->id]);
  }
  for (guint i = 0; i < header->configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (header->configs, i);
    g_autofree char *escaped = vma_name_escape (config->name);
    const char *given = take (names, escaped, "");

    g_ptr_array_add (names->configs, (gpointer) given);
    note_escaped (names, config->name, given);
  }
  return names;
}

void
vma_names_free (VmaNames *names)
{
  g_hash_table_unref (names->taken);
  g_ptr_array_unref (names->configs);
  g_free (names);
}

const char *
vma_names_device (const VmaNames *names, guint8 id)
{
  return names->devices[id];
}

const char *
vma_names_config (const VmaNames *names, guint i)
{
  return g_ptr_array_index (names->configs, i);
}

const char *
vma_names_first_escaped (const VmaNames *names)
{
  return names->first_escaped;
}
