/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pure parts of guest/: where to look on a disk, and LVM's metadata, sound and broken.
 */
#include "guest/journal.h"
#include "guest/layout.h"
#include "guest/lvm-text.h"
#include "guest/lvm.h"
#include "tests/unit/util.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>
#include <zlib.h>

/* --- layout ------------------------------------------------------------------------------------ */

static void
boot_record (guint8 sector[512])
{
  memset (sector, 0, 512);
  sector[510] = 0x55;
  sector[511] = 0xaa;
}

static void
test_records (void)
{
  guint8 sector[512];
  guint32 start, starts[4];

  boot_record (sector);
  g_assert_false (vma_layout_extended (sector, &start));
  g_assert_cmpuint (vma_layout_primaries (sector, starts), ==, 0);
  sector[446 + 4] = 0x83;
  vma_put_le32 (sector + 446 + 8, 2048);
  sector[446 + 48 + 4] = 0x0f;
  vma_put_le32 (sector + 446 + 48 + 8, 0xfffffffe);
  g_assert_true (vma_layout_extended (sector, &start));
  g_assert_cmpuint (start, ==, 0xfffffffe);
  g_assert_cmpuint (vma_layout_primaries (sector, starts), ==, 2);
  g_assert_cmpuint (starts[0], ==, 2048);
  sector[511] = 0;
  g_assert_false (vma_layout_extended (sector, &start));
  g_assert_cmpuint (vma_layout_primaries (sector, starts), ==, 0);
}

static void
test_elsewhere (void)
{
  guint8 sector[512];
  guint64 offset;

  boot_record (sector);
  g_assert_false (vma_layout_elsewhere (sector, &offset));

  memcpy (sector + 3, "NTFS    ", 8);
  vma_put_le16 (sector + 0x0b, 512);
  sector[0x0d] = 8;
  vma_put_le64 (sector + 0x30, 786432);
  g_assert_true (vma_layout_elsewhere (sector, &offset));
  g_assert_cmpuint (offset, ==, G_GUINT64_CONSTANT (786432) * 4096);
  sector[0x0d] = 0xf4; /* 2 MiB: 2 to the power of 12 sectors */
  g_assert_true (vma_layout_elsewhere (sector, &offset));
  g_assert_cmpuint (offset, ==, (G_GUINT64_CONSTANT (786432) << 12) * 512);
  vma_put_le64 (sector + 0x30, G_MAXUINT64 / 512); /* nowhere at all */
  g_assert_false (vma_layout_elsewhere (sector, &offset));

  /* FAT32: 32 reserved sectors, two tables of 1000, the root in cluster 7 of 8 sectors. */
  boot_record (sector);
  vma_put_le16 (sector + 0x0b, 512);
  sector[0x0d] = 8;
  vma_put_le16 (sector + 0x0e, 32);
  sector[0x10] = 2;
  vma_put_le32 (sector + 0x24, 1000);
  vma_put_le32 (sector + 0x2c, 7);
  g_assert_true (vma_layout_elsewhere (sector, &offset));
  g_assert_cmpuint (offset, ==, (32 + 2000 + 5 * 8) * 512);
  vma_put_le32 (sector + 0x2c, 1);
  g_assert_false (vma_layout_elsewhere (sector, &offset));

  boot_record (sector);
  memcpy (sector + 3, "EXFAT   ", 8);
  sector[0x6c] = 9;
  sector[0x6d] = 3;
  vma_put_le32 (sector + 0x58, 4096);
  vma_put_le32 (sector + 0x60, 5);
  g_assert_true (vma_layout_elsewhere (sector, &offset));
  g_assert_cmpuint (offset, ==, (4096 + 3 * 8) * 512);
  sector[0x6c] = 200;
  g_assert_false (vma_layout_elsewhere (sector, &offset));
}

/* --- LVM --------------------------------------------------------------------------------------- */

#define UUID "abcdef-0123-4567-89ab-cdef-0123-456789"

#define SEGMENT(n, start, count, type, where)                                                      \
  "segment" #n " {\nstart_extent = " #start "\nextent_count = " #count "\ntype = \"" type          \
  "\"\nstripe_count = 1\nstripes = [\n" where "\n]\n}\n"
#define VISIBLE "status = [\"READ\", \"WRITE\", \"VISIBLE\"]\n"

