/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlays against a plain copy of the disk in memory: writes, zeros, reads and searches of every
 * size and alignment, from several threads, over whole and over damaged archives, and after the
 * file was opened again.
 */
#include "overlay/block-map.h"
#include "overlay/disk.h"
#include "overlay/format.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "vma/error.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the map ---------------------------------------------------------------------------------- */

static void
test_block_map (void)
{
  enum { BLOCKS = 3 * 32768 + 77 };
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaBlockMap) map = vma_block_map_new (BLOCKS, &error);
  g_autoptr (VmaBlockMap) copy = vma_block_map_new (BLOCKS, &error);
  g_autofree guint8 *truth = g_malloc0 (BLOCKS);
  guint8 bits[VMA_BLOCK_MAP_PAGE];
  guint64 count = 0, end;
  guint pages = 0;

  g_assert_no_error (error);
  for (guint i = 0; i < 400; i++) {
    guint64 start = (guint64)g_rand_int_range (rand, i % 8 == 0 ? 3 * 32768 : 0, BLOCKS);
    guint64 stop = start + (guint64)g_rand_int_range (rand, 1, i % 7 == 0 ? 900 : 20);
    stop = MIN (BLOCKS, stop);
    if (start / 32768 == 1)
      continue; /* a page that is never touched */
    stop = MIN (stop, (start / 32768 + 1) * 32768);
    vma_block_map_set (map, start, stop);
    memset (truth + start, 1, stop - start);
  }
  for (guint64 i = 0; i < BLOCKS; i++) {
    guint64 limit = i + 1 + (guint64)g_rand_int_range (rand, 0, 300), wanted = i + 1;
    limit = MIN (BLOCKS, limit);
    while (wanted < limit && truth[wanted] == truth[i])
      wanted++;
    g_assert_cmpint (vma_block_map_run (map, i, limit, &end), ==, truth[i]);
    g_assert_cmpuint (end, ==, wanted);
    count += truth[i];
  }
  g_assert_cmpuint (vma_block_map_count (map), ==, count);
  for (guint64 page = 0; vma_block_map_take_changed (map, &page, bits); page++, pages++) {
    g_assert_cmpuint (page, !=, 1);
    if (page == 3) /* bits behind the end are hostile, and left out */
      memset (bits + 77 / 8 + 1, 0xff, sizeof bits - 77 / 8 - 1);
    vma_block_map_load (copy, page, bits);
  }
  g_assert_cmpuint (pages, ==, 3);
  guint64 none = 0;
  g_assert_false (vma_block_map_take_changed (map, &none, bits));
  g_assert_cmpuint (vma_block_map_count (copy), ==, count);
  for (guint64 i = 0; i < BLOCKS; i++)
    g_assert_cmpint (vma_block_map_run (copy, i, i + 1, &end), ==, truth[i]);
}

/* --- a model ---------------------------------------------------------------------------------- */

/* A disk as it must be.  Blocks that cannot be read have a 1 in `lost`. */
typedef struct {
  guint8 id;
  guint64 size;
  guint8 *bytes;
  guint8 *lost; /* by block */
} Model;

typedef struct {
  VmaArchive *archive;
  VmaOverlay *overlay;
  GArray *models; /* Model */
  char *folder, *file;
} Fixture;

static void
open_overlay (Fixture *f)
{
  g_autoptr (GError) error = NULL;

  f->overlay = vma_overlay_open (f->file, f->archive, &error);
  g_assert_no_error (error);
  vma_overlay_keep (f->overlay);
}

static void
close_overlay (Fixture *f)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (vma_overlay_close (f->overlay, &error));
  g_clear_pointer (&f->overlay, vma_overlay_free);
}

static void
add_models (Fixture *f)
{
  const VmaHeader *header = vma_archive_header (f->archive);

  f->models = g_array_new (FALSE, FALSE, sizeof (Model));
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    VmaImage *image = vma_archive_image (f->archive, device->id);
    if (device->is_vmstate)
      continue;
    Model model = { .id = device->id, .size = device->size };
    model.bytes = g_malloc0 (device->size);
    model.lost = g_malloc0 (device->size / 4096 + 1);
    for (guint64 at = 0; at < device->size; at += 4096) {
      gsize n = (gsize)MIN (4096, device->size - at);
      if (vma_image_pread (image, model.bytes + at, n, at, NULL, NULL) != (gssize)n) {
        model.lost[at / 4096] = 1;
        memset (model.bytes + at, 0, n);
      }
    }
    g_array_append_val (f->models, model);
  }
}

