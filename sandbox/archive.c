/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sandbox/archive.h"

#include "source/nbd-uri.h"

#include <string.h>

/* Files that a URI names: the user's own wish. */
static void
allow_uri (VmaSandbox *sandbox, const char *uri)
{
  static const char *const keys[] = { ".pki/libnbd", ".config/pki/libnbd" };
  g_autoptr (GUri) parsed
      = g_uri_parse (uri, G_URI_FLAGS_PARSE_RELAXED | G_URI_FLAGS_ENCODED_QUERY, NULL);
  const char *query = parsed != NULL ? g_uri_get_query (parsed) : NULL;
  g_autoptr (GHashTable) parameters
      = query != NULL ? g_uri_parse_params (query, -1, "&;", G_URI_PARAMS_NONE, NULL) : NULL;
  const char *value;

  vma_sandbox_allow_network (sandbox);
  vma_sandbox_allow (sandbox, "/etc/pki/libnbd", VMA_SANDBOX_READ);
  for (gsize i = 0; i < G_N_ELEMENTS (keys); i++) {
    g_autofree char *path = g_build_filename (g_get_home_dir (), keys[i], NULL);
    vma_sandbox_allow (sandbox, path, VMA_SANDBOX_READ);
  }
  if (parameters == NULL)
    return;
  if ((value = g_hash_table_lookup (parameters, "tls-certificates")) != NULL)
    vma_sandbox_allow (sandbox, value, VMA_SANDBOX_READ);
  if ((value = g_hash_table_lookup (parameters, "tls-psk-file")) != NULL)
    vma_sandbox_allow (sandbox, value, VMA_SANDBOX_READ);
  if ((value = g_hash_table_lookup (parameters, "socket")) != NULL)
    vma_sandbox_allow (sandbox, value, VMA_SANDBOX_READ | VMA_SANDBOX_WRITE);
}

gboolean
vma_sandbox_allow_archive (VmaSandbox *sandbox, const char *path)
{
  const char *file = strcmp (path, "-") == 0 ? "/dev/stdin" : path;

  if (vma_nbd_is_uri (path)) {
    allow_uri (sandbox, path);
    return TRUE;
  }
  vma_sandbox_allow (sandbox, file, VMA_SANDBOX_READ);
  return g_file_test (file, G_FILE_TEST_EXISTS);
}

void
vma_sandbox_allow_cache (VmaSandbox *sandbox, const char *directory)
{
  g_mkdir_with_parents (directory, 0700); /* only what is there can be allowed */
  vma_sandbox_allow (sandbox, directory,
                     VMA_SANDBOX_READ | VMA_SANDBOX_WRITE | VMA_SANDBOX_CREATE);
}
