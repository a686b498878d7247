/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved indexes with every checksum right and something else wrong, and places where one cannot be read or
 * written.
 */
#include "index/saved-format.h"
#include "index/scan.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <lz4.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define CLUSTERS (G_GUINT64_CONSTANT (12) * VMA_PAGE_CLUSTERS)

typedef struct {
  char *dir, *path;
  VmaHeader *header;
  VmaIndexKey key;
  SavedMeta *meta;   /* a good one: pages 0 to 3 are all zero, 4 is stored, 5 to 11 are missing */
  GByteArray *pages; /* what stands in the file behind the header */
} Fixture;

static void
add_page (GArray *pages, guint32 page, guint32 size, guint64 offset, guint64 hash)
{
  SavedPage saved = { .page = page, .size = size, .offset = offset, .hash = hash };

  g_array_append_val (pages, saved);
}

static void
setup (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (SynthHeader) builder = synth_header_new ();
  g_autofree VmaEntry *entries = g_new0 (VmaEntry, VMA_PAGE_CLUSTERS);
  guint8 stored[SAVED_PAGE_MAX];

  f->dir = g_dir_make_tmp ("vmafs-test-XXXXXX", NULL);
  f->path = g_build_filename (f->dir, "x.vmaidx", NULL);
  synth_header_device (builder, 3, "drive-scsi0", CLUSTERS * VMA_CLUSTER_SIZE);
  g_autoptr (GByteArray) bytes = synth_header_bytes (builder);
  f->header = vma_header_parse (bytes->data, bytes->len, NULL);
  g_assert_nonnull (f->header);

  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
    entries[i] = vma_entry_make (f->header->size + (guint64) i * 65536, 0xffff);
  guint32 size = saved_page_pack (entries, stored);
  f->pages = g_byte_array_new ();
  g_byte_array_append (f->pages, stored, size);
  f->meta = saved_meta_new ();
  f->meta->devices[3].pages = g_array_new (FALSE, FALSE, sizeof (SavedPage));
  add_page (f->meta->devices[3].pages, 0, 0, 4, 0);
  add_page (f->meta->devices[3].pages, 4, size, SAVED_HEADER_SIZE, XXH3_64bits (stored, size));
}

static void
teardown (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_unlink (f->path);
  g_rmdir (f->path);
  g_assert_cmpint (g_rmdir (f->dir), ==, 0);
  saved_meta_free (f->meta);
  g_byte_array_unref (f->pages);
  vma_header_free (f->header);
  g_free (f->path);
  g_free (f->dir);
}

/* --- files of any content ---------------------------------------------------------------------- */

static GByteArray *
packed (const void *raw, gsize size)
{
  GByteArray *out = g_byte_array_new ();

  g_byte_array_set_size (out, (guint) LZ4_compressBound ((int) size));
  g_byte_array_set_size (out, (guint) LZ4_compress_default (raw, (char *) out->data, (int) size,
                                                            (int) out->len));
  return out;
}

/* A file with this table; `header` has what its header says, but of the hash. */
static void
write_stored (Fixture *f, const GByteArray *table, SavedHeader header)
{
  g_autoptr (GByteArray) file = g_byte_array_new ();

  header.key = f->key;
  header.meta_hash = XXH3_64bits (table->data, table->len);
  g_byte_array_set_size (file, SAVED_HEADER_SIZE);
  saved_header_write (&header, file->data);
  g_byte_array_append (file, f->pages->data, f->pages->len);
  g_byte_array_append (file, table->data, table->len);
  g_assert_true (g_file_set_contents (f->path, (const char *) file->data, file->len, NULL));
}

static SavedHeader
right_header (const Fixture *f, const GByteArray *table, gsize raw_size)
{
  return (SavedHeader){ .meta_offset = SAVED_HEADER_SIZE + f->pages->len,
                        .meta_stored = table->len,
                        .meta_size = raw_size };
}

static void
write_raw (Fixture *f, const void *raw, gsize size)
{
  g_autoptr (GByteArray) table = packed (raw, size);

  write_stored (f, table, right_header (f, table, size));
}

static void
write_meta (Fixture *f)
{
  g_autoptr (GByteArray) raw = saved_meta_write (f->meta);

  write_raw (f, raw->data, raw->len);
}

static VmaIndex *
load (Fixture *f, GError **error)
{
  gboolean partial;

  return vma_saved_index_load (f->path, &f->key, f->header, &partial, error);
}