static Fixture *
fixture_new (const guint8 *data, gsize size, gboolean named)
{
  Fixture *f = g_new0 (Fixture, 1);
  g_autoptr (GError) error = NULL;

  f->archive = util_open (util_file (data, size), TRUE, &error);
  g_assert_no_error (error);
  f->folder = g_dir_make_tmp ("vmafs-unit.XXXXXX", &error);
  g_assert_no_error (error);
  if (named)
    f->file = g_build_filename (f->folder, "overlay", NULL);
  add_models (f);
  open_overlay (f);
  return f;
}

static void
fixture_free (Fixture *f)
{
  close_overlay (f);
  for (guint i = 0; i < f->models->len; i++) {
    g_free (g_array_index (f->models, Model, i).bytes);
    g_free (g_array_index (f->models, Model, i).lost);
  }
  g_array_unref (f->models);
  vma_archive_free (f->archive);
  if (f->file != NULL)
    g_unlink (f->file);
  g_assert_cmpint (g_rmdir (f->folder), ==, 0); /* nothing else is left in it */
  g_free (f->folder);
  g_free (f->file);
  g_free (f);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Fixture, fixture_free)

static Fixture *
fixture_synth (guint32 seed, gboolean named)
{
  const SynthLayout layout = {
    .seed = seed,
    .n_devices = 1 + seed % 3,
    .max_clusters = 60,
    .vmstate = seed % 2 == 0,
    .shuffled = seed % 2 == 1,
    .interleaved = TRUE,
    .slots = 59,
    .density = 60,
  };
  g_autoptr (SynthArchive) synth = synth_archive_new (&layout);

  return fixture_new (synth->bytes->data, synth->bytes->len, named);
}

/* With extents lost in the middle. */
static Fixture *
fixture_damaged (guint32 seed, gboolean named)
{
  const SynthLayout layout
      = { .seed = seed, .n_devices = 2, .max_clusters = 90, .slots = 5, .density = 80 };
  g_autoptr (SynthArchive) synth = synth_archive_new (&layout);

  for (guint i = 2; i + 1 < synth->extents->len; i += 7)
    memset (synth->bytes->data + synth_archive_extent (synth, i), 0x55, 4);
  return fixture_new (synth->bytes->data, synth->bytes->len, named);
}

/* --- operations ------------------------------------------------------------------------------- */

static gboolean
any_lost (const Model *model, guint64 start, guint64 stop)
{
  for (guint64 block = start / 4096; block * 4096 < stop; block++)
    if (model->lost[block])
      return TRUE;
  return FALSE;
}

/* Whether a write would have to read a block that cannot be read: one that it covers in part. */
static gboolean
part_lost (const Model *model, guint64 start, guint64 stop)
{
  return start < stop
         && ((start % 4096 != 0 && model->lost[start / 4096])
             || (stop % 4096 != 0 && stop != model->size && model->lost[stop / 4096]));
}

static void
now_there (Model *model, guint64 start, guint64 stop)
{
  for (guint64 block = start / 4096; block * 4096 < stop; block++)
    model->lost[block] = 0;
}

static void
random_range (GRand *rand, const Model *model, guint64 *start, guint64 *stop)
{
  static const gint32 most[] = { 2, 700, 4097, 70000, 1500000 };
  static const guint units[] = { 1, 512, 4096, 65536 };
  guint unit = units[g_rand_int_range (rand, 0, 4)];
  guint64 size = (guint64)g_rand_int_range (rand, 1, most[g_rand_int_range (rand, 0, 5)]);

  *start = (guint64)(g_rand_double (rand) * (double)model->size) / unit * unit;
  *stop = MIN (model->size, *start + MAX (unit, size / unit * unit));
}

