/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool cp: copies files and directories out of the file system of a guest.
 *
 * What cannot be read, or must not be written, is told and passed over; only what concerns the target as a
 * whole (no space, no permission) ends the copy.
 */
#include "tool/command.h"
#include "tool/guest-path.h"
#include "tool/guest-target.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Each level has a descriptor open. */
#define MAX_DEPTH 256

typedef struct {
  ToolGuestOptions guest;
  gboolean recursive, archive, preserve, specials;
  ToolGuestKeep keep;

  const ToolGuestPath *path;
  int root;             /* the directory that all is copied into */
  GHashTable *seen;     /* inode numbers of directories */
  GHashTable *links;    /* inode number: path below `root` of what has several names; owned */
  guint skipped;        /* special files */
  gboolean failed;      /* something was told */
} Copy;

/* A file of the guest and where it goes. */
typedef struct {
  const char *source; /* in the guest */
  int dir;
  const char *name;
  const char *below;  /* path below `root` */
  const char *shown;  /* on the host */
} Place;

static gboolean copy_inode (Copy *copy, ext2_ino_t ino, const Place *place, guint depth,
                            GError **error);

/* Tells of an error that concerns one file only.  FALSE: it ends the copy. */
static gboolean
pass_over (Copy *copy, GError **local, GError **error)
{
  if (g_error_matches (*local, VMA_ERROR, VMA_ERROR_CANCELLED)
      || g_error_matches (*local, VMA_ERROR, VMA_ERROR_IO)) {
    g_propagate_error (error, g_steal_pointer (local));
    return FALSE;
  }
  tool_fail (*local, copy->guest.salvage ? NULL : TOOL_ADVICE_SALVAGE);
  g_clear_error (local);
  copy->failed = TRUE;
  return TRUE;
}

static gboolean
copy_entry (Copy *copy, const VmaExtEntry *entry, const Place *parent, int dir, guint depth,
            GError **error)
{
  if (g_cancellable_is_cancelled (tool_cancellable ())) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
    return FALSE;
  }
  if (!vma_ext_name_is_sane (entry->name)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "%s%s: '%s' is no name for a file",
                 copy->path->prefix, parent->source, entry->name);
    return FALSE;
  }
  g_autofree char *source
      = g_strconcat (parent->source, g_str_has_suffix (parent->source, "/") ? "" : "/",
                     entry->name, NULL);
  g_autofree char *below = *parent->below != '\0' ? g_build_filename (parent->below, entry->name, NULL)
                                                  : g_strdup (entry->name);
  g_autofree char *shown = g_build_filename (parent->shown, entry->name, NULL);
  const Place place = { source, dir, entry->name, below, shown };

  return copy_inode (copy, entry->ino, &place, depth, error);
}