static void
refused (Fixture *f)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (load (f, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
}

static SavedPage *
page_of (Fixture *f, guint i)
{
  return &g_array_index (f->meta->devices[3].pages, SavedPage, i);
}

/* What the tests below spoil is sound. */
static void
test_sound (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GError) error = NULL;

  write_meta (f);
  g_autoptr (VmaIndex) index = load (f, &error);
  g_assert_no_error (error);
  VmaMap *map = vma_index_map (index, 3);
  g_assert_cmphex (vma_map_get (map, 0), ==, VMA_ENTRY_ZERO);
  g_assert_cmphex (vma_map_get (map, 4 * VMA_PAGE_CLUSTERS), ==,
                   vma_entry_make (f->header->size, 0xffff));
  g_assert_cmphex (vma_map_get (map, CLUSTERS - 1), ==, VMA_ENTRY_MISSING);
  g_assert_true (vma_saved_index_verify (f->path, &error));
  g_assert_no_error (error);
}

/* --- the header's word on the table ------------------------------------------------------------ */

static void
test_table_place (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GByteArray) raw = saved_meta_write (f->meta);
  g_autoptr (GByteArray) table = packed (raw->data, raw->len);
  const SavedHeader right = right_header (f, table, raw->len);
  const guint64 wrong[] = { 0, 1, right.meta_offset + 1, G_MAXINT32, G_MAXUINT32, G_MAXINT64,
                            G_MAXUINT64 - 1, G_MAXUINT64 };

  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++) {
    SavedHeader header = right;
    header.meta_offset = wrong[i];
    write_stored (f, table, header);
    refused (f);
    header = right;
    header.meta_stored = wrong[i];
    write_stored (f, table, header);
    refused (f);
    header = right;
    header.meta_size = wrong[i];
    write_stored (f, table, header);
    refused (f);
  }
}

/* A file with holes may be of any size: what it says may be allocated must have a limit of its own. */
static void
test_table_of_a_terabyte (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GByteArray) raw = saved_meta_write (f->meta);
  g_autoptr (GByteArray) table = packed (raw->data, raw->len);
  const guint64 sizes[] = { (guint64) 1 << 40, (guint64) 3 << 30 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
    SavedHeader header = right_header (f, table, raw->len);
    header.meta_stored = sizes[i];
    write_stored (f, table, header);
    if (truncate (f->path, (off_t) sizes[i] * 2) != 0) {
      g_test_skip ("no file of that size can be made here");
      return;
    }
    refused (f);
  }
}

/* --- the table --------------------------------------------------------------------------------- */

static void
test_table_content (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_ptr_array_add (f->meta->damage, g_new0 (VmaDamage, 1));
  ((VmaDamage *) g_ptr_array_index (f->meta->damage, 0))->reason = g_strdup ("lost");
  g_autoptr (GByteArray) raw = saved_meta_write (f->meta);

  for (gsize n = 1; n < raw->len; n++) { /* too short */
    write_raw (f, raw->data, n);
    refused (f);
  }
  g_byte_array_append (raw, (const guint8 *) "", 1); /* too long */
  write_raw (f, raw->data, raw->len);
  refused (f);

  /* No LZ4 at all. */
  g_autoptr (GByteArray) junk = g_byte_array_new ();
  g_byte_array_set_size (junk, 40);
  memset (junk->data, 0xf0, junk->len);
  write_stored (f, junk, right_header (f, junk, 100));
  refused (f);
}

/* Its devices: one twice, one that cannot be, none. */
static void
test_table_devices (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GByteArray) raw = saved_meta_write (f->meta);
  const gsize fixed = 4 + 3 * 8 + 4, device = raw->len - fixed - 4;
  g_autoptr (GByteArray) twice = g_byte_array_new ();

  g_byte_array_append (twice, raw->data, raw->len);
  g_byte_array_append (twice, raw->data + fixed + 4, (guint) device);
  twice->data[fixed] = 2;
  write_raw (f, twice->data, twice->len);
  refused (f);

  raw->data[fixed + 4 + 3] = 1; /* device 3 + (1 << 24) */
  write_raw (f, raw->data, raw->len);
  refused (f);

  raw->data[fixed] = 0;
  write_raw (f, raw->data, fixed + 4);
  refused (f);
}

/* --- pages ------------------------------------------------------------------------------------- */

static void
test_pages_out_of_order (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  const SavedPage zeros = *page_of (f, 0);
  const struct {
    guint32 page;
    guint64 n;
  } wrong[] = { { 0, 0 }, { 0, 5 }, { 4, 1 }, { 5, 1 }, { 0, 13 }, { G_MAXUINT32, 1 },
                { 1, G_MAXUINT64 }, { 0, G_MAXUINT64 }, { 3, (guint64) 1 << 63 } };

  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++) {
    page_of (f, 0)->page = wrong[i].page;
    page_of (f, 0)->offset = wrong[i].n;
    write_meta (f);
    refused (f);
  }
  *page_of (f, 0) = zeros;
  page_of (f, 1)->page = (guint32) (CLUSTERS / VMA_PAGE_CLUSTERS);
  write_meta (f);
  refused (f);
}

