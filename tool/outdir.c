/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/outdir.h"

#include "tool/interrupt.h"
#include "tool/target.h"
#include "vma/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ToolOutDir {
  char *path;
  int fd;
  gboolean committed;
  GPtrArray *names; /* of files that are to be renamed */
};

/* Deletes everything.  May run in another thread, or twice: what is gone already is no error. */
static void
remove_all (gpointer data)
{
  ToolOutDir *dir = data;
  int fd = openat (dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *entries = fd >= 0 ? fdopendir (fd) : NULL;
  const struct dirent *entry;

  while (entries != NULL && (entry = readdir (entries)) != NULL)
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      unlinkat (dir->fd, entry->d_name, 0);
  if (entries != NULL)
    closedir (entries);
  rmdir (dir->path);
}

ToolOutDir *
tool_out_dir_new (const char *path, GError **error)
{
  if (mkdir (path, 0777) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot make the directory", path);
    return NULL;
  }
  int fd = open (path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    vma_set_errno_error (error, errno, "%s: cannot open", path);
    rmdir (path);
    return NULL;
  }
  ToolOutDir *dir = g_new0 (ToolOutDir, 1);
  dir->path = g_strdup (path);
  dir->fd = fd;
  dir->names = g_ptr_array_new_with_free_func (g_free);
  tool_interrupt_set_cleanup (remove_all, dir);
  return dir;
}

void
tool_out_dir_free (ToolOutDir *dir)
{
  if (!dir->committed)
    remove_all (dir);
  tool_interrupt_set_cleanup (NULL, NULL);
  close (dir->fd);
  g_ptr_array_unref (dir->names);
  g_free (dir->path);
  g_free (dir);
}

int
tool_out_dir_fd (const ToolOutDir *dir)
{
  return dir->fd;
}

char *
tool_out_dir_shown (const ToolOutDir *dir, const char *name)
{
  return g_build_filename (dir->path, name, NULL);
}

static gboolean
rename_temporary (ToolOutDir *dir, const char *from, const char *to, GError **error)
{
  if (renameat (dir->fd, from, dir->fd, to) == 0)
    return TRUE;
  vma_set_errno_error (error, errno, "%s/%s: cannot rename it to %s", dir->path, from, to);
  return FALSE;
}

gboolean
tool_out_dir_write (ToolOutDir *dir, const char *name, GBytes *data, GError **error)
{
  static const char temporary[] = ".tmp-config";
  g_autofree char *shown = tool_out_dir_shown (dir, name);
  gsize size;
  const void *bytes = g_bytes_get_data (data, &size);
  g_autoptr (ToolTarget) target = tool_target_create (dir->fd, temporary, shown, size, error);

  return target != NULL && tool_target_write (target, bytes, size, 0, error)
         && tool_target_finish (target, size, error)
         && rename_temporary (dir, temporary, name, error);
}

void
tool_out_dir_add (ToolOutDir *dir, const char *name)
{
  g_ptr_array_add (dir->names, g_strdup (name));
}

gboolean
tool_out_dir_commit (ToolOutDir *dir, GError **error)
{
  if (!tool_interrupt_finish ()) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
    return FALSE;
  }
  for (guint i = 0; i < dir->names->len; i++) {
    const char *name = g_ptr_array_index (dir->names, i);
    g_autofree char *temporary = g_strconcat ("tmp-", name, NULL);
    if (!rename_temporary (dir, temporary, name, error))
      return FALSE;
  }
  if (fsync (dir->fd) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot write", dir->path);
    return FALSE;
  }
  dir->committed = TRUE;
  return TRUE;
}
