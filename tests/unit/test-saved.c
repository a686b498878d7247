/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The saved index: what comes back is what was stored, or nothing. */
#include "image/archive.h"
#include "image/image.h"
#include "index/saved.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

/* --- a place and an index to store there ------------------------------------------------------- */

typedef struct {
  char *dir, *path;
  SynthArchive *archive;
  VmaHeader *header;
  VmaIndex *index;
  VmaIndexKey key;
} Fixture;

static void
remove_tree (const char *dir)
{
  g_autoptr (GDir) entries = g_dir_open (dir, 0, NULL);
  const char *name;

  while (entries != NULL && (name = g_dir_read_name (entries)) != NULL) {
    g_autofree char *path = g_build_filename (dir, name, NULL);
    if (g_remove (path) != 0)
      remove_tree (path);
  }
  g_rmdir (dir);
}

static VmaIndex *
scan (const Fixture *f, gboolean salvage, const guint8 *bytes, gsize size)
{
  VmaIndex *index = vma_index_new (f->header, NULL);
  g_autoptr (SynthSource) source = synth_source_new (bytes, size);
  g_autoptr (VmaScanner) scanner
      = vma_scanner_new (synth_source_base (source), f->header, index, salvage);
  g_autoptr (GError) error = NULL;

  vma_scanner_run (scanner, NULL, &error);
  g_assert_no_error (error);
  return index;
}

static void
setup_layout (Fixture *f, const SynthLayout *layout)
{
  g_autoptr (GError) error = NULL;

  f->dir = g_dir_make_tmp ("vmafs-test-XXXXXX", &error);
  g_assert_no_error (error);
  f->archive = synth_archive_new (layout);
  const GByteArray *b = f->archive->bytes;
  f->header = vma_header_parse (b->data, b->len, &error);
  g_assert_no_error (error);
  f->index = scan (f, FALSE, b->data, b->len);
  memset (&f->key, 0x11, sizeof f->key);
  f->key.source.size = b->len;
  f->key.source.mtime_ns = -5;
  memcpy (f->key.uuid, synth_uuid, 16);
  f->path = vma_saved_index_path (f->dir, &f->key);
}

static void
setup (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  setup_layout (f, &(SynthLayout){ .seed = 5,
                                   .n_devices = 4,
                                   .max_clusters = 30,
                                   .vmstate = TRUE,
                                   .interleaved = TRUE,
                                   .shuffled = TRUE,
                                   .slots = 7,
                                   .density = 60 });
}

static void
teardown (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  vma_index_free (f->index);
  vma_header_free (f->header);
  synth_archive_free (f->archive);
  remove_tree (f->dir);
  g_free (f->dir);
  g_free (f->path);
}

static void
store (Fixture *f)
{
  g_autoptr (GError) error = NULL;

  vma_saved_index_store (f->path, &f->key, f->header, f->index, NULL, &error);
  g_assert_no_error (error);
}

static VmaIndex *
load (const Fixture *f, GError **error)
{
  gboolean partial;

  return vma_saved_index_load (f->path, &f->key, f->header, &partial, error);
}

/* Entry by entry; `lost` is allowed to be set where a page may have been damaged. */
static guint
check_equal (const Fixture *f, VmaIndex *loaded, gboolean may_lose)
{
  guint lost = 0;

  for (guint i = 0; i < f->header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (f->header->devices, i);
    const SynthDisk *disk = &g_array_index (f->archive->disks, SynthDisk, i);
    VmaDeviceCounts a, b;

    vma_index_get_device_counts (f->index, device->id, &a);
    vma_index_get_device_counts (loaded, device->id, &b);
    g_assert_cmpmem (&a, sizeof a, &b, sizeof b);
    for (guint64 cluster = 0; cluster < disk->clusters; cluster++) {
      VmaEntry entry = vma_map_get (vma_index_map (loaded, device->id), cluster);
      if (entry == VMA_ENTRY_LOST && may_lose)
        lost++;
      else
        g_assert_cmphex (entry, ==, vma_map_get (vma_index_map (f->index, device->id), cluster));
    }
  }
  VmaIndexCounts a, b;
  vma_index_get_counts (f->index, &a);
  vma_index_get_counts (loaded, &b);
  g_assert_cmpmem (&a, sizeof a, &b, sizeof b);
  return lost;
}