static void
check_read (Fixture *f, const Model *model, guint64 start, guint64 stop)
{
  VmaOverlayDisk *disk = vma_overlay_disk (f->overlay, model->id);
  gsize size = (gsize)(stop - start);
  g_autofree guint8 *got = g_malloc (size + 1);
  g_autoptr (GError) error = NULL;

  g_assert_true (vma_overlay_is_ready_to_read (disk, start, size));
  gssize n = vma_overlay_pread (disk, got, size, start, NULL, &error);
  if (any_lost (model, start, stop)) {
    g_assert_cmpint (n, ==, -1);
    g_assert_error (error, VMA_ERROR, VMA_ERROR_MISSING);
  } else {
    g_assert_no_error (error);
    g_assert_cmpint (n, ==, (gssize)size);
    g_assert_cmpmem (got, size, model->bytes + start, size);
  }
}

static void
check_all (Fixture *f)
{
  for (guint i = 0; i < f->models->len; i++) {
    const Model *model = &g_array_index (f->models, Model, i);
    for (guint64 at = 0; at < model->size; at += 4096)
      check_read (f, model, at, MIN (at + 4096, model->size));
  }
}

static void
do_write (Fixture *f, GRand *rand, Model *model, guint64 start, guint64 stop)
{
  VmaOverlayDisk *disk = vma_overlay_disk (f->overlay, model->id);
  gsize size = (gsize)(stop - start);
  g_autofree guint8 *data = g_malloc (size);
  g_autoptr (GError) error = NULL;

  for (gsize i = 0; i < size; i++)
    data[i] = (guint8)(g_rand_int (rand) >> 13);
  g_assert_true (vma_overlay_is_ready_to_write (disk, start, size));
  gssize n = vma_overlay_pwrite (disk, data, size, start, NULL, &error);
  if (part_lost (model, start, stop)) {
    g_assert_cmpint (n, ==, -1);
    g_assert_error (error, VMA_ERROR, VMA_ERROR_MISSING);
    return;
  }
  g_assert_no_error (error);
  g_assert_cmpint (n, ==, (gssize)size);
  memcpy (model->bytes + start, data, size);
  now_there (model, start, stop);
}

static void
do_zero (Fixture *f, Model *model, guint64 start, guint64 stop)
{
  VmaOverlayDisk *disk = vma_overlay_disk (f->overlay, model->id);
  g_autoptr (GError) error = NULL;

  gboolean ok = vma_overlay_zero (disk, start, stop - start, NULL, &error);
  if (!part_lost (model, start, stop)) {
    g_assert_no_error (error);
    g_assert_true (ok);
    memset (model->bytes + start, 0, stop - start);
    now_there (model, start, stop);
    return;
  }
  /* It may have come as far as the block that cannot be read: what it did is whole blocks. */
  g_assert_false (ok);
  g_assert_error (error, VMA_ERROR, VMA_ERROR_MISSING);
  guint64 first = (start + 4095) / 4096 * 4096, last = stop / 4096 * 4096;
  if (start % 4096 != 0 && model->lost[start / 4096])
    return;
  memset (model->bytes + start, 0, MIN (first, stop) - start);
  if (last > first) {
    memset (model->bytes + first, 0, last - first);
    now_there (model, first, last);
  }
}

static gboolean
is_zero (const Model *model, guint64 block)
{
  guint64 end = MIN (model->size, (block + 1) * 4096);

  for (guint64 at = block * 4096; at < end; at++)
    if (model->bytes[at] != 0)
      return FALSE;
  return !model->lost[block];
}

/* Holes are holes; and no data, nor anything that is lost, passes for one. */
static void
check_seek (Fixture *f, const Model *model)
{
  VmaOverlayDisk *disk = vma_overlay_disk (f->overlay, model->id);
  g_autoptr (GError) error = NULL;
  guint64 at = 0, data, hole;

  while (at < model->size) {
    g_assert_true (vma_overlay_next_data (disk, at, &data, NULL, &error));
    g_assert_cmpuint (data, >=, at);
    for (guint64 block = at / 4096; block * 4096 < data; block++)
      g_assert_true (is_zero (model, block));
    if (data >= model->size)
      break;
    g_assert_true (vma_overlay_next_hole (disk, data, &hole, NULL, &error));
    g_assert_cmpuint (hole, >, data);
    at = hole;
  }
}

