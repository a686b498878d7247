/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a saved sidecar, complete (first byte odd) or not: it is opened, read, cut and
 * appended to.  The header is put right, or nearly nothing would get past it.
 */
#include "fuzz/standalone.h"
#include "source/sidecar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const VmaSidecarKey key = { .kind = "fuzz", .spacing = 1 };

static void
be_quiet (const char *domain G_GNUC_UNUSED, GLogLevelFlags level, const char *message,
          gpointer data G_GNUC_UNUSED)
{
  if ((level & G_LOG_FLAG_FATAL) != 0)
    g_printerr ("%s\n", message);
}

/* A new sidecar's name and header, found by making one. */
static char *
make_name (const char *directory, guint8 header[24])
{
  vma_sidecar_free (vma_sidecar_open (directory, &key, NULL));
  GDir *dir = g_dir_open (directory, 0, NULL);
  char *path = g_build_filename (directory, g_dir_read_name (dir), NULL);
  FILE *file = fopen (path, "r");

  if (file == NULL || fread (header, 1, 24, file) != 24)
    abort ();
  fclose (file);
  g_dir_close (dir);
  unlink (path);
  return path;
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  static char *directory, *part;
  static guint8 header[24];

  if (directory == NULL) {
    g_log_set_default_handler (be_quiet, NULL);
    directory = g_dir_make_tmp ("fuzz-sidecar-XXXXXX", NULL);
    part = make_name (directory, header);
  }
  if (size < 1)
    return 0;
  g_autofree char *complete = g_strndup (part, strlen (part) - strlen (".part"));
  g_autofree guint8 *file = g_malloc (24 + size);
  memcpy (file, header, 24);
  memcpy (file + 24, bytes + 1, size - 1);
  g_file_set_contents ((bytes[0] & 1) != 0 ? complete : part, (const char *) file,
                       (gssize) (24 + size - 1), NULL);

  g_autoptr (VmaSidecar) sidecar = vma_sidecar_open (directory, &key, NULL);
  guint64 closed, n = vma_sidecar_count (sidecar, &closed);
  for (guint64 i = 0; i < n && i < 16; i++) {
    VmaSidecarChunk *chunk = vma_sidecar_read (sidecar, i, NULL);
    g_clear_pointer (&chunk, vma_sidecar_chunk_free);
  }
  if (vma_sidecar_is_complete (sidecar) && !vma_sidecar_cut (sidecar, n / 2, NULL))
    abort ();
  g_autoptr (VmaSidecarChunk) last = vma_sidecar_last (sidecar, NULL);
  if (last == NULL)
    abort ();
  VmaPiece piece = { .size = 1 };
  vma_sidecar_count (sidecar, &closed);
  if (closed < G_MAXUINT64 - 1
      && !vma_sidecar_finish (sidecar, G_MAXUINT64, closed + 1, &piece, 1, NULL))
    abort ();
  unlink (complete);
  unlink (part);
  return 0;
}
