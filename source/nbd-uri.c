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
  const char *colon = at != NULL ? memchr (host, ':', (gsize) (at - host)) : NULL;

  if (colon == NULL)
    return g_strdup (path);
  return g_strdup_printf ("%.*s%s", (int)(colon - path), path, at);
}

char *
vma_nbd_absolute (const char *uri)
{
  if (!vma_nbd_is_uri (uri))
    return g_canonicalize_filename (uri, NULL);

  const char *query = strchr (uri, '?');
  const char *name = query != NULL ? strstr (query, "socket=") : NULL;
  const char *value = name != NULL ? name + strlen ("socket=") : NULL;

  if (value == NULL || *value == '\0' || *value == '/' || g_ascii_strncasecmp (value, "%2f", 3) == 0
      || (name[-1] != '?' && name[-1] != '&' && name[-1] != ';'))
    return g_strdup (uri);
  g_autofree char *directory = g_get_current_dir ();
  g_autofree char *escaped = g_uri_escape_string (directory, "/", FALSE);
  return g_strdup_printf ("%.*s%s/%s", (int)(value - uri), uri, escaped, value);
}
