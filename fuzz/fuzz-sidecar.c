/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved sidecar, complete or not: it is opened, read, cut and appended to.  The header is put
 * right, and, as far as the flags say so, the sums of the records, of the table and of the footer.
 *
 * Input: flags, and the file behind its header.
 */
#include "fuzz/standalone.h"
#include "source/sidecar.h"
#include "vma/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

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

#define FLAG_COMPLETE 1
#define FLAG_BLIND 2 /* sums stay as they are */
#define FLAG_TABLE 4 /* a footer that fits stands at the end */

static void
put_hash (guint8 *to, const guint8 *bytes, gsize size, guint64 seed)
{
  XXH128_canonicalFromHash ((XXH128_canonical_t *) to, XXH3_128bits_withSeed (bytes, size, seed));
}

/* The sums of records, one behind the other, up to `end`. */
static void
repair_records (guint8 *file, gsize end, guint64 seed)
{
  for (gsize at = 24; at + 48 <= end;) {
    guint64 pieces = vma_get_le32 (file + at + 20), state = vma_get_le32 (file + at + 16);
    guint64 size = 32 + pieces * 20 + state;

    vma_put_le64 (file + at + 24, XXH3_64bits_withSeed (file + at, 24, seed));
    if (size + 16 > end - at)
      return;
    put_hash (file + at + size, file + at, size, seed);
    at += size + 16;
  }
}

/* The last 48 bytes become a footer of a table of `n` + 1 entries that stands before them. */
static void
repair_footer (guint8 *file, gsize size, guint n, guint64 seed)
{
  gsize table = (n + 1) * 24u;
  guint8 *footer = file + size - 48;

  if (size < 24 + 48 + table)
    return;
  memcpy (footer, "VMAckend", 8);
  vma_put_le64 (footer + 8, size - 48 - table);
  vma_put_le64 (footer + 16, n);
  put_hash (footer + 24, footer - table, table, seed);
  vma_put_le64 (footer + 40, XXH3_64bits_withSeed (footer, 40, seed));
}

static void
repair (guint8 *file, gsize size, guint flags)
{
  /* As sidecar.c has it: the key's first eight bytes. */
  guint64 seed = vma_get_le64 (file + 8);
  guint n = 1 + (flags >> 3) % 8;

  if ((flags & FLAG_BLIND) != 0)
    return;
  gboolean table = (flags & FLAG_TABLE) != 0 && size >= 24 + 48 + (n + 1) * 24;
  repair_records (file, table ? size - 48 - (n + 1) * 24 : size, seed);
  if (table)
    repair_footer (file, size, n, seed);
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
  repair (file, 24 + size - 1, bytes[0]);
  g_file_set_contents ((bytes[0] & FLAG_COMPLETE) != 0 ? complete : part, (const char *) file,
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