/* A page that cannot be had is lost when it is touched; where all are looked at, the index is refused. */
static void
lost (Fixture *f)
{
  g_autoptr (GError) error = NULL, verify_error = NULL;

  f->meta->partial = FALSE;
  write_meta (f);
  g_autoptr (VmaIndex) index = load (f, &error);
  g_assert_no_error (error);
  VmaMap *map = vma_index_map (index, 3);
  g_assert_cmphex (vma_map_get (map, 4 * VMA_PAGE_CLUSTERS + 7), ==, VMA_ENTRY_LOST);
  g_assert_cmphex (vma_map_get (map, 0), ==, VMA_ENTRY_ZERO);
  g_assert_false (vma_saved_index_verify (f->path, &verify_error));
  g_assert_error (verify_error, VMA_ERROR, VMA_ERROR_DAMAGED);

  f->meta->partial = TRUE;
  write_meta (f);
  refused (f);
}

static void
test_pages_lost (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  SavedPage right = *page_of (f, 1);

  page_of (f, 1)->hash ^= 1;
  lost (f);
  *page_of (f, 1) = right;
  page_of (f, 1)->size = SAVED_PAGE_MAX + 1;
  lost (f);
  page_of (f, 1)->size = G_MAXUINT32;
  lost (f);
  *page_of (f, 1) = right;
  page_of (f, 1)->offset = (guint64) 1 << 40;
  lost (f);
  page_of (f, 1)->offset = G_MAXUINT64;
  lost (f);

  /* Half of a page, and no LZ4, with sums that are right. */
  *page_of (f, 1) = right;
  page_of (f, 1)->size = right.size / 2;
  page_of (f, 1)->hash = XXH3_64bits (f->pages->data, right.size / 2);
  lost (f);
  *page_of (f, 1) = right;
  memset (f->pages->data, 0xf0, f->pages->len);
  page_of (f, 1)->hash = XXH3_64bits (f->pages->data, right.size);
  lost (f);
}

/* Where an interrupted scan is said to have stopped is believed no more than any other number. */
static void
test_resume_beyond (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  const guint64 ends[] = { VMA_MAX_OFFSET - 1, VMA_MAX_OFFSET, G_MAXUINT64 - 511, G_MAXUINT64 };
  g_autofree guint8 *nothing = g_malloc0 (1 << 20);

  for (guint i = 0; i < G_N_ELEMENTS (ends); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (SynthSource) source = synth_source_new (nothing, 1 << 20);
    f->meta->partial = TRUE;
    f->meta->counts.end = ends[i];
    write_meta (f);
    g_autoptr (VmaIndex) index = load (f, &error);
    g_assert_no_error (error);
    g_autoptr (VmaScanner) scanner
        = vma_scanner_new (synth_source_base (source), f->header, index, i % 2 != 0);
    g_assert_false (vma_scanner_run (scanner, NULL, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED);
    g_assert_nonnull (strstr (error->message, "256 TiB"));
  }
}

/* --- places where nothing can be read or written ----------------------------------------------- */

static void
test_no_file (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GError) loading = NULL, verifying = NULL, telling = NULL, reading = NULL;
  VmaSavedIndexInfo info;

  g_assert_false (vma_saved_index_verify (f->path, &verifying));
  g_assert_error (verifying, VMA_ERROR, VMA_ERROR_IO);
  g_assert_false (vma_saved_index_info (f->path, &info, &telling));
  g_assert_error (telling, VMA_ERROR, VMA_ERROR_IO);

  /* Not through a symbolic link, which may be somebody else's. */
  g_assert_cmpint (symlink ("/dev/zero", f->path), ==, 0);
  g_assert_null (load (f, &loading));
  g_assert_error (loading, VMA_ERROR, VMA_ERROR_IO);
  g_assert_cmpint (unlink (f->path), ==, 0);

  g_assert_cmpint (mkdir (f->path, 0700), ==, 0);
  g_assert_null (load (f, &reading));
  g_assert_error (reading, VMA_ERROR, VMA_ERROR_DAMAGED);
}