static void
run_random (Fixture *f, guint32 seed, guint rounds)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < rounds; i++) {
    guint which = (guint)g_rand_int_range (rand, 0, (gint32)f->models->len);
    Model *model = &g_array_index (f->models, Model, which);
    guint64 start, stop;
    random_range (rand, model, &start, &stop);
    switch (g_rand_int_range (rand, 0, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
      do_write (f, rand, model, start, stop);
      break;
    case 4:
      do_zero (f, model, start, stop);
      break;
    case 5:
      g_assert_true (vma_overlay_sync (f->overlay, &error));
      break;
    case 6:
      check_seek (f, model);
      break;
    case 7:
      if (f->file != NULL && i % 4 == 0) {
        close_overlay (f);
        open_overlay (f);
      }
      break;
    default:
      check_read (f, model, start, stop);
    }
  }
  check_all (f);
  for (guint i = 0; i < f->models->len; i++)
    check_seek (f, &g_array_index (f->models, Model, i));
}

static void
test_random (void)
{
  guint n = MAX (2, (guint)(24 * synth_scale ()));

  for (guint32 seed = 1; seed <= n; seed++) {
    g_autoptr (Fixture) f = fixture_synth (seed, seed % 3 != 0);
    run_random (f, seed, 150);
  }
}

static void
test_damaged (void)
{
  guint n = MAX (1, (guint)(8 * synth_scale ()));

  for (guint32 seed = 1; seed <= n; seed++) {
    g_autoptr (Fixture) f = fixture_damaged (seed, seed % 2 == 0);
    guint lost = 0;
    for (guint i = 0; i < f->models->len; i++) {
      const Model *model = &g_array_index (f->models, Model, i);
      for (guint64 block = 0; block * 4096 < model->size; block++)
        lost += model->lost[block];
    }
    g_assert_cmpuint (lost, >, 0);
    run_random (f, seed, 150);
  }
}

/* The edges of a disk. */
static void
test_end (void)
{
  g_autoptr (Fixture) f = fixture_synth (5, FALSE);
  Model *model = &g_array_index (f->models, Model, 0);
  VmaOverlayDisk *disk = vma_overlay_disk (f->overlay, model->id);
  g_autoptr (GError) error = NULL;
  guint8 bytes[8192];

  memset (bytes, 0xa5, sizeof bytes);
  g_assert_cmpint (vma_overlay_pwrite (disk, bytes, 1, model->size, NULL, &error), ==, -1);
  g_assert_error (error, VMA_ERROR, VMA_ERROR_INVALID);
  g_assert_cmpint (vma_overlay_pwrite (disk, bytes, 8192, model->size - 100, NULL, NULL), ==, 100);
  memset (model->bytes + model->size - 100, 0xa5, 100);
  g_assert_cmpint (vma_overlay_pread (disk, bytes, 8192, model->size - 100, NULL, NULL), ==, 100);
  g_assert_cmpint (vma_overlay_pread (disk, bytes, 8192, model->size, NULL, NULL), ==, 0);
  g_assert_true (vma_overlay_zero (disk, model->size - 50, G_MAXUINT64 / 2, NULL, NULL));
  memset (model->bytes + model->size - 50, 0, 50);
  g_assert_true (vma_overlay_zero (disk, model->size + 50, 10, NULL, NULL));
  check_all (f);
}

