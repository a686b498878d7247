/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool ls: lists files of the guest.
 */
#include "base/json-put.h"
#include "tool/command.h"
#include "tool/guest-path.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "vma/error.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How deep directories may be: a guest cannot make us use up the stack. */
#define MAX_DEPTH 512

typedef struct {
  ToolGuestOptions guest;
  gboolean is_long, recursive, itself, as_json, to_terminal;
  const ToolGuestPath *path;
  JsonBuilder *json; /* an array that is open */
  GHashTable *seen;  /* inode numbers of directories: each has one place */
  gboolean first;    /* nothing was printed so far */
} Listing;

static const char *
type_name (mode_t mode)
{
  return S_ISREG (mode)    ? "file"
         : S_ISDIR (mode)  ? "directory"
         : S_ISLNK (mode)  ? "symlink"
         : S_ISFIFO (mode) ? "fifo"
         : S_ISSOCK (mode) ? "socket"
         : S_ISBLK (mode)  ? "block"
         : S_ISCHR (mode)  ? "char"
                           : "unknown";
}

/* A name may hold what a terminal would obey. */
static void
print_name (const Listing *listing, const char *name)
{
  for (const char *p = name; *p != '\0'; p++)
    putchar (listing->to_terminal && ((guchar) *p < 0x20 || *p == 0x7f) ? '?' : *p);
}

static void
mode_text (mode_t mode, char text[11])
{
  static const char letters[] = "rwxrwxrwx";

  text[0] = S_ISREG (mode) ? '-' : S_ISBLK (mode) ? 'b' : *type_name (mode);
  if (S_ISLNK (mode))
    text[0] = 'l';
  if (S_ISFIFO (mode))
    text[0] = 'p';
  for (guint i = 0; i < 9; i++)
    text[1 + i] = (mode >> (8 - i) & 1) != 0 ? letters[i] : '-';
  if ((mode & S_ISUID) != 0)
    text[3] = (mode & 0100) != 0 ? 's' : 'S';
  if ((mode & S_ISGID) != 0)
    text[6] = (mode & 0010) != 0 ? 's' : 'S';
  if ((mode & S_ISVTX) != 0)
    text[9] = (mode & 0001) != 0 ? 't' : 'T';
  text[10] = '\0';
}

static void
print_long (const VmaExtStat *st)
{
  g_autoptr (GDateTime) when = g_date_time_new_from_unix_local (st->mtime.tv_sec);
  g_autofree char *time
      = when != NULL ? g_date_time_format (when, "%Y-%m-%d %H:%M:%S")
                     : g_strdup_printf ("@%" G_GINT64_FORMAT, (gint64) st->mtime.tv_sec);
  g_autofree char *size
      = S_ISBLK (st->mode) || S_ISCHR (st->mode)
            ? g_strdup_printf ("%u, %u", st->major, st->minor)
            : g_strdup_printf ("%" G_GUINT64_FORMAT, st->size);
  char mode[11];

  mode_text (st->mode, mode);
  printf ("%s %3u %5u %5u %12s %s ", mode, st->nlink, st->uid, st->gid, size, time);
}

static void
add_json (const Listing *listing, const VmaExtStat *st, const char *shown, const char *target)
{
  JsonBuilder *json = listing->json;
  g_autofree char *mode = g_strdup_printf ("%04o", (guint) st->mode & 07777);

  json_builder_begin_object (json);
  vma_json_put_string (json, "path", shown);
  if (!g_utf8_validate (shown, -1, NULL)) {
    g_autofree char *raw = g_base64_encode ((const guchar *) shown, strlen (shown));
    vma_json_put_string (json, "path_base64", raw);
  }
  vma_json_put_string (json, "type", type_name (st->mode));
  vma_json_put_string (json, "mode", mode);
  vma_json_put_int (json, "uid", st->uid);
  vma_json_put_int (json, "gid", st->gid);
  vma_json_put_int (json, "nlink", st->nlink);
  vma_json_put_int (json, "inode", st->ino);
  vma_json_put_int (json, "size", st->size);
  vma_json_put_int (json, "allocated", st->blocks * 512);
  json_builder_set_member_name (json, "mtime");
  json_builder_add_int_value (json, st->mtime.tv_sec);
  vma_json_put_int (json, "mtime_nsec", (guint64) st->mtime.tv_nsec);
  if (S_ISBLK (st->mode) || S_ISCHR (st->mode)) {
    vma_json_put_int (json, "major", st->major);
    vma_json_put_int (json, "minor", st->minor);
  }
  if (target != NULL)
    vma_json_put_string (json, "target", target);
  json_builder_end_object (json);
}

/* Shows one file: as `name`, or in JSON by its path. */
static gboolean
show (const Listing *listing, const VmaExtStat *st, const char *name, const char *shown,
      GError **error)
{
  g_autofree char *target = NULL;

  if (S_ISLNK (st->mode) && (listing->is_long || listing->as_json)) {
    target = vma_ext_readlink (listing->path->ext, st, shown, error);
    if (target == NULL)
      return FALSE;
  }
  if (listing->as_json) {
    add_json (listing, st, shown, target);
    return TRUE;
  }
  if (listing->is_long)
    print_long (st);
  print_name (listing, name);
  if (target != NULL) {
    printf (" -> ");
    print_name (listing, target);
  }
  putchar ('\n');
  return TRUE;
}