/* --- storing and loading ----------------------------------------------------------------------- */

/* A scan that is interrupted after every n-th extent, saved, loaded and gone on with, ends the same. */
static void
test_resume (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  const GByteArray *b = f->archive->bytes;

  for (guint stop_after = 1; stop_after < 8; stop_after++) {
    g_autoptr (VmaIndex) index = vma_index_new (f->header, NULL);
    gboolean more = TRUE;

    for (guint rounds = 0; more; rounds++) {
      g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
      g_autoptr (VmaScanner) scanner
          = vma_scanner_new (synth_source_base (source), f->header, index, FALSE);
      g_autoptr (GError) error = NULL;
      const VmaExtent *extent;
      guint64 offset;

      g_assert_cmpuint (rounds, <, 10000);
      for (guint i = 0; more && i <= stop_after; i++) {
        int result = vma_scanner_next (scanner, &extent, &offset, NULL, &error);
        g_assert_no_error (error);
        more = result > 0;
      }
      if (!more)
        break;
      vma_saved_index_store (f->path, &f->key, f->header, index, NULL, &error);
      g_assert_no_error (error);
      gboolean partial = FALSE;
      VmaIndex *loaded = vma_saved_index_load (f->path, &f->key, f->header, &partial, &error);
      g_assert_no_error (error);
      g_assert_true (partial);
      vma_index_free (index);
      index = loaded;
    }
    g_assert_true (vma_index_complete (index, TRUE, NULL));
    g_assert_cmpuint (check_equal (f, index, FALSE), ==, 0);
  }
}

static void
test_round_trip (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GError) error = NULL;
  struct stat st;

  g_assert_null (load (f, &error));
  g_assert_no_error (error); /* there is none: no error */
  store (f);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);
  g_assert_cmpint (stat (f->path, &st), ==, 0);
  g_assert_cmphex (st.st_mode & 0777, ==, 0600);

  g_autoptr (VmaIndex) loaded = load (f, &error);
  g_assert_no_error (error);
  g_assert_cmpint (vma_index_state (loaded), ==, VMA_INDEX_BUILDING);
  g_assert_true (vma_index_complete (loaded, TRUE, &error));
  g_assert_cmpuint (check_equal (f, loaded, FALSE), ==, 0);

  g_assert_true (vma_saved_index_verify (f->path, &error));
  g_assert_no_error (error);
  VmaSavedIndexInfo info;
  g_assert_true (vma_saved_index_info (f->path, &info, &error));
  g_assert_cmpuint (info.key.source.size, ==, f->key.source.size);
  g_assert_cmpint (info.key.source.mtime_ns, ==, -5);
  g_assert_cmpmem (info.key.uuid, 16, synth_uuid, 16);
  g_assert_cmpuint (info.file_size, ==, (guint64) st.st_size);

  /* Once more over it. */
  store (f);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);
}

