/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What people, fstab(5) and mount(8) write: the command lines of vmafs and mount.vmafs, lists of mount
 * options, sizes, NBD URIs, and the names of the files in a directory of archives.
 *
 * Input: words, each ended by a NUL or a newline, taken for each of these.
 */
#include "fuse/archive-name.h"
#include "fuse/option-list.h"
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "mount-helper/arguments.h"
#include "source/nbd-uri.h"
#include "tool/size.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Help is printed, and ends the program. */
static gboolean
asks_for_help (const char *word)
{
  return word[0] == '-'
         && (g_str_has_prefix (word, "--h") || (word[1] != '-' && strpbrk (word, "h?") != NULL));
}

static char **
split_words (const guint8 *bytes, gsize size)
{
  GPtrArray *words = g_ptr_array_new ();

  for (gsize at = 0, end; at < size && words->len < 64; at = end + 1) {
    for (end = at; end < size && bytes[end] != '\0' && bytes[end] != '\n'; end++)
      ;
    g_autofree char *word = g_strndup ((const char *)bytes + at, end - at);
    if (!asks_for_help (word))
      g_ptr_array_add (words, g_steal_pointer (&word));
  }
  g_ptr_array_add (words, NULL);
  return (char **)g_ptr_array_free (words, FALSE);
}

/* What the words become when they are appended to a list is what a split gives. */
static void
check_list (char **words)
{
  g_autoptr (GString) list = g_string_new (NULL);
  guint n = 0;

  for (char **word = words; *word != NULL; word++) {
    g_strfreev (vma_option_list_split (*word, VMA_OPTION_LIST_QUOTES));
    g_strfreev (vma_option_list_split (*word, VMA_OPTION_LIST_PLAIN));
    vma_mount_option_kind (*word);
    if (**word != '\0')
      vma_option_list_append (list, *word);
  }
  g_auto (GStrv) again = vma_option_list_split (list->str, VMA_OPTION_LIST_PLAIN);
  for (char **word = words; *word != NULL; word++)
    if (**word != '\0')
      CHECK (again[n] != NULL && strcmp (again[n++], *word) == 0);
  CHECK (again[n] == NULL);
}

static void
check_vmafs (char **words)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  g_autoptr (GError) error = NULL;
  VmaMountOptions options = { 0 };

  g_ptr_array_add (argv, (gpointer) "vmafs");
  for (char **word = words; *word != NULL; word++)
    g_ptr_array_add (argv, *word);
  g_ptr_array_add (argv, NULL);
  gboolean ok = vma_mount_options_parse (&options, (char **)argv->pdata, &error);
  CHECK (ok == (error == NULL));
  if (ok)
    vma_mount_options_archive (&options);
  vma_mount_options_clear (&options);
}

static void
check_mount (char **words)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GError) error = NULL;
  MountArguments arguments = { 0 };
  int argc = 0;

  g_ptr_array_add (argv, g_strdup ("mount.vmafs"));
  for (char **word = words; *word != NULL; word++)
    g_ptr_array_add (argv, g_strdup (*word));
  argc = (int)argv->len;
  g_ptr_array_add (argv, NULL);
  /* getopt(3) moves them. */
  g_autofree char **moved = g_memdup2 (argv->pdata, argv->len * sizeof (char *));
  optind = 0;
  opterr = 0;
  gboolean ok = mount_arguments_parse (&arguments, argc, moved, &error);
  CHECK (ok == (error == NULL));
  if (ok && !arguments.show_help && !arguments.show_version)
    CHECK (arguments.archive != NULL && arguments.dir != NULL);
  mount_arguments_clear (&arguments);
}

static void
check_word (const char *word)
{
  guint64 size;

  if (tool_parse_size (word, &size))
    g_free (tool_format_size (size));
  g_autofree char *shown = vma_nbd_display (word), *absolute = vma_nbd_absolute (word);
  CHECK (shown != NULL && absolute != NULL);
  CHECK (vma_nbd_is_uri (absolute) == vma_nbd_is_uri (word));
  g_autofree char *again = vma_nbd_absolute (absolute);
  CHECK (strcmp (again, absolute) == 0);
}

static int
compare (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *)a, *(char *const *)b);
}

/* Names of files, which are sorted and all different. */
static void
check_names (char **words)
{
  g_autoptr (GPtrArray) files = g_ptr_array_new ();
  g_autoptr (GHashTable) taken = g_hash_table_new (g_str_hash, g_str_equal);
  gboolean growing;

  for (char **word = words; *word != NULL; word++)
    if (strchr (*word, '/') == NULL && vma_archive_name_stem (*word, &growing) > 0
        && g_hash_table_add (taken, *word))
      g_ptr_array_add (files, *word);
  g_ptr_array_sort (files, compare);
  g_autoptr (GPtrArray) names = vma_archive_names_assign (files);
  g_hash_table_remove_all (taken);
  CHECK (names->len == files->len);
  for (guint i = 0; i < names->len; i++) {
    const char *name = names->pdata[i];
    CHECK (*name != '\0' && strchr (name, '/') == NULL && strcmp (name, "..") != 0
           && strcmp (name, ".") != 0 && g_utf8_validate (name, -1, NULL));
    CHECK (g_hash_table_add (taken, (gpointer)name));
  }
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  g_auto (GStrv) words = split_words (bytes, size);

  check_list (words);
  check_names (words);
  for (char **word = words; *word != NULL; word++)
    check_word (*word);
  check_vmafs (words);
  check_mount (words);
  return 0;
}
