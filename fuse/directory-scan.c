/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking at the directory: which archives there are, and which of them are the ones we know.
 */
#include "fuse/archive-name.h"
#include "fuse/directory-impl.h"
#include "fuse/file-id.h"
#include "fuse/log.h"
#include "vma/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* How long a look counts.  A change in the same tick of the clock as a look may not show in the
 * directory's time of change, so that for this long after a change that alone is not relied on. */
#define LOOK_US G_USEC_PER_SEC
#define TICK_US (G_USEC_PER_SEC / 20)

/* An archive that a look has found. */
typedef struct {
  char *file;
  struct stat st;
  gboolean growing;
  VmaMember *entry;
} Found;

static void
found_free (gpointer data)
{
  Found *found = data;

  g_free (found->file);
  g_free (found);
}

static int
compare_found (gconstpointer a, gconstpointer b)
{
  const Found *const *x = a, *const *y = b;

  return strcmp ((*x)->file, (*y)->file);
}

static gint64
mtime_us (const struct stat *st)
{
  return (gint64) st->st_mtim.tv_sec * G_USEC_PER_SEC + st->st_mtim.tv_nsec / 1000;
}

/* The archives of the directory, sorted by name; what is no regular file is none. */
static GPtrArray *
read_directory (const char *path, struct stat *seen, GError **error)
{
  g_autoptr (GPtrArray) all = g_ptr_array_new_with_free_func (found_free);
  const struct dirent *entry;
  gboolean growing;
  DIR *dir = opendir (path);

  if (dir == NULL || fstat (dirfd (dir), seen) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot read the directory", path);
    if (dir != NULL)
      closedir (dir);
    return NULL;
  }
  while (errno = 0, (entry = readdir (dir)) != NULL) {
    struct stat st;
    if (vma_archive_name_stem (entry->d_name, &growing) == 0
        || fstatat (dirfd (dir), entry->d_name, &st, 0) != 0 || !S_ISREG (st.st_mode))
      continue;
    Found *found = g_new0 (Found, 1);
    *found = (Found){ .file = g_strdup (entry->d_name), .st = st, .growing = growing };
    g_ptr_array_add (all, found);
  }
  int errnum = errno;
  closedir (dir);
  if (errnum != 0) {
    vma_set_errno_error (error, errnum, "%s: cannot read the directory", path);
    return NULL;
  }
  g_ptr_array_sort (all, compare_found);
  return g_steal_pointer (&all);
}

/*
 * Whether a file that was found is what an entry stands for, whatever it is called.  A file that
 * grows is known by its inode, but only as long as we have it open: then the number cannot be
 * another file's.
 */
static gboolean
is_entry (const Found *found, const VmaMember *entry)
{
  return entry->growing && entry->state == VMA_MEMBER_OPEN && entry->mounted->archive != NULL
             ? vma_file_is_same (&found->st, &entry->st)
             : entry->growing == found->growing && vma_file_is_unchanged (&found->st, &entry->st);
}

static guint
hash_ino (gconstpointer data)
{
  return g_int64_hash (&(const gint64){ (gint64) ((const VmaMember *) data)->st.st_ino });
}

static gboolean
same_ino (gconstpointer a, gconstpointer b)
{
  return vma_file_is_same (&((const VmaMember *) a)->st, &((const VmaMember *) b)->st);
}

/* Gives the files that were found to the entries that stand for them: by name, then to those that
 * were renamed. */
static void
match (VmaDirectory *directory, GPtrArray *all)
{
  g_autoptr (GHashTable) lost = g_hash_table_new (hash_ino, same_ino); /* entries without a file */
  g_autoptr (GHashTable) kept = g_hash_table_new (NULL, NULL);

  for (guint i = 0; i < all->len; i++) {
    Found *found = g_ptr_array_index (all, i);
    VmaMember *entry = g_hash_table_lookup (directory->by_file, found->file);
    if (entry != NULL && is_entry (found, entry)) {
      found->entry = entry;
      g_hash_table_add (kept, entry);
    }
  }
  for (guint i = 0; i < directory->listed->len; i++) {
    VmaMember *entry = g_ptr_array_index (directory->listed, i);
    if (!g_hash_table_contains (kept, entry))
      g_hash_table_add (lost, entry);
  }
  for (guint i = 0; i < all->len; i++) {
    Found *found = g_ptr_array_index (all, i);
    VmaMember wanted = { .st = found->st };
    VmaMember *entry = found->entry == NULL ? g_hash_table_lookup (lost, &wanted) : NULL;
    if (entry != NULL && is_entry (found, entry)) {
      found->entry = entry;
      g_hash_table_remove (lost, entry);
    }
  }
}

