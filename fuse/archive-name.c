/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/archive-name.h"

#include "vma/names.h"

#include <string.h>

gsize
vma_archive_name_stem (const char *file, gboolean *growing)
{
  static const char *const endings[]
      = { ".vma", ".vma.zst", ".vma.gz", ".vma.lzo", ".vma.lz4", ".vma.dat" };
  gsize size = strlen (file);

  *growing = g_str_has_suffix (file, ".dat");
  if (*file == '.') /* what programs name so is not finished, or not meant to be seen */
    return 0;
  for (gsize i = 0; i < G_N_ELEMENTS (endings); i++)
    if (g_str_has_suffix (file, endings[i]))
      return size - strlen (endings[i]);
  if (*growing && g_str_has_prefix (file, "vzdump-qemu-"))
    return size - strlen (".dat");
  return 0;
}

static char *
stem_of (const char *file)
{
  gboolean growing;

  return g_strndup (file, vma_archive_name_stem (file, &growing));
}

GPtrArray *
vma_archive_names_assign (const GPtrArray *files)
{
  g_autoptr (GHashTable) count = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr (GHashTable) taken = g_hash_table_new (g_str_hash, g_str_equal);
  GPtrArray *names = g_ptr_array_new_full (files->len, g_free);

  for (guint i = 0; i < files->len; i++) {
    char *stem = stem_of (g_ptr_array_index (files, i));
    guint n = GPOINTER_TO_UINT (g_hash_table_lookup (count, stem));
    g_hash_table_replace (count, stem, GUINT_TO_POINTER (n + 1));
  }
  g_hash_table_add (taken, (gpointer) ".vmafs"); /* the control folder */
  for (guint i = 0; i < files->len; i++) {
    const char *file = g_ptr_array_index (files, i);
    g_autofree char *stem = stem_of (file);
    gboolean alone = GPOINTER_TO_UINT (g_hash_table_lookup (count, stem)) == 1;
    g_autofree char *wanted = vma_name_escape (alone ? stem : file);
    char *name = g_strdup (wanted);

    for (guint n = 2; g_hash_table_contains (taken, name); n++) {
      g_free (name);
      name = g_strdup_printf ("%s~%u", wanted, n);
    }
    g_hash_table_add (taken, name);
    g_ptr_array_add (names, name);
  }
  return names;
}