/* Pages of every kind, and more than one of them: an index that never was an archive's. */
static void
test_pages (void)
{
  const guint64 clusters = 40 * 4096 + 17;
  g_autoptr (SynthHeader) builder = synth_header_new ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (2);
  Fixture f = { .dir = g_dir_make_tmp ("vmafs-test-XXXXXX", NULL) };
  g_autoptr (GError) error = NULL;

  synth_header_device (builder, 3, "drive-scsi0", clusters * 65536);
  g_autoptr (GByteArray) bytes = synth_header_bytes (builder);
  f.header = vma_header_parse (bytes->data, bytes->len, &error);
  g_assert_no_error (error);
  f.index = vma_index_new (f.header, NULL);
  f.path = vma_saved_index_path (f.dir, &f.key);
  VmaMap *map = vma_index_map (f.index, 3);
  for (guint64 page = 0; page * 4096 < clusters; page++)
    for (guint64 i = 0; i < 4096 && page * 4096 + i < clusters; i++) {
      guint64 cluster = page * 4096 + i;
      VmaEntry entry = VMA_ENTRY_ZERO;
      if (page % 5 == 0 || (page % 5 == 4 && i > 1000))
        continue; /* missing */
      if (page % 5 == 2)
        entry = vma_entry_make (12800 + cluster * 65536, 0xffff);
      if (page % 5 == 3)
        entry = vma_entry_make (12800 + (guint64) g_rand_int (rand) * 512, 0x8001);
      vma_map_set (map, cluster, &entry, 1);
      if (page % 5 == 4 && i % 7 == 0)
        vma_map_set_bad (map, cluster);
    }
  vma_index_add_damage (f.index, 5, 6, "ein Schaden \xc3\xa4");
  vma_index_add_damage (f.index, G_MAXUINT64 - 1, G_MAXUINT64, "");
  vma_index_complete (f.index, FALSE, NULL);
  store (&f);

  g_autoptr (VmaIndex) loaded = load (&f, &error);
  g_assert_no_error (error);
  vma_index_complete (loaded, FALSE, NULL);
  g_assert_cmpuint (vma_map_page_memory (vma_index_map (loaded, 3)), ==, 0); /* nothing read yet */
  for (guint64 cluster = clusters; cluster-- > 0;)
    g_assert_cmphex (vma_map_get (vma_index_map (loaded, 3), cluster), ==,
                     vma_map_get (map, cluster));
  g_autoptr (GPtrArray) damage = vma_index_dup_damage (loaded);
  g_assert_cmpuint (damage->len, ==, 2);
  const VmaDamage *first = g_ptr_array_index (damage, 0), *second = g_ptr_array_index (damage, 1);
  g_assert_cmpstr (first->reason, ==, "ein Schaden \xc3\xa4");
  g_assert_cmpuint (second->start, ==, G_MAXUINT64 - 1);
  g_assert_cmpstr (second->reason, ==, "");

  vma_index_free (f.index);
  vma_header_free (f.header);
  remove_tree (f.dir);
  g_free (f.dir);
  g_free (f.path);
}

