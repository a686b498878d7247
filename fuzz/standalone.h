/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The entry point of a fuzz target; with FUZZ_STANDALONE also a main() that feeds it the files and
 * folders it is given, or standard input, so that no fuzzer is needed to look at a find, or for
 * AFL.
 */
#pragma once

#include <glib.h>

int LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size);

#ifdef FUZZ_STANDALONE
#include <stdio.h>

static void
feed (FILE *file)
{
  g_autoptr (GByteArray) all = g_byte_array_new ();
  guint8 buffer[65536];
  gsize n;

  while ((n = fread (buffer, 1, sizeof buffer, file)) > 0)
    g_byte_array_append (all, buffer, (guint) n);
  /* Exactly that long, for the sanitizers. */
  g_autofree guint8 *copy = g_memdup2 (all->data, all->len);
  LLVMFuzzerTestOneInput (copy, all->len);
}

static void
feed_path (const char *path)
{
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *inside = g_build_filename (path, name, NULL);
    feed_path (inside);
  }
  if (dir != NULL)
    return;
  FILE *file = fopen (path, "rb");
  if (file == NULL)
    g_error ("cannot open %s", path);
  feed (file);
  fclose (file);
}

int
main (int argc, char **argv)
{
  if (argc < 2)
    feed (stdin);
  for (int i = 1; i < argc; i++)
    feed_path (argv[i]);
  return 0;
}
#endif