/* What is in a directory goes into the one that is open as `dir`. */
static gboolean
copy_content (Copy *copy, ext2_ino_t ino, const Place *place, int dir, guint depth, GError **error)
{
  g_autoptr (GPtrArray) entries = vma_ext_read_dir (copy->path->ext, ino, place->source, error);

  if (entries == NULL)
    return FALSE;
  for (guint i = 0; i < entries->len; i++) {
    g_autoptr (GError) local = NULL;
    if (!copy_entry (copy, g_ptr_array_index (entries, i), place, dir, depth + 1, &local)
        && !pass_over (copy, &local, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
check_dir (Copy *copy, ext2_ino_t ino, const Place *place, guint depth, GError **error)
{
  const char *why = !copy->recursive   ? "is a directory (-r copies it)"
                    : depth > MAX_DEPTH ? "the directories are too deep"
                    : !g_hash_table_add (copy->seen, GUINT_TO_POINTER (ino))
                        ? "the directory stands in the file system twice"
                        : NULL;

  if (why == NULL)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s%s: %s", copy->path->prefix, place->source,
               why);
  return FALSE;
}

static gboolean
copy_dir (Copy *copy, const VmaExtStat *st, const Place *place, guint depth, GError **error)
{
  gboolean is_new;

  if (!check_dir (copy, st->ino, place, depth, error))
    return FALSE;
  int fd = tool_guest_make_dir (place->dir, place->name, place->shown, &is_new, error);
  if (fd < 0)
    return FALSE;
  gboolean ok = copy_content (copy, st->ino, place, fd, depth, error)
                && tool_guest_finish_dir (copy->path->ext, st, place->source, fd, is_new,
                                          place->shown, &copy->keep, error);
  close (fd);
  return ok;
}

static gboolean
copy_symlink (Copy *copy, const VmaExtStat *st, const Place *place, GError **error)
{
  g_autofree char *to = vma_ext_readlink (copy->path->ext, st, place->source, error);

  return to != NULL
         && tool_guest_put_symlink (to, st, place->dir, place->name, place->shown, &copy->keep,
                                    error);
}

static gboolean
copy_other (Copy *copy, const VmaExtStat *st, const Place *place, GError **error)
{
  if (S_ISREG (st->mode))
    return tool_guest_put_file (copy->path->ext, st, place->source, place->dir, place->name,
                                place->shown, &copy->keep, error);
  if (S_ISLNK (st->mode))
    return copy_symlink (copy, st, place, error);
  if (!S_ISFIFO (st->mode) && !S_ISSOCK (st->mode) && !S_ISBLK (st->mode) && !S_ISCHR (st->mode)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "%s%s: not a file of any kind",
                 copy->path->prefix, place->source);
    return FALSE;
  }
  if (copy->specials)
    return tool_guest_put_special (st, place->dir, place->name, place->shown, &copy->keep, error);
  copy->skipped++;
  return TRUE;
}

static gboolean
copy_inode (Copy *copy, ext2_ino_t ino, const Place *place, guint depth, GError **error)
{
  VmaExtStat st;

  if (!vma_ext_stat (copy->path->ext, ino, place->source, &st, error))
    return FALSE;
  if (S_ISDIR (st.mode))
    return copy_dir (copy, &st, place, depth, error);
  const char *there = g_hash_table_lookup (copy->links, GUINT_TO_POINTER (ino));
  if (there != NULL)
    return tool_guest_put_hard_link (copy->root, there, place->dir, place->name, place->shown,
                                     &copy->keep, error);
  guint skipped = copy->skipped;
  if (!copy_other (copy, &st, place, error))
    return FALSE;
  if (copy->archive && st.nlink > 1 && copy->skipped == skipped)
    g_hash_table_insert (copy->links, GUINT_TO_POINTER (ino), g_strdup (place->below));
  return TRUE;
}

/* --- arguments --------------------------------------------------------------------------------- */

/* The last name of a path in the guest; "" where it means the content of a directory: "/", "/etc/." */
static char *
last_name (const char *path)
{
  g_autofree char *trimmed = g_strdup (path);

  for (gsize n = strlen (trimmed); n > 0 && trimmed[n - 1] == '/'; n--)
    trimmed[n - 1] = '\0';
  const char *slash = strrchr (trimmed, '/');
  const char *name = slash != NULL ? slash + 1 : trimmed;
  return g_strdup (strcmp (name, ".") == 0 ? "" : name);
}

/* Copies what `path` leads to into `copy->root`; as `name` unless that is NULL. */
static gboolean
copy_path (Copy *copy, const char *name, const char *target, GError **error)
{
  const ToolGuestPath *path = copy->path;
  g_autofree char *own = last_name (path->path);
  VmaExtStat st;
  ext2_ino_t ino;

  /* Like cp: a link that is named is followed, unless a tree is copied. */
  gboolean follow = !copy->recursive || g_str_has_suffix (path->path, "/") || *own == '\0';
  if (!vma_ext_lookup (path->ext, path->path, follow, &ino, error)
      || !vma_ext_stat (path->ext, ino, path->path, &st, error))
    return FALSE;
  if (name == NULL && *own == '\0' && S_ISDIR (st.mode)) {
    const Place place = { path->path, copy->root, "", "", target };
    return check_dir (copy, ino, &place, 0, error)
           && copy_content (copy, ino, &place, copy->root, 0, error);
  }
  if (name == NULL && !vma_ext_name_is_sane (own)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s%s: give the target a name", path->prefix,
                 path->path);
    return FALSE;
  }
  g_autofree char *shown = name != NULL ? g_strdup (target) : g_build_filename (target, own, NULL);
  const char *as = name != NULL ? name : own;
  const Place place = { path->path, copy->root, as, as, shown };
  return copy_inode (copy, ino, &place, 0, error);
}

typedef struct {
  Copy *copy;
  const char *name, *target;
} Argument;

/* ToolGuestAction */
static gboolean
copy_argument (const ToolGuestPath *path, gpointer data, GError **error)
{
  const Argument *argument = data;
  Copy *copy = argument->copy;

  copy->path = path;
  g_hash_table_remove_all (copy->seen);
  g_hash_table_remove_all (copy->links);
  tool_progress_start ("copying", 0);
  gboolean ok = copy_path (copy, argument->name, argument->target, error);
  tool_progress_end ();
  return ok;
}

/* Opens the directory that things go into; *name is what the only one will be called, or NULL. */
static int
open_target (const char *target, gboolean several, char **name)
{
  int fd = open (target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  *name = NULL;
  if (fd >= 0)
    return fd;
  if ((errno == ENOENT || errno == ENOTDIR) && !several && !g_str_has_suffix (target, "/")) {
    g_autofree char *parent = g_path_get_dirname (target);
    fd = open (parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
      *name = g_path_get_basename (target);
      return fd;
    }
  }
  tool_error ("%s: cannot copy there: %s", target, g_strerror (errno));
  return -1;
}

static int
copy_all (Copy *copy, char **arguments)
{
  guint n = g_strv_length (arguments) - 1;
  const char *target = arguments[n];
  g_autofree char *name = NULL;
  int status = TOOL_OK;

  copy->root = open_target (target, n > 1, &name);
  if (copy->root < 0)
    return TOOL_FAILED;
  Argument argument = { copy, name, target };
  for (guint i = 0; i < n; i++) {
    int one = tool_guest_do ("cp", arguments[i], &copy->guest, copy_argument, &argument);
    if (one == TOOL_OK && copy->failed)
      one = TOOL_FAILED;
    status = status == TOOL_OK ? one : status;
    if (one > TOOL_FAILED)
      break;
  }
  close (copy->root);
  if (copy->keep.refused > 0)
    tool_error ("note: %u extended attributes could not be set: %s%s", copy->keep.refused,
                copy->keep.first_refused, copy->keep.refused > 1 ? ", and others" : "");
  if (copy->skipped > 0)
    tool_error ("note: %u devices, sockets or FIFOs were left out (--specials copies them)",
                copy->skipped);
  return status;
}

int
tool_cp (int argc, char **argv)
{
  Copy copy = { 0 };
  const GOptionEntry entries[] = {
    { "recursive", 'r', 0, G_OPTION_ARG_NONE, &copy.recursive,
      "Copy directories and all below; symbolic links as such", NULL },
    { "preserve", 'p', 0, G_OPTION_ARG_NONE, &copy.preserve, "Keep mode, owner (as root) and times",
      NULL },
    { "archive", 'a', 0, G_OPTION_ARG_NONE, &copy.archive,
      "As -r -p, and keep hard links and extended attributes", NULL },
    { "force", 'f', 0, G_OPTION_ARG_NONE, &copy.keep.replace, "Replace files that are there", NULL },
    { "specials", 0, 0, G_OPTION_ARG_NONE, &copy.specials, "Copy devices, sockets and FIFOs, too",
      NULL },
    TOOL_GUEST_OPTIONS (&copy.guest),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE:[DISK/][PART/]PATH... TARGET",
    .about = "Copies files and directories out of the file system of a guest.  ext2, ext3 and ext4.",
    .entries = entries, .min = 2, .max = TOOL_ANY,
  };
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  tool_interrupt_start ();
  copy.recursive |= copy.archive;
  copy.keep.attributes = copy.preserve || copy.archive;
  copy.keep.xattrs = copy.archive;
  copy.seen = g_hash_table_new (NULL, NULL);
  copy.links = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  status = copy_all (&copy, arguments);
  g_hash_table_unref (copy.seen);
  g_hash_table_unref (copy.links);
  g_free (copy.keep.first_refused);
  g_free (copy.guest.cache_option);
  return status;
}