static const char text[]
    = "# a comment\nvg0 {\nid = \"x\"\nextent_size = 8192\n"
      "physical_volumes {\n"
      "pv0 {\nid = \"other0-0000-0000-0000-0000-0000-000000\"\npe_start = 4096\n}\n"
      "pv1 {\nid = \"" UUID "\"\ndevice = \"/dev/\\\"sd\"\npe_start = 2048\npe_count = 1000\n}\n"
      "}\n"
      "logical_volumes {\n"
      "root {\n" VISIBLE "segment_count = 1\n" SEGMENT (1, 0, 10, "striped", "\"pv1\", 5") "}\n"
      "joined {\n" VISIBLE "segment_count = 2\n" SEGMENT (1, 0, 10, "striped", "\"pv1\", 20")
          SEGMENT (2, 10, 2, "striped", "\"pv1\", 30") "}\n"
      "pieces {\n" VISIBLE "segment_count = 2\n" SEGMENT (1, 0, 10, "striped", "\"pv1\", 40")
          SEGMENT (2, 10, 2, "striped", "\"pv1\", 60") "}\n"
      "elsewhere {\n" VISIBLE "segment_count = 1\n" SEGMENT (1, 0, 1, "striped", "\"pv0\", 0") "}\n"
      "across {\n" VISIBLE "segment_count = 2\n" SEGMENT (1, 0, 1, "striped", "\"pv1\", 70")
          SEGMENT (2, 1, 1, "striped", "\"pv0\", 71") "}\n"
      "hidden {\nstatus = [\"READ\"]\nsegment_count = 1\n"
          SEGMENT (1, 0, 1, "striped", "\"pv1\", 80") "}\n"
      "}\n}\ncontents = \"Text Format Volume Group\"\nversion = 1\n";

static void
check_volume (const VmaLvmGroup *group, guint i, const char *name, gboolean is_window,
              guint64 offset, guint64 length)
{
  const VmaLvmVolume *v = g_ptr_array_index (group->volumes, i);
  const guint64 extent = 8192 * 512, data = 2048 * 512;

  g_assert_cmpstr (v->name, ==, name);
  g_assert_cmpint (v->is_window, ==, is_window);
  g_assert_cmpuint (v->length, ==, length * extent);
  if (is_window)
    g_assert_cmpuint (v->offset, ==, data + offset * extent);
  else
    g_assert_cmpstr (v->layout, ==, "in several pieces");
}

static void
check_piece (const VmaLvmGroup *group, guint volume, guint i, const char *pv, guint64 offset,
             guint64 length)
{
  const VmaLvmVolume *v = g_ptr_array_index (group->volumes, volume);
  const VmaLvmPiece *piece = &g_array_index (v->pieces, VmaLvmPiece, i);

  g_assert_cmpuint (i, <, v->pieces->len);
  g_assert_cmpstr (piece->pv_uuid, ==, pv);
  g_assert_cmpuint (piece->offset, ==, offset);
  g_assert_cmpuint (piece->length, ==, length);
}

static void
test_pieces (void)
{
  const guint64 extent = 8192 * 512, data = 2048 * 512, other = 4096 * 512;
  const char *const other_uuid = "other0-0000-0000-0000-0000-0000-000000";
  g_autoptr (VmaLvmGroup) group = vma_lvm_parse (text, strlen (text), UUID, NULL);

  check_piece (group, 0, 0, UUID, data + 5 * extent, 10 * extent);
  check_piece (group, 2, 0, UUID, data + 40 * extent, 10 * extent);
  check_piece (group, 2, 1, UUID, data + 60 * extent, 2 * extent);
  check_piece (group, 3, 0, UUID, data + 70 * extent, extent);
  check_piece (group, 3, 1, other_uuid, other + 71 * extent, extent);
}

/* A gap, an unknown physical volume, and another kind of segment. */
static void
test_no_pieces (void)
{
  static const struct {
    const char *from, *to;
    gboolean is_broken;
  } changes[] = {
    { "start_extent = 10", "start_extent = 11", TRUE },
    { "\"pv0\", 71", "\"pv7\", 71", FALSE },
    { "type = \"striped\"", "type = \"raid1\"", FALSE },
    { "stripe_count = 1", "stripe_count = 2", FALSE },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (changes); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (GString) changed = g_string_new (text);
    g_string_replace (changed, changes[i].from, changes[i].to, 0);
    g_autoptr (VmaLvmGroup) group = vma_lvm_parse (changed->str, changed->len, UUID, &error);
    g_assert_cmpint (group == NULL, ==, changes[i].is_broken);
    if (group == NULL)
      continue;
    const VmaLvmVolume *last
        = g_ptr_array_index (group->volumes, group->volumes->len - 1);
    g_assert_null (last->pieces);
    g_assert_false (last->is_window);
  }
}