static VmaIndex *
some_index (const Fixture *f)
{
  VmaIndex *index = vma_index_new (f->header, NULL);
  VmaMap *map = vma_index_map (index, 3);

  for (guint64 i = 0; i < CLUSTERS; i++) {
    VmaEntry entry = i < 8 * VMA_PAGE_CLUSTERS ? VMA_ENTRY_ZERO
                                               : vma_entry_make (12800 + (i * 7919 % 100000) * 512, 5);
    vma_map_set (map, i, &entry, 1);
  }
  g_assert_true (vma_index_complete (index, FALSE, NULL));
  return index;
}

/* There is room for so many bytes and no more: whatever is written last, nothing is left. */
static void
test_store_no_room (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (VmaIndex) index = some_index (f);
  g_autoptr (GError) error = NULL;
  struct rlimit before, limit;
  struct stat st;

  g_assert_true (
      vma_saved_index_store (f->path, &f->key, f->header, index, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (stat (f->path, &st), ==, 0);
  g_assert_cmpint (unlink (f->path), ==, 0);

  signal (SIGXFSZ, SIG_IGN);
  g_assert_cmpint (getrlimit (RLIMIT_FSIZE, &before), ==, 0);
  for (off_t room = 0; room < st.st_size; room += MAX (st.st_size / 40, 1)) {
    g_autoptr (GError) full = NULL;
    limit = before;
    limit.rlim_cur = (rlim_t) room;
    g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &limit), ==, 0);
    gboolean ok = vma_saved_index_store (f->path, &f->key, f->header, index, NULL, &full);
    g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &before), ==, 0);
    g_assert_false (ok);
    g_assert_error (full, VMA_ERROR, VMA_ERROR_IO);
    g_assert_nonnull (strstr (full->message, g_strerror (EFBIG)));
    g_assert_cmpuint (util_files_in (f->dir), ==, 0);
  }
}

/* Where it is to be is a folder. */
static void
test_store_in_the_way (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (VmaIndex) index = some_index (f);
  g_autoptr (GError) error = NULL;

  g_assert_cmpint (mkdir (f->path, 0700), ==, 0);
  g_assert_false (vma_saved_index_store (f->path, &f->key, f->header, index, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);
}

static void
test_prune_odd (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GError) error = NULL;
  guint removed = 99;

  /* A folder with the name of a saved index is none. */
  g_assert_cmpint (mkdir (f->path, 0700), ==, 0);
  g_assert_true (vma_saved_index_prune (f->dir, 0, &removed, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (removed, ==, 0);
  g_assert_true (g_file_test (f->path, G_FILE_TEST_IS_DIR));

  /* And a file is no folder. */
  g_assert_cmpint (rmdir (f->path), ==, 0);
  g_assert_true (g_file_set_contents (f->path, "x", 1, NULL));
  g_assert_false (vma_saved_index_prune (f->path, 0, &removed, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
}

/* $XDG_CACHE_HOME, and what stands in its place. */
static void
test_default_dir (void)
{
  g_autofree char *xdg = g_strdup (g_getenv ("XDG_CACHE_HOME"));

  g_setenv ("XDG_CACHE_HOME", "", TRUE);
  g_autofree char *empty = vma_saved_index_default_dir ();
  g_unsetenv ("XDG_CACHE_HOME");
  g_autofree char *unset = vma_saved_index_default_dir ();
  g_assert_cmpstr (empty, ==, unset);
  if (geteuid () == 0)
    g_assert_cmpstr (unset, ==, "/var/cache/vmafs");
  g_assert_true (g_str_has_suffix (unset, "/vmafs"));
  if (xdg != NULL)
    g_setenv ("XDG_CACHE_HOME", xdg, TRUE);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, function) g_test_add (name, Fixture, NULL, setup, function, teardown)
  ADD ("/saved-hostile/sound", test_sound);
  ADD ("/saved-hostile/table-place", test_table_place);
  ADD ("/saved-hostile/table-of-a-terabyte", test_table_of_a_terabyte);
  ADD ("/saved-hostile/table-content", test_table_content);
  ADD ("/saved-hostile/table-devices", test_table_devices);
  ADD ("/saved-hostile/pages-out-of-order", test_pages_out_of_order);
  ADD ("/saved-hostile/pages-lost", test_pages_lost);
  ADD ("/saved-hostile/resume-beyond", test_resume_beyond);
  ADD ("/saved-hostile/no-file", test_no_file);
  ADD ("/saved-hostile/store-no-room", test_store_no_room);
  ADD ("/saved-hostile/store-in-the-way", test_store_in_the_way);
  ADD ("/saved-hostile/prune-odd", test_prune_odd);
  g_test_add_func ("/saved-hostile/default-dir", test_default_dir);
#undef ADD
  return g_test_run ();
}