static void
test_counts (void)
{
  g_autoptr (Fixture) f = fixture_synth (4, TRUE);
  Model *model = &g_array_index (f->models, Model, 0);
  VmaOverlayDisk *disk = vma_overlay_disk (f->overlay, model->id);
  g_autofree guint8 *data = g_malloc (model->size);
  guint64 blocks = (model->size + 4095) / 4096, stored = 0;
  VmaOverlayUsage usage;

  for (guint64 block = 0; block < blocks; block++)
    stored += !is_zero (model, block);
  g_assert_cmpuint (vma_overlay_stored_blocks (disk, stored), ==, stored);
  g_assert_cmpint (vma_overlay_mtime (disk), ==, 0);
  memset (data, 7, model->size);
  g_assert_cmpint (vma_overlay_pwrite (disk, data, model->size, 0, NULL, NULL), ==,
                   (gssize)model->size);
  memset (model->bytes, 7, model->size);
  g_assert_cmpuint (vma_overlay_stored_blocks (disk, stored), ==, blocks);
  g_assert_cmpint (vma_overlay_mtime (disk), >, 1500000000);
  vma_overlay_get_usage (f->overlay, &usage);
  g_assert_cmpuint (usage.blocks, ==, blocks);
  g_assert_cmpuint (usage.written, ==, model->size);
  g_assert_cmpuint (usage.allocated, >=, model->size);
  g_assert_cmpstr (usage.file, ==, f->file);
  /* No vmstate in an overlay. */
  const VmaHeader *header = vma_archive_header (f->archive);
  g_assert_true (header->has_vmstate);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    g_assert_true ((vma_overlay_disk (f->overlay, device->id) == NULL) == device->is_vmstate);
  }
}

/* --- files that do not fit -------------------------------------------------------------------- */

static void
expect_refusal (Fixture *f, VmaArchive *archive, const char *words)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaOverlay) overlay = vma_overlay_open (f->file, archive, &error);

  g_assert_null (overlay);
  g_assert_true (error->domain == VMA_ERROR);
  g_assert_true (g_str_has_prefix (error->message, f->file));
  g_assert_null (strchr (error->message, '\n'));
  if (strstr (error->message, words) == NULL)
    g_error ("\"%s\" does not say \"%s\"", error->message, words);
}

static void
poke (const char *file, goffset at, guint8 value)
{
  int fd = g_open (file, O_WRONLY, 0);

  g_assert_cmpint (pwrite (fd, &value, 1, at), ==, 1);
  g_close (fd, NULL);
}

static void
test_refusals (void)
{
  g_autoptr (Fixture) f = fixture_synth (7, TRUE);
  const SynthLayout layout
      = { .seed = 8, .n_devices = 1, .max_clusters = 9, .slots = 59, .density = 50 };
  g_autoptr (SynthArchive) synth = synth_archive_new (&layout);
  struct stat st;

  expect_refusal (f, f->archive, "in use by another mount");
  close_overlay (f);
  /* Made by the same generator, so with the same uuid. */
  g_autoptr (VmaArchive) other
      = util_open (util_file (synth->bytes->data, synth->bytes->len), FALSE, NULL);
  expect_refusal (f, other, "in another file");
  g_assert_cmpint (g_stat (f->file, &st), ==, 0);
  g_assert_cmpint (st.st_mode & 0777, ==, 0600);
  g_assert_cmpint (truncate (f->file, st.st_size - 4096), ==, 0);
  expect_refusal (f, f->archive, "cut off");
  g_assert_cmpint (truncate (f->file, st.st_size), ==, 0);
  poke (f->file, 200, 9);
  expect_refusal (f, f->archive, "damaged");
  poke (f->file, 8, 2);
  expect_refusal (f, f->archive, "version 2");
  poke (f->file, 0, 'X');
  expect_refusal (f, f->archive, "no overlay file");
  g_assert_cmpint (truncate (f->file, 0), ==, 0);
  expect_refusal (f, f->archive, "no overlay file");
  g_unlink (f->file);
  g_assert_cmpint (g_mkdir (f->file, 0700), ==, 0);
  expect_refusal (f, f->archive, "cannot open it");
  g_rmdir (f->file);
  g_assert_cmpint (mkfifo (f->file, 0600), ==, 0);
  expect_refusal (f, f->archive, "regular file");
  g_unlink (f->file);
  g_autofree char *file = g_steal_pointer (&f->file);
  f->file = g_build_filename (f->folder, "nowhere", "overlay", NULL);
  expect_refusal (f, f->archive, "cannot make it");
  g_free (f->file);
  f->file = g_steal_pointer (&file);
  open_overlay (f); /* made anew */
  check_all (f);
}