static gboolean list_dir (Listing *listing, ext2_ino_t ino, const char *shown, guint depth,
                          GError **error);

static gboolean
list_below (Listing *listing, GPtrArray *entries, const char *shown, guint depth, GError **error)
{
  for (guint i = 0; i < entries->len; i++) {
    const VmaExtEntry *entry = g_ptr_array_index (entries, i);
    g_autofree char *path = g_strconcat (shown, g_str_has_suffix (shown, "/") ? "" : "/",
                                         entry->name, NULL);
    VmaExtStat st;

    if (!vma_ext_stat (listing->path->ext, entry->ino, path, &st, error)
        || (S_ISDIR (st.mode) && !list_dir (listing, entry->ino, path, depth + 1, error)))
      return FALSE;
  }
  return TRUE;
}

static gboolean
list_dir (Listing *listing, ext2_ino_t ino, const char *shown, guint depth, GError **error)
{
  if (depth > MAX_DEPTH || !g_hash_table_add (listing->seen, GUINT_TO_POINTER (ino))) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "%s%s: %s", listing->path->prefix, shown,
                 depth > MAX_DEPTH ? "the directories are too deep"
                                   : "the directory stands in the file system twice");
    return FALSE;
  }
  g_autoptr (GPtrArray) entries = vma_ext_read_dir (listing->path->ext, ino, shown, error);
  if (entries == NULL)
    return FALSE;
  if (listing->recursive && !listing->as_json) {
    printf ("%s", listing->first ? "" : "\n");
    print_name (listing, shown);
    printf (":\n");
    listing->first = FALSE;
  }
  for (guint i = 0; i < entries->len; i++) {
    const VmaExtEntry *entry = g_ptr_array_index (entries, i);
    g_autofree char *path = g_strconcat (shown, g_str_has_suffix (shown, "/") ? "" : "/",
                                         entry->name, NULL);
    VmaExtStat st;

    if (g_cancellable_is_cancelled (tool_cancellable ())) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    if (!vma_ext_stat (listing->path->ext, entry->ino, path, &st, error)
        || !show (listing, &st, entry->name, path, error))
      return FALSE;
  }
  return !listing->recursive || list_below (listing, entries, shown, depth, error);
}

/* ToolGuestAction */
static gboolean
list (const ToolGuestPath *path, gpointer data, GError **error)
{
  Listing *listing = data;
  VmaExtStat st;
  ext2_ino_t ino;

  listing->path = path;
  g_hash_table_remove_all (listing->seen);
  /* Like ls: a link to a directory leads there, unless the link itself is to be shown. */
  gboolean follow = !listing->itself && !listing->is_long;
  if (!vma_ext_lookup (path->ext, path->path, follow || g_str_has_suffix (path->path, "/"), &ino,
                       error)
      || !vma_ext_stat (path->ext, ino, path->path, &st, error))
    return FALSE;
  if (S_ISDIR (st.mode) && !listing->itself)
    return list_dir (listing, ino, path->path, 0, error);
  return show (listing, &st, path->path, path->path, error);
}

static int
list_arguments (Listing *listing, char **arguments)
{
  return tool_guest_do_all ("ls", arguments, &listing->guest, list, listing);
}

int
tool_ls (int argc, char **argv)
{
  Listing listing = { .first = TRUE, .to_terminal = isatty (STDOUT_FILENO) };
  const GOptionEntry entries[] = {
    { "long", 'l', 0, G_OPTION_ARG_NONE, &listing.is_long,
      "Show mode, links, owner, group, size and time of change", NULL },
    { "recursive", 'R', 0, G_OPTION_ARG_NONE, &listing.recursive, "Show what is below, too", NULL },
    { "directory", 'd', 0, G_OPTION_ARG_NONE, &listing.itself,
      "Show a directory itself, not what is in it", NULL },
    { "json", 0, 0, G_OPTION_ARG_NONE, &listing.as_json, "Print JSON", NULL },
    TOOL_GUEST_OPTIONS (&listing.guest),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE:[DISK/][PART/]PATH...",
    .about = "Lists files in the file system of a guest.  ext2, ext3 and ext4.",
    .entries = entries, .min = 1, .max = TOOL_ANY,
  };
  int status = TOOL_OK;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  tool_guest_confine (arguments, &listing.guest);
  tool_interrupt_start ();
  g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);
  listing.seen = seen;
  if (listing.as_json) {
    g_autoptr (JsonBuilder) json = json_builder_new ();
    listing.json = json_builder_begin_array (json);
    status = list_arguments (&listing, arguments);
    json_builder_end_array (json);
    if (status == TOOL_OK)
      vma_json_print (json);
  } else
    status = list_arguments (&listing, arguments);
  g_free (listing.guest.cache_option);
  return status;
}
