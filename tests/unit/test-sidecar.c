/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sidecar by itself: what is saved comes back, a large one opens fast, and two users of one file
 * do not disturb each other.
 */
#include "source/sidecar.h"

#include <stdlib.h>
#include <string.h>

#define N_RECORDS 60000u

static const VmaSidecarKey key = { .kind = "test", .spacing = 7 };
static char *directory;

static VmaSidecar *
open_sidecar (guint64 *n, guint64 *closed)
{
  g_autoptr (GError) error = NULL;
  VmaSidecar *sidecar = vma_sidecar_open (directory, &key, &error);

  g_assert_no_error (error);
  *n = vma_sidecar_count (sidecar, closed);
  return sidecar;
}

/* Checkpoints first to last - 1, each 10 bytes on in the file and 1000 in the archive. */
static void
append (VmaSidecar *sidecar, guint first, guint last)
{
  for (guint i = first; i < last; i++) {
    g_autoptr (GBytes) state = g_bytes_new (&i, sizeof i);
    VmaCheckpoint checkpoint = { 10 * i, 1000 * (guint64) i, state, 0 };
    VmaPiece pieces[2] = { { .size = 400 }, { .size = 600 } };
    pieces[1].hash[0] = (guint8) i;
    g_assert_true (vma_sidecar_append (sidecar, &checkpoint, pieces, 2, NULL));
  }
}

static void
check (VmaSidecar *sidecar, guint i)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaSidecarChunk) chunk = vma_sidecar_read (sidecar, i, &error);
  guint64 index, out, size;

  g_assert_no_error (error);
  g_assert_cmpuint (chunk->from.in, ==, 10 * i);
  g_assert_cmpuint (chunk->size, ==, 1000);
  g_assert_cmpuint (chunk->n_pieces, ==, 2);
  g_assert_cmpuint (chunk->pieces[1].hash[0], ==, (guint8) (i + 1));
  g_assert_true (i == 0 || memcmp (g_bytes_get_data (chunk->from.state, NULL), &i, sizeof i) == 0);
  g_assert_true (vma_sidecar_find (sidecar, 1000 * (guint64) i + 999, &index, &out, &size));
  g_assert_cmpuint (index, ==, i);
}

static void
test_sidecar (void)
{
  VmaPiece last[2] = { { .size = 400 }, { .size = 600 } };
  guint64 n, closed;

  last[1].hash[0] = (guint8) N_RECORDS;
  /* Begun, left, and gone on with. */
  VmaSidecar *sidecar = open_sidecar (&n, &closed);
  append (sidecar, 1, 1000);
  vma_sidecar_free (sidecar);
  sidecar = open_sidecar (&n, &closed);
  g_assert_cmpuint (n, ==, 1000);
  g_assert_cmpuint (closed, ==, 999000);
  check (sidecar, 500);

  /* Another one meanwhile has a file of its own. */
  VmaSidecar *other = open_sidecar (&n, &closed);
  g_assert_cmpuint (n, ==, 1);
  append (other, 1, 10);
  append (sidecar, 1000, N_RECORDS);
  g_assert_true (vma_sidecar_finish (sidecar, 10 * N_RECORDS, 1000 * (guint64) N_RECORDS, last, 2,
                                     NULL));
  check (other, 5);
  vma_sidecar_free (other);
  vma_sidecar_free (sidecar);

  gint64 begun = g_get_monotonic_time ();
  sidecar = open_sidecar (&n, &closed);
  g_test_message ("opened in %" G_GINT64_FORMAT " us", g_get_monotonic_time () - begun);
  g_assert_true (vma_sidecar_is_complete (sidecar));
  g_assert_cmpuint (n, ==, N_RECORDS);
  for (guint i = 0; i < N_RECORDS; i += 777)
    check (sidecar, i);
  check (sidecar, N_RECORDS - 1);

  /* Cut while another has it open: that one goes on with what it has. */
  other = open_sidecar (&n, &closed);
  g_assert_true (vma_sidecar_cut (sidecar, 100, NULL));
  append (sidecar, 100, 200);
  check (sidecar, 50);
  check (sidecar, 150);
  check (other, 150);
  check (other, 50000);
  vma_sidecar_free (other);
  vma_sidecar_free (sidecar);
  sidecar = open_sidecar (&n, &closed);
  g_assert_cmpuint (n, ==, 1);
  vma_sidecar_free (sidecar);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  directory = g_dir_make_tmp ("vma-sidecar-XXXXXX", NULL);
  g_test_add_func ("/sidecar/all", test_sidecar);
  int result = g_test_run ();
  g_autofree char *remove = g_strdup_printf ("rm -rf '%s'", directory);
  if (system (remove) != 0)
    g_printerr ("cannot remove %s\n", directory);
  g_free (directory);
  return result;
}
