/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which files of a directory are archives, and what a mount shows them as. */
#include "fuse/archive-name.h"

#include <string.h>

static void
check_stem (const char *file, const char *stem, gboolean growing)
{
  gboolean got_growing;
  gsize size = vma_archive_name_stem (file, &got_growing);
  g_autofree char *got = g_strndup (file, size);

  g_assert_cmpstr (got, ==, stem);
  if (*stem != '\0')
    g_assert_cmpint (got_growing, ==, growing);
}

static void
test_stem (void)
{
  check_stem ("a.vma", "a", FALSE);
  check_stem ("a.vma.zst", "a", FALSE);
  check_stem ("a.vma.gz", "a", FALSE);
  check_stem ("a.vma.lzo", "a", FALSE);
  check_stem ("a.vma.lz4", "a", FALSE);
  check_stem ("a.vma.dat", "a", TRUE);
  check_stem ("vzdump-qemu-100-2026_11_20-03_00_00.dat", "vzdump-qemu-100-2026_11_20-03_00_00", TRUE);
  check_stem ("a.b.vma.zst", "a.b", FALSE);
  check_stem ("a.vma.vma", "a.vma", FALSE);
  check_stem ("a.dat", "", FALSE);
  check_stem (".vma", "", FALSE);
  check_stem (".hidden.vma", "", FALSE);
  check_stem ("vma", "", FALSE);
  check_stem ("a.vma.bz2", "", FALSE);
  check_stem ("a.vma.zst.notes", "", FALSE);
  check_stem ("a.log", "", FALSE);
  check_stem ("a.tar.zst", "", FALSE);
  check_stem ("vzdump-lxc-100.tar.dat", "", FALSE);
  check_stem ("", "", FALSE);
}

/* `files` and `wanted` are words, with spaces between. */
static void
check_names (const char *files, const char *wanted)
{
  g_autoptr (GPtrArray) array = g_ptr_array_new ();
  g_auto (GStrv) words = g_strsplit (files, " ", -1);

  for (guint i = 0; words[i] != NULL; i++)
    g_ptr_array_add (array, words[i]);
  g_autoptr (GPtrArray) names = vma_archive_names_assign (array);
  g_ptr_array_add (names, NULL);
  g_autofree char *got = g_strjoinv (" ", (char **) names->pdata);
  g_assert_cmpstr (got, ==, wanted);
}

static void
test_names (void)
{
  check_names ("a.vma b.vma.zst", "a b");
  /* All that share a name have their whole ones, in whatever order they came to be. */
  check_names ("a.vma a.vma.gz a.vma.zst b.vma", "a.vma a.vma.gz a.vma.zst b");
  /* A name that another file's whole name takes. */
  check_names ("a.vma a.vma.gz a.vma.vma", "a.vma a.vma.gz a.vma~2");
  check_names ("a\nb.vma", "a%0Ab");
}

static void
test_hostile_names (void)
{
  g_autofree char *longest = g_strnfill (250, 'x');
  memcpy (longest + 246, ".vma", 4);
  const char *files[] = { longest, "..vma", "x\xff.vma" };
  g_autoptr (GPtrArray) array = g_ptr_array_new ();

  for (guint i = 0; i < G_N_ELEMENTS (files); i++)
    g_ptr_array_add (array, (gpointer) files[i]);
  g_autoptr (GPtrArray) names = vma_archive_names_assign (array);
  for (guint i = 0; i < names->len; i++) {
    const char *name = g_ptr_array_index (names, i);
    g_assert_cmpuint (strlen (name), <, 256);
    g_assert_cmpuint (strlen (name), >, 0);
    g_assert_null (strchr (name, '/'));
    g_assert_true (g_utf8_validate (name, -1, NULL));
    g_assert_cmpstr (name, !=, ".");
    g_assert_cmpstr (name, !=, "..");
    g_assert_cmpstr (name, !=, ".vmafs");
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/archive-name/stem", test_stem);
  g_test_add_func ("/archive-name/names", test_names);
  g_test_add_func ("/archive-name/hostile", test_hostile_names);
  return g_test_run ();
}