static void
test_stale (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  const VmaIndexKey right = f->key;
  const gsize places[] = {
    G_STRUCT_OFFSET (VmaIndexKey, source.size), G_STRUCT_OFFSET (VmaIndexKey, source.mtime_ns),
    G_STRUCT_OFFSET (VmaIndexKey, source.head), G_STRUCT_OFFSET (VmaIndexKey, source.head) + 15,
    G_STRUCT_OFFSET (VmaIndexKey, source.tail), G_STRUCT_OFFSET (VmaIndexKey, source.tail) + 15,
    G_STRUCT_OFFSET (VmaIndexKey, uuid),        G_STRUCT_OFFSET (VmaIndexKey, uuid) + 15,
  };

  store (f);
  for (guint i = 0; i < G_N_ELEMENTS (places); i++) {
    g_autoptr (GError) error = NULL;
    f->key = right;
    ((guint8 *) &f->key)[places[i]] ^= 0x40;
    g_assert_null (load (f, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_INVALID);
  }
  /* A change of mtime alone must find the old file, to replace it. */
  f->key = right;
  f->key.source.mtime_ns++;
  g_autofree char *same = vma_saved_index_path (f->dir, &f->key);
  g_assert_cmpstr (same, ==, f->path);
  f->key.source.size++;
  g_autofree char *other = vma_saved_index_path (f->dir, &f->key);
  g_assert_cmpstr (other, !=, f->path);
}

/* An index of other devices under the same key. */
static void
test_other_devices (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (SynthHeader) builder = synth_header_new ();
  g_autoptr (GError) error = NULL;

  store (f);
  synth_header_device (builder, 254, "x", 512);
  g_autoptr (GByteArray) bytes = synth_header_bytes (builder);
  g_autoptr (VmaHeader) header = vma_header_parse (bytes->data, bytes->len, NULL);
  gboolean partial;
  g_assert_null (vma_saved_index_load (f->path, &f->key, header, &partial, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
}

/* --- damage ------------------------------------------------------------------------------------ */

static void
write_file (const char *path, const char *bytes, gsize size)
{
  int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (write (fd, bytes, size), ==, (gssize) size);
  close (fd);
}

static void
test_flipped (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autofree char *bytes = NULL;
  guint rejected = 0, lost = 0;
  gsize size;

  store (f);
  g_assert_true (g_file_get_contents (f->path, &bytes, &size, NULL));
  for (gsize i = 0; i < size; i += synth_scale () < 1 ? 11 : 1) {
    g_autoptr (GError) error = NULL;
    bytes[i] = (char) (bytes[i] ^ (1 << (i % 8)));
    write_file (f->path, bytes, size);
    bytes[i] = (char) (bytes[i] ^ (1 << (i % 8)));

    g_autoptr (VmaIndex) loaded = load (f, &error);
    g_assert_true ((loaded == NULL) == (error != NULL));
    if (loaded == NULL)
      rejected++;
    else
      lost += check_equal (f, loaded, TRUE) > 0;
    g_assert_false (vma_saved_index_verify (f->path, NULL));
  }
  g_test_message ("%" G_GSIZE_FORMAT " bytes: %u flips refused, %u lost a page", size, rejected,
                  lost);
  if (synth_scale () == 1)
    g_assert_cmpuint (rejected + lost, ==, size);
}

static void
test_truncated (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autofree char *bytes = NULL;
  gsize size;

  store (f);
  g_assert_true (g_file_get_contents (f->path, &bytes, &size, NULL));
  for (gsize cut = 0; cut < size; cut += synth_scale () < 1 ? 37 : 3) {
    g_autoptr (GError) error = NULL;
    write_file (f->path, bytes, cut);
    g_assert_null (load (f, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
    g_assert_false (vma_saved_index_verify (f->path, NULL));
  }
}

/* --- storing where it cannot be done ----------------------------------------------------------- */

static void
test_store_fails (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autofree char *file = g_build_filename (f->dir, "file", NULL);
  g_autofree char *inside = g_build_filename (file, "x.vmaidx", NULL);
  g_autofree char *deeper = g_build_filename (f->dir, "a", "b", "x.vmaidx", NULL);
  g_autoptr (GError) error = NULL, cancelled = NULL;

  write_file (file, "", 0);
  g_assert_false (vma_saved_index_store (inside, &f->key, f->header, f->index, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);

  g_cancellable_cancel (cancellable);
  g_assert_false (
      vma_saved_index_store (f->path, &f->key, f->header, f->index, cancellable, &cancelled));
  g_assert_error (cancelled, VMA_ERROR, VMA_ERROR_CANCELLED);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);

  g_clear_error (&error);
  g_assert_true (vma_saved_index_store (deeper, &f->key, f->header, f->index, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (g_file_test (deeper, G_FILE_TEST_IS_REGULAR));
}

static void *
store_thread (void *data)
{
  for (guint i = 0; i < 20; i++)
    store (data);
  return NULL;
}

/* Writers do not disturb one another, nor who loads meanwhile. */
static void
test_store_race (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  pthread_t threads[3];

  store (f);
  for (guint i = 0; i < 3; i++)
    pthread_create (&threads[i], NULL, store_thread, f);
  for (guint i = 0; i < 20; i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (VmaIndex) loaded = load (f, &error);
    g_assert_no_error (error);
    check_equal (f, loaded, FALSE);
  }
  for (guint i = 0; i < 3; i++)
    pthread_join (threads[i], NULL);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);
}

typedef struct {
  Fixture *f;
  VmaIndex *loaded;
} LoadRace;

static void *
touch_thread (void *data)
{
  LoadRace *race = data;

  check_equal (race->f, race->loaded, FALSE);
  return NULL;
}

static void
test_load_race (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  store (f);
  for (guint round = 0; round < 20; round++) {
    g_autoptr (VmaIndex) loaded = load (f, NULL);
    LoadRace race = { f, loaded };
    pthread_t threads[4];

    for (guint i = 0; i < 4; i++)
      pthread_create (&threads[i], NULL, touch_thread, &race);
    for (guint i = 0; i < 4; i++)
      pthread_join (threads[i], NULL);
  }
}

/* --- pruning ----------------------------------------------------------------------------------- */

static void
make_cache_file (const char *dir, const char *name, gsize size, time_t used)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  g_autofree char *bytes = g_malloc0 (size);

  write_file (path, bytes, size);
  g_assert_cmpint (utime (path, &(struct utimbuf){ used, used }), ==, 0);
}

static gboolean
exists (const char *dir, const char *name)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  return g_file_test (path, G_FILE_TEST_EXISTS);
}

static void
test_prune (void)
{
  g_autofree char *dir = g_dir_make_tmp ("vmafs-test-XXXXXX", NULL);
  g_autofree char *nowhere = g_build_filename (dir, "nowhere", NULL);
  g_autoptr (GError) error = NULL;
  time_t now = time (NULL);
  guint removed = 99;
  guint64 bytes = 99;

  make_cache_file (dir, "old.vmaidx", 1000, now - 3000);
  make_cache_file (dir, "middle.vmaidx", 1000, now - 2000);
  make_cache_file (dir, "new.vmaidx", 1000, now - 1000);
  make_cache_file (dir, "x.vmaidx.Ab12cd", 10, now - 2 * 24 * 60 * 60);
  make_cache_file (dir, "y.vmaidx.Ab12cd", 10, now - 60);
  make_cache_file (dir, "stranger", 5000, now - 9 * 24 * 60 * 60);

  g_assert_true (vma_saved_index_prune (dir, 3000, &removed, &bytes, &error));
  g_assert_cmpuint (removed, ==, 0);
  g_assert_cmpuint (bytes, ==, 0);
  g_assert_false (exists (dir, "x.vmaidx.Ab12cd"));
  g_assert_true (exists (dir, "y.vmaidx.Ab12cd"));

  g_assert_true (vma_saved_index_prune (dir, 1999, &removed, &bytes, &error));
  g_assert_cmpuint (removed, ==, 2);
  g_assert_cmpuint (bytes, ==, 2000);
  g_assert_true (exists (dir, "new.vmaidx"));
  g_assert_false (exists (dir, "old.vmaidx"));

  g_assert_true (vma_saved_index_prune (dir, 0, &removed, &bytes, &error));
  g_assert_cmpuint (removed, ==, 1);
  g_assert_true (exists (dir, "stranger"));
  g_assert_true (vma_saved_index_prune (nowhere, 0, &removed, &bytes, &error));
  g_assert_cmpuint (removed, ==, 0);
  g_assert_no_error (error);
  remove_tree (dir);
}

/* --- in an archive ----------------------------------------------------------------------------- */

typedef struct {
  guint notes, errors;
  pthread_mutex_t lock;
} Reports;

static void
count_report (gpointer data, const GError *what)
{
  Reports *reports = data;

  pthread_mutex_lock (&reports->lock);
  if (g_error_matches (what, VMA_ERROR, VMA_ERROR_NOTE))
    reports->notes++;
  else
    reports->errors++;
  pthread_mutex_unlock (&reports->lock);
}

typedef struct {
  const Fixture *f;
  VmaArchive *archive;
} Readers;

static void *
read_all_disks (void *data)
{
  const Readers *readers = data;
  const SynthArchive *synth = readers->f->archive;

  for (guint i = 0; i < synth->disks->len; i++) {
    const SynthDisk *disk = &g_array_index (synth->disks, SynthDisk, i);
    VmaImage *image = vma_archive_image (readers->archive, (guint8) disk->id);
    g_autofree guint8 *got = g_malloc (disk->size + 1), *wanted = g_malloc (disk->size);
    g_autoptr (GError) error = NULL;
    gssize n = vma_image_pread (image, got, disk->size + 1, 0, NULL, &error);

    g_assert_no_error (error);
    synth_truth (synth, disk, 0, disk->size, wanted);
    g_assert_cmpmem (got, (gsize) n, wanted, disk->size);
  }
  return NULL;
}

static VmaArchive *
open_archive (Fixture *f, const char *path, Reports *reports)
{
  VmaArchiveOptions options
      = { .cache_dir = f->dir, .report = count_report, .report_data = reports };
  g_autoptr (GError) error = NULL;
  VmaArchive *archive = vma_archive_open (path, &options, &error);

  g_assert_no_error (error);
  vma_archive_start_index (archive);
  return archive;
}

static void
read_in_threads (Fixture *f, VmaArchive *archive)
{
  Readers readers = { f, archive };
  pthread_t threads[4];

  for (guint i = 0; i < 4; i++)
    pthread_create (&threads[i], NULL, read_all_disks, &readers);
  for (guint i = 0; i < 4; i++)
    pthread_join (threads[i], NULL);
}

static void
test_archive (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autofree char *path = g_build_filename (f->dir, "archive.vma", NULL);
  Reports reports = { .lock = PTHREAD_MUTEX_INITIALIZER };
  g_autoptr (GError) error = NULL;
  g_autofree char *saved = NULL;

  write_file (path, (const char *) f->archive->bytes->data, f->archive->bytes->len);
  {
    g_autoptr (VmaArchive) archive = open_archive (f, path, &reports);
    g_assert_false (vma_archive_index_was_loaded (archive));
    read_in_threads (f, archive);
    g_assert_true (vma_archive_wait_index (archive, -1, NULL, &error));
    saved = g_strdup (vma_archive_index_path (archive));
    for (guint i = 0; i < 500 && !g_file_test (saved, G_FILE_TEST_EXISTS); i++)
      g_usleep (10000); /* stored after the end of the scan */
  }
  {
    g_autoptr (VmaArchive) archive = open_archive (f, path, &reports);
    g_assert_true (vma_archive_index_was_loaded (archive));
    read_in_threads (f, archive);
  }
  g_assert_cmpuint (reports.notes + reports.errors, ==, 0);

  /* Its pages go bad after it was opened, and before anybody touched them. */
  for (guint round = 0; round < 5; round++) {
    g_autoptr (VmaArchive) archive = open_archive (f, path, &reports);
    g_assert_true (vma_archive_index_was_loaded (archive));
    int fd = open (saved, O_WRONLY | O_CLOEXEC);
    const char junk[40] = "junk";
    g_assert_cmpint (pwrite (fd, junk, sizeof junk, 112), ==, sizeof junk);
    close (fd);
    VmaIndex *first = vma_archive_index (archive);
    read_in_threads (f, archive);
    g_assert_true (vma_archive_index (archive) != first);
    g_assert_true (vma_archive_wait_index (archive, -1, NULL, &error));
    g_assert_cmpuint (reports.notes, ==, round + 1);
    g_assert_cmpuint (reports.errors, ==, 0);
    /* Stored anew, for the next round. */
    for (guint i = 0; i < 500 && !vma_saved_index_verify (saved, NULL); i++)
      g_usleep (10000);
  }

  /* Damaged before it is opened: scanned, with a note. */
  write_file (saved, "short", 5);
  g_autoptr (VmaArchive) archive = open_archive (f, path, &reports);
  g_assert_false (vma_archive_index_was_loaded (archive));
  g_assert_cmpuint (reports.notes, ==, 6);
  read_in_threads (f, archive);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, function) g_test_add (name, Fixture, NULL, setup, function, teardown)
  ADD ("/saved/round-trip", test_round_trip);
  ADD ("/saved/resume", test_resume);
  g_test_add_func ("/saved/pages", test_pages);
  ADD ("/saved/stale", test_stale);
  ADD ("/saved/other-devices", test_other_devices);
  ADD ("/saved/flipped", test_flipped);
  ADD ("/saved/truncated", test_truncated);
  ADD ("/saved/store-fails", test_store_fails);
  ADD ("/saved/store-race", test_store_race);
  ADD ("/saved/load-race", test_load_race);
  g_test_add_func ("/saved/prune", test_prune);
  ADD ("/saved/archive", test_archive);
#undef ADD
  return g_test_run ();
}
