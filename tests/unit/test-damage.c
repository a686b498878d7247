/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole archive with one thing wrong, over and over: it is refused, or it is harmless; what can be
 * read is right, and nothing crashes.
 */
#include "tests/unit/util.h"

#include "vma/bytes.h"

#include <string.h>

static GByteArray *archive;
static GHashTable *truth;
static GArray *extents; /* guint32: offsets of the extent headers, and the end of the archive */

static void
load (void)
{
  archive = util_generated ("tiny.vma");
  truth = util_truth (archive->data, archive->len);
  extents = g_array_new (FALSE, FALSE, sizeof (guint32));

  guint32 at = vma_get_be32 (archive->data + 56);
  while (at < archive->len) {
    g_assert_cmpmem (archive->data + at, 4, "VMAE", 4);
    g_array_append_val (extents, at);
    at += 512 + 4096u * vma_get_be16 (archive->data + at + 6);
  }
  g_assert_cmpuint (at, ==, archive->len);
  g_array_append_val (extents, at);
  g_assert_cmpuint (extents->len, >=, 4);
}

static guint32
extent_at (guint i)
{
  return g_array_index (extents, guint32, i);
}

/* Clusters listed by extent `i`. */
static int
listed_by (guint i)
{
  int listed = 0;

  for (guint slot = 0; slot < 59; slot++)
    listed += archive->data[extent_at (i) + 40 + 8 * slot + 3] != 0;
  return listed;
}

static void
test_sound (void)
{
  g_assert_cmpint (util_check (archive->data, archive->len, FALSE, truth), ==, 0);
  g_assert_cmpint (util_check (archive->data, archive->len, TRUE, truth), ==, 0);
}

/* One byte in seven, and all of the small fields: opening a file each takes its time. */
static void
test_flip_header (void)
{
  for (guint32 i = 0; i < extent_at (0); i += i < 64 ? 1 : 7) {
    archive->data[i] ^= 0x10;
    g_assert_cmpint (util_check (archive->data, archive->len, FALSE, truth), ==, -1);
    g_assert_cmpint (util_check (archive->data, archive->len, TRUE, truth), ==, -1);
    archive->data[i] ^= 0x10;
  }
}

static void
test_flip_extents (void)
{
  for (guint e = 0; e + 1 < extents->len; e++)
    for (guint32 i = 0; i < 512; i++) {
      guint8 *byte = &archive->data[extent_at (e) + i];

      *byte ^= 0x04;
      g_assert_cmpint (util_check (archive->data, archive->len, FALSE, truth), ==, -1);
      /* Only what this extent listed may be lost. */
      int lost = util_check (archive->data, archive->len, TRUE, truth);
      g_assert_cmpint (lost, >=, 0);
      g_assert_cmpint (lost, <=, listed_by (e));
      *byte ^= 0x04;
    }
}

/* A header that lies, with a good checksum: nothing to compare with, but nothing may break. */
static void
test_lies (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (5);

  for (guint round = 0; round < 1500; round++) {
    guint8 saved[512];
    guint e = (guint) g_rand_int_range (rand, 0, (gint32) extents->len - 1);
    guint8 *header = archive->data + extent_at (e);

    memcpy (saved, header, sizeof saved);
    /* A slot is exchanged with another, or points elsewhere; the sum of the masks stays. */
    guint8 *slot = header + 40 + 8 * g_rand_int_range (rand, 0, listed_by (e));
    slot[3] = (guint8) g_rand_int_range (rand, 1, 4);
    vma_put_be32 (slot + 4, g_rand_boolean (rand) ? (guint32) g_rand_int_range (rand, 0, 8)
                                                  : g_rand_int (rand));
    util_fix_md5 (header, 512, 24);
    for (int salvage = 0; salvage < 2; salvage++) {
      g_autoptr (GError) error = NULL;
      g_autoptr (VmaArchive) opened
          = util_open (util_file (archive->data, archive->len), salvage, &error);
      g_assert_true ((opened == NULL) == (error != NULL));
      for (guint8 device = 1; opened != NULL && device <= 2; device++) {
        g_autoptr (GError) read_error = NULL;
        g_autoptr (GByteArray) disk = util_read_disk (opened, device, &read_error);
        g_assert_true ((disk == NULL) == (read_error != NULL));
      }
    }
    memcpy (header, saved, sizeof saved);
  }
}

static void
check_truncated (guint32 size)
{
  guint sound = 0;
  int lost_at_most = 0;

  while (sound + 1 < extents->len && extent_at (sound + 1) <= size)
    sound++;
  for (guint e = sound; e + 1 < extents->len; e++)
    lost_at_most += listed_by (e);

  g_assert_cmpint (util_check (archive->data, size, FALSE, truth), ==, -1);
  int lost = util_check (archive->data, size, TRUE, truth);
  if (size < extent_at (0)) {
    g_assert_cmpint (lost, ==, -1);
  } else {
    g_assert_cmpint (lost, >=, 0);
    g_assert_cmpint (lost, <=, lost_at_most);
  }
}

static void
test_truncate (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (3);

  for (guint e = 0; e + 1 < extents->len; e++)
    for (int delta = -1; delta <= 1; delta++)
      check_truncated ((guint32) ((gint64) extent_at (e) + delta));
  check_truncated (archive->len - 1);
  for (guint i = 0; i < 400; i++)
    check_truncated ((guint32) g_rand_int_range (rand, 0, (gint32) archive->len));
}

/*
 * Bytes lost or gained somewhere: nothing in a payload tells, but the next header stands elsewhere.  (In the
 * last extent it cannot be told from an archive that was cut off, or that something was appended to.)
 */
static void
test_shifted (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (4);
  guint8 gained[5000];

  for (guint i = 0; i < sizeof gained; i++)
    gained[i] = (guint8) g_rand_int (rand);
  for (guint i = 0; i < 400; i++) {
    guint e = (guint) g_rand_int_range (rand, 0, (gint32) extents->len - 2);
    guint32 at = (guint32) g_rand_int_range (rand, (gint32) extent_at (e) + 512,
                                             (gint32) extent_at (e + 1));
    guint32 n = (guint32) g_rand_int_range (rand, 1, 5000);
    n = MIN (n, extent_at (e + 1) - at); /* the next header is not touched */
    g_autoptr (GByteArray) changed = g_byte_array_new ();

    g_byte_array_append (changed, archive->data, at);
    if (g_rand_boolean (rand)) {
      g_byte_array_append (changed, archive->data + at + n, archive->len - at - n);
    } else {
      g_byte_array_append (changed, gained, n);
      g_byte_array_append (changed, archive->data + at, archive->len - at);
    }
    g_assert_cmpint (util_check (changed->data, changed->len, FALSE, truth), ==, -1);
    int lost = util_check (changed->data, changed->len, TRUE, truth);
    g_assert_cmpint (lost, >=, 0);
    g_assert_cmpint (lost, <=, listed_by (e));
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  load ();
  g_test_add_func ("/damage/sound", test_sound);
  g_test_add_func ("/damage/flip-header", test_flip_header);
  g_test_add_func ("/damage/flip-extents", test_flip_extents);
  g_test_add_func ("/damage/lies", test_lies);
  g_test_add_func ("/damage/truncate", test_truncate);
  g_test_add_func ("/damage/shifted", test_shifted);
  int status = g_test_run ();
  g_byte_array_unref (archive);
  g_hash_table_unref (truth);
  g_array_unref (extents);
  return status;
}
