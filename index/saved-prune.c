/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/saved.h"

#include "source/sums.h"
#include "vma/error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEMPORARY_MAX_AGE (24 * 60 * 60)

typedef struct {
  char *path;
  gboolean is_sums;
  guint64 size;
  time_t used;
} CacheFile;

static void
cache_file_clear (gpointer data)
{
  g_free (((CacheFile *) data)->path);
}

static int
compare_used (const void *a, const void *b)
{
  const CacheFile *x = a, *y = b;

  if (x->is_sums != y->is_sums)
    return x->is_sums - y->is_sums;
  return (x->used > y->used) - (x->used < y->used);
}

static gboolean
is_named (const char *name, const char *suffix, gboolean *temporary)
{
  *temporary = !g_str_has_suffix (name, suffix);
  return strstr (name, suffix) != NULL;
}

gboolean
vma_saved_index_prune (const char *dir, guint64 max_bytes, guint *removed, guint64 *removed_bytes,
                       GError **error)
{
  g_autoptr (GError) local = NULL;
  g_autoptr (GDir) entries = g_dir_open (dir, 0, &local);
  g_autoptr (GArray) files = g_array_new (FALSE, FALSE, sizeof (CacheFile));
  guint64 total = 0, freed = 0;
  guint n = 0;
  const char *name;

  g_array_set_clear_func (files, cache_file_clear);
  if (entries == NULL && !g_error_matches (local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_IO, local->message);
    return FALSE;
  }
  while (entries != NULL && (name = g_dir_read_name (entries)) != NULL) {
    g_autofree char *path = g_build_filename (dir, name, NULL);
    gboolean temporary; /* somebody writes it, or did not come to an end */
    struct stat st;

    if ((!is_named (name, VMA_SAVED_INDEX_SUFFIX, &temporary)
         && !is_named (name, VMA_SUMS_SUFFIX, &temporary))
        || lstat (path, &st) != 0 || !S_ISREG (st.st_mode))
      continue;
    if (temporary) {
      if (time (NULL) - st.st_mtime > TEMPORARY_MAX_AGE)
        unlink (path);
      continue;
    }
    CacheFile file = { .is_sums = g_str_has_suffix (name, VMA_SUMS_SUFFIX),
                       .size = (guint64) st.st_size, .used = st.st_atime };
    file.path = g_steal_pointer (&path);
    total += file.size;
    g_array_append_val (files, file);
  }

  g_array_sort (files, compare_used);
  for (guint i = 0; i < files->len && total > max_bytes; i++) {
    const CacheFile *file = &g_array_index (files, CacheFile, i);
    if (unlink (file->path) != 0)
      continue;
    total -= file->size;
    freed += file->size;
    n++;
  }
  if (removed != NULL)
    *removed = n;
  if (removed_bytes != NULL)
    *removed_bytes = freed;
  return TRUE;
}