static void
test_group (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaLvmGroup) group = vma_lvm_parse (text, strlen (text), UUID, &error);

  g_assert_no_error (error);
  g_assert_cmpstr (group->vg, ==, "vg0");
  g_assert_cmpuint (group->volumes->len, ==, 4);
  check_volume (group, 0, "root", TRUE, 5, 10);
  check_volume (group, 1, "joined", TRUE, 20, 12);
  check_volume (group, 2, "pieces", FALSE, 0, 12);
  check_volume (group, 3, "across", FALSE, 0, 2);
}

/* Cut off anywhere it is an error, or what is missing was not needed; never a crash. */
static void
test_cut_text (void)
{
  for (gsize n = 0; n < strlen (text); n++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *copy = g_memdup2 (text, MAX (n, 1));
    g_autoptr (VmaLvmGroup) group = vma_lvm_parse (copy, n, UUID, &error);
    const char *closed = strstr (text, "contents");

    if (n < (gsize) (closed - text) - 1)
      g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
    g_assert_true ((group == NULL) == (error != NULL));
  }
}

static void
test_bad_text (void)
{
  g_autoptr (GString) deep = g_string_new (NULL);
  static const char *const bad[] = {
    "", "a", "a {", "a = [", "a = [1 2]", "a = \"", "vg { }", "}", "vg { extent_size = 0 }", "= 1",
    "vg { extent_size = 99999999999999999999999 }",
  };

  for (guint i = 0; i < 10000; i++)
    g_string_append (deep, "a{");
  for (gsize i = 0; i <= G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    const char *one = i < G_N_ELEMENTS (bad) ? bad[i] : deep->str;

    g_assert_null (vma_lvm_parse (one, strlen (one), UUID, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
  }
  /* Sizes that do not fit into 64 bits. */
  g_autofree char *huge = g_strdup (text);
  memcpy (strstr (huge, "extent_count = 10") + 15, "9", 1);
  char *at = strstr (huge, "extent_size = 8192");
  g_autofree char *wide = g_strdup_printf ("%.*sextent_size = 9223372036854775807%s",
                                           (int) (at - huge), huge, at + 18);
  g_autoptr (GError) error = NULL;
  g_assert_null (vma_lvm_parse (wide, strlen (wide), UUID, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
}

/* A metadata area with the text at `offset`, around its end if need be. */
static GByteArray *
make_area (gsize size, gsize offset)
{
  GByteArray *area = g_byte_array_new ();
  gsize length = strlen (text), first = MIN (length, size - offset);

  g_byte_array_set_size (area, (guint) size);
  memset (area->data, 0, size);
  memcpy (area->data + 4, " LVM2 x[5A%r0N*>", 16);
  memcpy (area->data + offset, text, first);
  memcpy (area->data + 512, text + first, length - first);
  vma_put_le64 (area->data + 40, offset);
  vma_put_le64 (area->data + 48, length);
  /* zlib's has the start and the end inverted. */
  guint32 crc = ~(guint32) crc32 (~0xf597a6cfu, (const Bytef *) text, (uInt) length);
  vma_put_le32 (area->data + 56, crc);
  return area;
}

static void
test_area (void)
{
  const gsize size = 8192, offsets[] = { 512, 4096, 8192 - 100, 8191 };

  for (gsize i = 0; i < G_N_ELEMENTS (offsets); i++) {
    g_autoptr (GByteArray) area = make_area (size, offsets[i]);
    g_autoptr (GError) error = NULL;
    g_autoptr (GBytes) got = vma_lvm_area_text (area->data, area->len, &error);

    g_assert_no_error (error);
    g_assert_cmpmem (g_bytes_get_data (got, NULL), g_bytes_get_size (got), text, strlen (text));
    area->data[offsets[i]] ^= 1;
    g_assert_null (vma_lvm_area_text (area->data, area->len, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
    g_clear_error (&error);
    area->data[offsets[i]] ^= 1;
    vma_put_le64 (area->data + 48, G_MAXUINT64);
    g_assert_null (vma_lvm_area_text (area->data, area->len, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
  }
}

static void
test_label (void)
{
  guint8 head[2048] = { 0 }, *label = head + 512;
  guint64 offset, length;

  g_assert_false (vma_lvm_find_area (head, sizeof head, &offset, &length));
  memcpy (label, "LABELONE", 8);
  memcpy (label + 24, "LVM2 001", 8);
  vma_put_le32 (label + 20, 32);
  vma_put_le64 (label + 32 + 40, 1048576); /* one data area; then the metadata's */
  vma_put_le64 (label + 32 + 72, 4096);
  vma_put_le64 (label + 32 + 80, 1044480);
  g_assert_true (vma_lvm_find_area (head, sizeof head, &offset, &length));
  g_assert_cmpuint (offset, ==, 4096);
  g_assert_cmpuint (length, ==, 1044480);
  vma_put_le32 (label + 20, 0xffffffff);
  g_assert_false (vma_lvm_find_area (head, sizeof head, &offset, &length));
  vma_put_le32 (label + 20, 32);
  memset (label + 32, 0xff, 512 - 32); /* a list without an end */
  g_assert_false (vma_lvm_find_area (head, sizeof head, &offset, &length));
}

/* --- the journal ------------------------------------------------------------------------------- */

#define BLOCK 1024u

typedef struct {
  guint8 blocks[12][BLOCK];
} Log;

static void
log_block (Log *log, guint block, guint32 type, guint32 sequence)
{
  vma_put_be32 (log->blocks[block], VMA_JOURNAL_MAGIC);
  vma_put_be32 (log->blocks[block] + 4, type);
  vma_put_be32 (log->blocks[block] + 8, sequence);
}

/* Two blocks in transaction 5, and one of them revoked in transaction 6; 7 was not committed. */
static Log *
make_log (void)
{
  Log *log = g_new0 (Log, 1);
  const guint32 superblock[] = { BLOCK, 12, 1, 5, 9 };

  log_block (log, 0, 4, 0);
  for (gsize i = 0; i < G_N_ELEMENTS (superblock); i++)
    vma_put_be32 (log->blocks[0] + 12 + 4 * i, superblock[i]);
  vma_put_be32 (log->blocks[0] + 40, 1);
  log_block (log, 9, 1, 5); /* and around the end: 10, 11, then 1 */
  vma_put_be32 (log->blocks[9] + 12, 77);
  vma_put_be32 (log->blocks[9] + 36, 78);
  vma_put_be16 (log->blocks[9] + 42, 1 | 2 | 8);
  log_block (log, 1, 2, 5);
  log_block (log, 2, 5, 6);
  vma_put_be32 (log->blocks[2] + 12, 20);
  vma_put_be32 (log->blocks[2] + 16, 77);
  log_block (log, 3, 2, 6);
  log_block (log, 4, 1, 7);
  vma_put_be32 (log->blocks[4] + 12, 79);
  vma_put_be16 (log->blocks[4] + 18, 2 | 8);
  return log;
}

static gboolean
read_log (gpointer data, guint32 block, guint8 *buffer, GError **error G_GNUC_UNUSED)
{
  const Log *log = data;

  g_assert_cmpuint (block, <, 12);
  memcpy (buffer, log->blocks[block], BLOCK);
  return TRUE;
}

static gboolean
log_place (gpointer data G_GNUC_UNUSED, guint32 block, guint64 *place)
{
  *place = 1000 + block;
  return TRUE;
}

static void
test_journal (void)
{
  g_autofree Log *log = make_log ();
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaJournal) journal = vma_journal_load (read_log, log, BLOCK, 100, &error);
  gboolean escaped;
  guint64 place;

  g_assert_no_error (error);
  g_assert_null (vma_journal_problem (journal));
  g_assert_true (vma_journal_resolve (journal, log_place, NULL));
  g_assert_cmpuint (vma_journal_size (journal), ==, 1);
  g_assert_true (vma_journal_find (journal, 78, &place, &escaped));
  g_assert_cmpuint (place, ==, 1011);
  g_assert_true (escaped);
  g_assert_false (vma_journal_find (journal, 77, &place, &escaped)); /* revoked */
  g_assert_false (vma_journal_find (journal, 79, &place, &escaped)); /* not committed */
}

static void
test_bad_journal (void)
{
  static const struct {
    guint block, offset;
    guint32 value;
    gboolean refused;
  } bad[] = {
    { 0, 0, 1, TRUE },       { 0, 4, 9, TRUE },   { 0, 12, 4096, TRUE },    { 0, 16, 0, TRUE },
    { 0, 16, G_MAXUINT32, TRUE }, { 0, 20, 0, TRUE }, { 0, 20, 12, TRUE },  { 0, 28, 12, TRUE },
    { 0, 40, 0x20, TRUE },   /* fast commits */
    { 9, 12, 100, FALSE },   /* beyond the end of the file system */
    { 2, 12, 5000, FALSE },  /* a list longer than its block */
  };

  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autofree Log *log = make_log ();
    g_autoptr (GError) error = NULL;

    vma_put_be32 (log->blocks[bad[i].block] + bad[i].offset, bad[i].value);
    g_autoptr (VmaJournal) journal = vma_journal_load (read_log, log, BLOCK, 100, &error);
    g_assert_cmpint (journal == NULL, ==, bad[i].refused);
    g_assert_cmpint (error != NULL, ==, bad[i].refused);
    if (journal != NULL)
      g_assert_nonnull (vma_journal_problem (journal));
  }
}

/* --- windows ----------------------------------------------------------------------------------- */

/* Read, searched and asked in any place, a window is the stretch of the disk that it stands for. */
static void
test_window (void)
{
  g_autoptr (GByteArray) bytes = util_fixture ("tiny.vma");
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = util_open (util_file (bytes->data, bytes->len), FALSE, &error);
  g_assert_no_error (error);
  const VmaDevice *device = g_ptr_array_index (vma_archive_header (archive)->devices, 0);
  VmaImage *disk = vma_archive_image (archive, device->id);
  g_autoptr (GByteArray) whole = util_read_disk (archive, device->id, &error);
  g_autoptr (GRand) rand = g_rand_new_with_seed (6);

  for (guint round = 0; round < 300; round++) {
    guint64 start = (guint64) g_rand_int_range (rand, 0, (gint32) whole->len);
    guint64 length = (guint64) g_rand_int_range (rand, 0, (gint32) (whole->len - start) + 1);
    guint64 at = (guint64) g_rand_int_range (rand, 0, (gint32) length + 5000), size, found, of_disk;
    VmaImage *window = vma_image_new_window (disk, start, length);
    guint8 buffer[70000];

    g_assert_true (vma_image_size (window, &size, NULL, NULL) && size == length);
    g_assert_true (vma_image_is_ready (window, at, sizeof buffer));
    gssize n = vma_image_pread (window, buffer, sizeof buffer, at, NULL, &error);
    g_assert_no_error (error);
    gsize wanted = at < length ? (gsize) MIN (length - at, sizeof buffer) : 0;
    g_assert_cmpmem (buffer, (gsize) n, whole->data + start + MIN (at, length), wanted);
    if (at < length) {
      g_assert_true (vma_image_next_data (window, at, &found, NULL, NULL));
      g_assert_true (vma_image_next_data (disk, start + at, &of_disk, NULL, NULL));
      g_assert_cmpuint (found, ==, MIN (of_disk - start, length));
      g_assert_true (vma_image_next_hole (window, at, &found, NULL, NULL));
      g_assert_true (vma_image_next_hole (disk, start + at, &of_disk, NULL, NULL));
      g_assert_cmpuint (found, ==, MIN (of_disk - start, length));
    }
    vma_image_free_window (window);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/layout/records", test_records);
  g_test_add_func ("/guest/layout/elsewhere", test_elsewhere);
  g_test_add_func ("/guest/lvm/group", test_group);
  g_test_add_func ("/guest/lvm/pieces", test_pieces);
  g_test_add_func ("/guest/lvm/no-pieces", test_no_pieces);
  g_test_add_func ("/guest/lvm/cut-text", test_cut_text);
  g_test_add_func ("/guest/lvm/bad-text", test_bad_text);
  g_test_add_func ("/guest/lvm/area", test_area);
  g_test_add_func ("/guest/lvm/label", test_label);
  g_test_add_func ("/guest/journal", test_journal);
  g_test_add_func ("/guest/journal/bad", test_bad_journal);
  g_test_add_func ("/guest/window", test_window);
  return g_test_run ();
}
