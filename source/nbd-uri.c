/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/nbd-uri.h"

#include <string.h>

gboolean
vma_nbd_is_uri (const char *path)
{
  static const char *const schemes[]
      = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "nbd+vsock://", "nbds+vsock://" };

  for (guint i = 0; i < G_N_ELEMENTS (schemes); i++)
    if (g_str_has_prefix (path, schemes[i]))
      return TRUE;
  return FALSE;
}

char *
vma_nbd_display (const char *path)
{
  const char *host = vma_nbd_is_uri (path) ? strstr (path, "://") + 3 : NULL;
  const char *end = host != NULL ? host + strcspn (host, "/?#") : NULL;
  /* The last one: a password may have been written with an '@' in it. */
  const char *at = host != NULL ? g_strrstr_len (host, end - host, "@") : NULL;
  const char *colon = at != NULL ? memchr (host, ':', (gsize)(at - host)) : NULL;

  if (colon == NULL)
    return g_strdup (path);
  return g_strdup_printf ("%.*s%s", (int)(colon - path), path, at);
}

/* Whether this field of the query names a file, and one of the current folder; then its length. */
static gsize
relative_file (const char *field, gsize length)
{
  static const char *const names[] = { "socket=", "tls-certificates=", "tls-psk-file=" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    gsize name = strlen (names[i]);
    if (length > name && strncmp (field, names[i], name) == 0)
      return field[name] == '/' || g_ascii_strncasecmp (field + name, "%2f", 3) == 0 ? 0 : name;
  }
  return 0;
}

char *
vma_nbd_absolute (const char *uri)
{
  if (!vma_nbd_is_uri (uri))
    return g_canonicalize_filename (uri, NULL);

  const char *at = strchr (uri, '?');
  if (at == NULL)
    return g_strdup (uri);
  g_autofree char *directory = g_get_current_dir ();
  g_autofree char *escaped = g_uri_escape_string (directory, "/", FALSE);
  GString *made = g_string_new_len (uri, at - uri);
  while (*at != '\0') { /* at what separates the fields */
    gsize length = strcspn (at + 1, "&;#"), name = relative_file (at + 1, length);
    g_string_append_len (made, at, 1 + (gssize)name);
    if (name > 0)
      g_string_append_printf (made, "%s/", escaped);
    g_string_append_len (made, at + 1 + name, (gssize)(length - name));
    at += 1 + length;
  }
  return g_string_free (made, FALSE);
}