static VmaMember *
entry_new (VmaDirectory *directory)
{
  VmaMember *entry = g_new0 (VmaMember, 1);

  entry->directory = directory;
  entry->serial = ++directory->last_serial;
  g_queue_init (&entry->waiting);
  g_hash_table_insert (directory->by_serial, &entry->serial, entry);
  return entry;
}

static GPtrArray *
assign_names (const GPtrArray *all)
{
  g_autoptr (GPtrArray) files = g_ptr_array_new_full (all->len, NULL);

  for (guint i = 0; i < all->len; i++)
    g_ptr_array_add (files, ((const Found *) g_ptr_array_index (all, i))->file);
  return vma_archive_names_assign (files);
}

/* Makes the entries those of the files that were found.  The caller holds the lock. */
static void
take_over (VmaDirectory *directory, GPtrArray *all)
{
  g_autoptr (GPtrArray) names = assign_names (all);
  GPtrArray *before = directory->listed;

  match (directory, all);
  g_hash_table_remove_all (directory->by_name);
  g_hash_table_remove_all (directory->by_file);
  for (guint i = 0; i < before->len; i++)
    ((VmaMember *) g_ptr_array_index (before, i))->listed = FALSE;
  directory->listed = g_ptr_array_new_full (all->len, NULL);
  for (guint i = 0; i < all->len; i++) {
    Found *found = g_ptr_array_index (all, i);
    VmaMember *entry = found->entry != NULL ? found->entry : entry_new (directory);

    g_free (entry->file);
    g_free (entry->name);
    entry->file = g_strdup (found->file);
    entry->name = g_strdup (g_ptr_array_index (names, i));
    entry->st = found->st;
    entry->growing = found->growing;
    entry->listed = TRUE;
    g_ptr_array_add (directory->listed, entry);
    g_hash_table_insert (directory->by_name, entry->name, entry);
    g_hash_table_insert (directory->by_file, entry->file, entry);
  }
  for (guint i = 0; i < before->len; i++) {
    VmaMember *entry = g_ptr_array_index (before, i);
    if (!entry->listed)
      vma_member_drop (entry);
  }
  g_ptr_array_unref (before);
}

/* Whether what we know may be out of date. */
static gboolean
is_outdated (VmaDirectory *directory)
{
  struct stat st;
  gboolean readable = stat (directory->path, &st) == 0;

  VMA_LOCK (&directory->lock);
  return !readable || directory->unreadable || directory->looked == 0
         || g_get_monotonic_time () - directory->looked >= LOOK_US
         || !vma_file_is_unchanged (&st, &directory->seen)
         || ABS (directory->looked_real - mtime_us (&st)) < TICK_US;
}

gboolean
vma_directory_refresh (VmaDirectory *directory, gboolean anyway, GError **error)
{
  g_autoptr (GError) local_error = NULL;
  struct stat seen;

  VMA_LOCK (&directory->scanning);
  if (!anyway && !is_outdated (directory))
    return TRUE;
  gint64 now = g_get_monotonic_time (), now_real = g_get_real_time ();
  g_autoptr (GPtrArray) all = read_directory (directory->path, &seen, &local_error);
  pthread_mutex_lock (&directory->lock);
  gboolean news = all == NULL && !directory->unreadable;
  directory->unreadable = all == NULL;
  if (all != NULL) {
    take_over (directory, all);
    directory->seen = seen;
    directory->looked = now;
    directory->looked_real = now_real;
  }
  pthread_mutex_unlock (&directory->lock);
  if (all != NULL)
    return TRUE;
  if (error == NULL && news)
    vma_log_error (local_error);
  g_propagate_error (error, g_steal_pointer (&local_error));
  return FALSE;
}
