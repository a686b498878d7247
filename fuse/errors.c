/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/errors.h"

#include "fuse/log.h"
#include "index/lock.h"

/* A disk full of holes must not fill the system log. */
#define LOGGED_MAX 100

struct VmaReadErrors {
  pthread_mutex_t lock;
  guint64 count;
  GPtrArray *lines;
  GHashTable *seen; /* the strings in lines */
};

VmaReadErrors *
vma_read_errors_new (void)
{
  VmaReadErrors *errors = g_new0 (VmaReadErrors, 1);

  pthread_mutex_init (&errors->lock, NULL);
  errors->lines = g_ptr_array_new_with_free_func (g_free);
  errors->seen = g_hash_table_new (g_str_hash, g_str_equal);
  return errors;
}

void
vma_read_errors_free (VmaReadErrors *errors)
{
  g_hash_table_unref (errors->seen);
  g_ptr_array_unref (errors->lines);
  pthread_mutex_destroy (&errors->lock);
  g_free (errors);
}

void
vma_read_errors_add (VmaReadErrors *errors, const GError *error)
{
  VMA_LOCK (&errors->lock);
  errors->count++;
  if (errors->lines->len >= VMA_READ_ERRORS_MAX
      || g_hash_table_contains (errors->seen, error->message))
    return;
  char *line = g_strdup (error->message);
  g_ptr_array_add (errors->lines, line);
  g_hash_table_add (errors->seen, line);
  if (errors->lines->len <= LOGGED_MAX)
    vma_log ("%s", line);
  if (errors->lines->len == LOGGED_MAX)
    vma_log ("further read errors are listed in .vmafs/errors only");
}

guint64
vma_read_errors_count (VmaReadErrors *errors)
{
  VMA_LOCK (&errors->lock);
  return errors->count;
}

void
vma_read_errors_append (VmaReadErrors *errors, GString *text)
{
  VMA_LOCK (&errors->lock);
  for (guint i = 0; i < errors->lines->len; i++)
    g_string_append_printf (text, "read: %s\n", (const char *) g_ptr_array_index (errors->lines, i));
}