static void
test_other_uuid (void)
{
  guint8 a[VMA_OVERLAY_HEADER_SIZE], b[VMA_OVERLAY_HEADER_SIZE];
  g_autoptr (Fixture) f = fixture_synth (3, FALSE);
  VmaHeader header = *vma_archive_header (f->archive);
  VmaSourceIdentity identity = { .size = 1 };
  VmaOverlayLayout layout;
  g_autoptr (GError) error = NULL;

  vma_overlay_layout (&layout, &header);
  vma_overlay_header (&layout, &header, &identity, a);
  g_assert_true (vma_overlay_header_check (a, a, &error));
  header.uuid[3] ^= 1;
  vma_overlay_header (&layout, &header, &identity, b);
  g_assert_false (vma_overlay_header_check (a, b, &error));
  g_assert_nonnull (strstr (error->message, "another archive"));
}

/* --- threads ---------------------------------------------------------------------------------- */

#define WRITERS 6

typedef struct {
  Fixture *f;
  guint number;
  guint rounds;
} Writer;

/*
 * Each has sectors of its own, all of them in blocks that the others write to as well, so that
 * filling a block up from below must not lose anybody's.
 */
static void *
writer_thread (void *data)
{
  const Writer *writer = data;
  Model *model = &g_array_index (writer->f->models, Model, 0);
  VmaOverlayDisk *disk = vma_overlay_disk (writer->f->overlay, model->id);
  g_autoptr (GRand) rand = g_rand_new_with_seed (writer->number);
  guint8 sector[512], got[512];

  for (guint i = 0; i < writer->rounds; i++) {
    guint64 block = (guint64)g_rand_int_range (rand, 0, (gint32)(model->size / 4096));
    guint64 at = block * 4096 + writer->number * 512;
    g_assert_cmpint (vma_overlay_pread (disk, got, 512, at, NULL, NULL), ==, 512);
    g_assert_cmpmem (got, 512, model->bytes + at, 512);
    memset (sector, (int)(i + writer->number), 512);
    if (i % 16 == 5)
      memset (sector, 0, 512);
    if (i % 16 == 5)
      g_assert_true (vma_overlay_zero (disk, at, 512, NULL, NULL));
    else
      g_assert_cmpint (vma_overlay_pwrite (disk, sector, 512, at, NULL, NULL), ==, 512);
    memcpy (model->bytes + at, sector, 512);
    if (i % 32 == 31)
      g_assert_true (vma_overlay_sync (writer->f->overlay, NULL));
    if (i % 64 == 63) {
      VmaOverlayUsage usage;
      guint64 found;
      vma_overlay_get_usage (writer->f->overlay, &usage);
      g_assert_true (vma_overlay_next_hole (disk, at, &found, NULL, NULL));
      g_assert_cmpuint (vma_overlay_stored_blocks (disk, 10), >, 0);
    }
  }
  return NULL;
}

static void
test_threads (void)
{
  guint turns = MAX (2, (guint)(20 * synth_scale ()));

  for (guint turn = 1; turn <= turns; turn++) {
    g_autoptr (Fixture) f = fixture_synth (turn, TRUE);
    Writer writers[WRITERS];
    pthread_t threads[WRITERS];
    for (guint i = 0; i < WRITERS; i++) {
      writers[i] = (Writer){ .f = f, .number = i, .rounds = 150 };
      g_assert_cmpint (pthread_create (&threads[i], NULL, writer_thread, &writers[i]), ==, 0);
    }
    for (guint i = 0; i < WRITERS; i++)
      pthread_join (threads[i], NULL);
    check_all (f);
    close_overlay (f);
    open_overlay (f);
    check_all (f);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/overlay/block-map", test_block_map);
  g_test_add_func ("/overlay/random", test_random);
  g_test_add_func ("/overlay/damaged", test_damaged);
  g_test_add_func ("/overlay/end", test_end);
  g_test_add_func ("/overlay/counts", test_counts);
  g_test_add_func ("/overlay/refusals", test_refusals);
  g_test_add_func ("/overlay/other-uuid", test_other_uuid);
  g_test_add_func ("/overlay/threads", test_threads);
  return g_test_run ();
}
