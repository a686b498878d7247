/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random reads through the engine by eight threads at once, from the moment the scan starts, compared
 * with the true disks; and next data and next hole against a byte-by-byte search.
 */
#include "tests/unit/util.h"

#include <string.h>

#define READERS 8
#define READS   400

typedef struct {
  VmaImage *image;
  GBytes *wanted;
  guint32 seed;
} Reader;

static guint64
random_below (GRand *rand, guint64 limit)
{
  return (((guint64) g_rand_int (rand) << 32) | g_rand_int (rand)) % limit;
}

static gpointer
read_at_random (gpointer data)
{
  const Reader *reader = data;
  gsize disk_size;
  const guint8 *disk = g_bytes_get_data (reader->wanted, &disk_size);
  g_autofree guint8 *buffer = g_malloc (1 << 20);
  g_autoptr (GRand) rand = g_rand_new_with_seed (reader->seed);

  for (guint i = 0; i < READS; i++) {
    /* Small, large, around clusters' edges, and past the end. */
    guint64 at = random_below (rand, disk_size + 100);
    gsize size = 1 + (gsize) random_below (rand, i % 4 == 0 ? 1 << 20 : i % 4 == 1 ? 140000 : 5000);
    g_autoptr (GError) error = NULL;

    if (i % 3 == 0)
      at &= ~(guint64) 4095;
    gsize wanted = at >= disk_size ? 0 : MIN (size, disk_size - at);
    gssize n = vma_image_pread (reader->image, buffer, size, at, NULL, &error);
    g_assert_no_error (error);
    g_assert_cmpint (n, ==, (gssize) wanted);
    g_assert_true (memcmp (buffer, disk + at, wanted) == 0);
  }
  return NULL;
}

/* The first 4 KiB block at or after `at` that has (or has not) a byte in it. */
static guint64
search (const guint8 *disk, gsize size, guint64 at, gboolean data)
{
  while (at < size) {
    gsize end = MIN (size, (at & ~(guint64) 4095) + 4096), start = at & ~(guint64) 4095;
    gboolean has = FALSE;

    for (gsize i = start; i < end && !has; i++)
      has = disk[i] != 0;
    if (has == data)
      return at;
    at = end;
  }
  return size;
}

/* `exact`: the archive stores no zero blocks, so that holes are known from the data. */
static void
check_holes (VmaImage *image, GBytes *wanted, gboolean exact)
{
  gsize size;
  const guint8 *disk = g_bytes_get_data (wanted, &size);
  guint64 last_data = 0, last_hole = 0;

  for (guint64 at = 0; at < size; at += size > 1 << 25 ? 999983 : 3001) {
    g_autoptr (GError) error = NULL;
    guint64 data, hole;

    g_assert_true (vma_image_next_data (image, at, &data, NULL, &error));
    g_assert_true (vma_image_next_hole (image, at, &hole, NULL, &error));
    if (exact) {
      /* Reuse what is known: a search from each place would be quadratic. */
      if (last_data < at || at == 0)
        last_data = search (disk, size, at, TRUE);
      if (last_hole < at || at == 0)
        last_hole = search (disk, size, at, FALSE);
      g_assert_cmpuint (data, ==, MAX (last_data, at));
      g_assert_cmpuint (hole, ==, MAX (last_hole, at));
    } else {
      g_assert_cmpuint (data, >=, at);
      g_assert_cmpuint (data, <=, search (disk, size, at, TRUE));
    }
  }
}

/* The truth from the generator's own files: $ARCHIVES/LAYOUT/FILENAME. */
static GBytes *
true_disk (const char *layout, const char *filename)
{
  g_autofree char *path = g_build_filename (g_getenv ("ARCHIVES"), layout, filename, NULL);
  g_autoptr (GError) error = NULL;
  char *data;
  gsize size;

  g_file_get_contents (path, &data, &size, &error);
  g_assert_no_error (error);
  return g_bytes_new_take (data, size);
}

static void
test_layout (gconstpointer data)
{
  const char *layout = data;
  g_autofree char *path = g_strdup_printf ("%s/%s.vma", g_getenv ("ARCHIVES"), layout);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = vma_archive_open (path, NULL, &error);
  GThread *threads[READERS];
  Reader readers[READERS];

  g_assert_no_error (error);
  const VmaHeader *header = vma_archive_header (archive);
  g_autoptr (GPtrArray) wanted = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    g_ptr_array_add (wanted, true_disk (layout, vma_names_device (vma_archive_names (archive),
                                                                  device->id)));
  }
  for (guint i = 0; i < READERS; i++) {
    guint d = i * 31 % header->devices->len;
    const VmaDevice *device = g_ptr_array_index (header->devices, d);
    readers[i] = (Reader){ vma_archive_image (archive, device->id),
                           g_ptr_array_index (wanted, d), i };
    threads[i] = g_thread_new ("reader", read_at_random, &readers[i]);
  }
  vma_archive_start_index (archive);
  for (guint i = 0; i < READERS; i++)
    g_thread_join (threads[i]);
  g_assert_true (vma_archive_wait_index (archive, -1, NULL, &error));

  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    VmaImage *image = vma_archive_image (archive, device->id);
    guint64 size;

    g_assert_true (vma_image_size (image, &size, NULL, &error));
    g_assert_cmpuint (size, ==, g_bytes_get_size (g_ptr_array_index (wanted, i)));
    check_holes (image, g_ptr_array_index (wanted, i), strcmp (layout, "random-masks") != 0);
  }
}

/* A read that waits for a scan that never comes is ended by its cancellable. */
static gpointer
cancel_soon (gpointer cancellable)
{
  g_usleep (50000);
  g_cancellable_cancel (cancellable);
  return NULL;
}

static void
test_cancel (void)
{
  g_autofree char *path = g_strdup_printf ("%s/ordered.vma", g_getenv ("ARCHIVES"));
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = vma_archive_open (path, NULL, &error);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  guint8 buffer[512];

  g_assert_no_error (error);
  GThread *thread = g_thread_new ("cancel", cancel_soon, cancellable);
  gssize n = vma_image_pread (vma_archive_image (archive, 1), buffer, sizeof buffer, 0,
                              cancellable, &error);
  g_thread_join (thread);
  g_assert_cmpint (n, ==, -1);
  g_assert_nonnull (error);
}

int
main (int argc, char **argv)
{
  static const char *const layouts[]
      = { "ordered",       "out-of-order", "backwards",  "interleaved", "unaligned",
          "vmstate",       "vmstate-short", "odd-header", "random-masks", "devices-254",
          "one-per-extent", "sparse",       "zero" };

  g_test_init (&argc, &argv, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (layouts); i++) {
    g_autofree char *path = g_strconcat ("/reads/", layouts[i], NULL);
    g_test_add_data_func (path, layouts[i], test_layout);
  }
  g_test_add_func ("/reads/cancel", test_cancel);
  return g_test_run ();
}
