/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images against the truth: random reads and searches by eight threads at once, on archives of
 * every shape, when the index is complete and while it is being built.
 */
#include "image/image.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "vma/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define READERS 8

/* --- what must come out ------------------------------------------------------------------------ */

static gboolean
is_stored (const SynthDisk *disk, guint64 offset)
{
  return (disk->masks[offset / 65536] >> (offset % 65536 / 4096) & 1) != 0;
}

/* The plainest search, block by block. */
static guint64
next_of (const SynthDisk *disk, guint64 offset, gboolean stored)
{
  while (offset < disk->size && is_stored (disk, offset) != stored)
    offset = (offset / 4096 + 1) * 4096;
  return MIN (offset, disk->size);
}

static void
check_read (const SynthArchive *archive, const SynthDisk *disk, VmaImage *image, guint64 offset,
            gsize size)
{
  /* Exactly so long, for the sanitizers. */
  g_autofree guint8 *got = g_malloc (MAX (size, 1)), *wanted = g_malloc (MAX (size, 1));
  g_autoptr (GError) error = NULL;
  gsize expected = offset >= disk->size ? 0 : (gsize) MIN (size, disk->size - offset);

  memset (got, 0xee, size);
  gssize n = vma_image_pread (image, got, size, offset, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpint (n, ==, (gssize) expected);
  if (expected > 0)
    synth_truth (archive, disk, offset, expected, wanted);
  g_assert_cmpmem (got, expected, wanted, expected);
}

static void
check_search (const SynthDisk *disk, VmaImage *image, guint64 offset)
{
  g_autoptr (GError) error = NULL;
  guint64 found;

  g_assert_true (vma_image_next_data (image, offset, &found, NULL, &error));
  g_assert_cmpuint (found, ==, next_of (disk, offset, TRUE));
  g_assert_true (vma_image_next_hole (image, offset, &found, NULL, &error));
  g_assert_cmpuint (found, ==, next_of (disk, offset, FALSE));
}

static void
check_span (const SynthArchive *archive, const SynthDisk *disk, VmaImage *image, guint64 offset)
{
  g_autoptr (GError) error = NULL;
  VmaSpan span;

  g_assert_true (vma_image_span (image, offset, &span, NULL, &error));
  g_assert_cmpuint (span.start, ==, offset);
  g_assert_cmpuint (span.end, >, offset);
  g_assert_cmpuint (span.end, <=, disk->size);
  g_assert_cmpint (span.kind, ==, is_stored (disk, offset) ? VMA_SPAN_DATA : VMA_SPAN_ZERO);
  for (guint64 at = offset; at < span.end; at = (at / 4096 + 1) * 4096)
    g_assert_true (is_stored (disk, at) == is_stored (disk, offset));
  if (span.kind == VMA_SPAN_DATA) {
    gsize n = (gsize) MIN (span.end - span.start, 100000);
    g_autofree guint8 *wanted = g_malloc (n);
    synth_truth (archive, disk, offset, n, wanted);
    g_assert_cmpuint (span.source + n, <=, archive->bytes->len);
    g_assert_cmpmem (archive->bytes->data + span.source, n, wanted, n);
  }
}

/* --- readers ----------------------------------------------------------------------------------- */

typedef struct {
  const SynthArchive *synth;
  VmaArchive *archive;
  guint seed, rounds;
  atomic_bool *stop; /* NULL: `rounds` turns */
} Reader;

static guint64
random_offset (GRand *rand, const SynthDisk *disk)
{
  guint64 offset = (guint64) (g_rand_double (rand) * (double) (disk->size + 5000));

  if (g_rand_boolean (rand))
    offset = offset / 4096 * 4096;
  return offset;
}

static gsize
random_size (GRand *rand)
{
  static const gint32 most[] = { 2, 700, 4097, 70000, 300000 };

  return (gsize) g_rand_int_range (rand, 0, most[g_rand_int_range (rand, 0, G_N_ELEMENTS (most))]);
}

static void *
reader_thread (void *data)
{
  const Reader *reader = data;
  g_autoptr (GRand) rand = g_rand_new_with_seed (reader->seed);

  for (guint i = 0; reader->stop != NULL ? !atomic_load (reader->stop) : i < reader->rounds; i++) {
    guint which = (guint) g_rand_int_range (rand, 0, (gint32) reader->synth->disks->len);
    const SynthDisk *disk = &g_array_index (reader->synth->disks, SynthDisk, which);
    VmaImage *image = vma_archive_image (reader->archive, (guint8) disk->id);
    guint64 offset = random_offset (rand, disk);

    switch (g_rand_int_range (rand, 0, 4)) {
    case 0:
      check_search (disk, image, offset);
      break;
    case 1:
      if (offset < disk->size)
        check_span (reader->synth, disk, image, offset);
      break;
    default:
      check_read (reader->synth, disk, image, offset, random_size (rand));
    }
  }
  return NULL;
}

static void
start_readers (const SynthArchive *synth, VmaArchive *archive, Reader *readers, pthread_t *threads,
               guint rounds)
{
  for (guint i = 0; i < READERS; i++) {
    readers[i] = (Reader){ .synth = synth, .archive = archive, .seed = i + 1, .rounds = rounds };
    g_assert_cmpint (pthread_create (&threads[i], NULL, reader_thread, &readers[i]), ==, 0);
  }
}

static void
join_readers (pthread_t *threads)
{
  for (guint i = 0; i < READERS; i++)
    pthread_join (threads[i], NULL);
}

static const struct {
  const char *name;
  SynthLayout layout;
} layouts[] = {
  { "in-order", { .seed = 1, .n_devices = 1, .max_clusters = 200, .slots = 58, .density = 70 } },
  { "out-of-order",
    { .seed = 2,
      .n_devices = 2,
      .max_clusters = 120,
      .slots = 59,
      .density = 60,
      .shuffled = TRUE } },
  { "interleaved",
    { .seed = 3,
      .n_devices = 5,
      .max_clusters = 50,
      .slots = 30,
      .density = 60,
      .interleaved = TRUE,
      .gaps = TRUE } },
  { "sparse", { .seed = 4, .n_devices = 2, .max_clusters = 3000, .slots = 58, .density = 2 } },
  { "all-zero", { .seed = 5, .n_devices = 2, .max_clusters = 300, .slots = 59, .density = 0 } },
  { "vmstate",
    { .seed = 6,
      .n_devices = 2,
      .max_clusters = 60,
      .slots = 7,
      .density = 60,
      .vmstate = TRUE,
      .interleaved = TRUE,
      .shuffled = TRUE } },
  { "254-devices",
    { .seed = 7,
      .n_devices = 254,
      .max_clusters = 3,
      .slots = 20,
      .density = 40,
      .gaps = TRUE,
      .interleaved = TRUE } },
  { "one-cluster-extents",
    { .seed = 8,
      .n_devices = 3,
      .max_clusters = 40,
      .slots = 1,
      .density = 50,
      .shuffled = TRUE,
      .interleaved = TRUE } },
};

static guint
scaled (guint rounds)
{
  return MAX (rounds / 20, (guint) (rounds * synth_scale ()));
}

static void
test_complete (gconstpointer data)
{
  g_autoptr (SynthArchive) synth = synth_archive_new (data);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive
      = util_open (util_file (synth->bytes->data, synth->bytes->len), FALSE, &error);
  Reader readers[READERS];
  pthread_t threads[READERS];

  g_assert_no_error (error);
  for (guint i = 0; i < synth->disks->len; i++) {
    const SynthDisk *disk = &g_array_index (synth->disks, SynthDisk, i);
    VmaImage *image = vma_archive_image (archive, (guint8) disk->id);
    guint64 size;

    g_assert_true (vma_image_size (image, &size, NULL, &error));
    g_assert_cmpuint (size, ==, disk->size);
    g_assert_true (vma_image_is_ready (image, 0, G_MAXSIZE));
    check_read (synth, disk, image, 0, (gsize) disk->size + 1);
    check_read (synth, disk, image, disk->size - 1, 2);
    check_read (synth, disk, image, disk->size, 1);
    check_read (synth, disk, image, G_MAXUINT64, 100);
    check_read (synth, disk, image, 0, 0);
    check_search (disk, image, 0);
    check_search (disk, image, disk->size - 1);
    check_search (disk, image, disk->size);
    check_search (disk, image, G_MAXUINT64);
  }
  start_readers (synth, archive, readers, threads, scaled (1500));
  join_readers (threads);
}

/* The test is the scanner, and takes its time: readers must wait, and not take gaps for holes. */
static void
test_while_scanning (gconstpointer data)
{
  g_autoptr (SynthArchive) synth = synth_archive_new (data);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive
      = vma_archive_open (util_file (synth->bytes->data, synth->bytes->len), NULL, &error);
  Reader readers[READERS];
  pthread_t threads[READERS];
  const VmaExtent *extent;
  guint64 offset;

  g_assert_no_error (error);
  start_readers (synth, archive, readers, threads, scaled (200));
  {
    guint pause = 150000 / synth->extents->len;
    g_autoptr (VmaScanner) scanner = vma_archive_scanner_new (archive);
    while (vma_scanner_next (scanner, &extent, &offset, NULL, &error) > 0)
      g_usleep (pause);
    g_assert_no_error (error);
    g_assert_true (vma_index_complete (vma_archive_index (archive), TRUE, &error));
  }
  join_readers (threads);
}

/* --- damage ------------------------------------------------------------------------------------ */

/* What is missing or bad is an error, in every part of it, and it is data to those who search. */
static void
test_lost (void)
{
  g_autoptr (SynthArchive) synth = synth_archive_new (&(SynthLayout){ .seed = 12,
                                                                      .n_devices = 2,
                                                                      .max_clusters = 40,
                                                                      .slots = 4,
                                                                      .density = 40,
                                                                      .interleaved = TRUE });
  g_autoptr (GError) error = NULL;
  guint errors = 0;

  for (guint e = 0; e + 1 < synth->extents->len; e += 2)
    synth->bytes->data[synth_archive_extent (synth, e) + 100] ^= 1;
  g_autoptr (VmaArchive) archive
      = util_open (util_file (synth->bytes->data, synth->bytes->len), TRUE, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < synth->disks->len; i++) {
    const SynthDisk *disk = &g_array_index (synth->disks, SynthDisk, i);
    VmaImage *image = vma_archive_image (archive, (guint8) disk->id);

    for (guint64 at = 0; at < disk->size; at += 65536) {
      VmaSpan span;
      g_assert_true (vma_image_span (image, at, &span, NULL, &error));
      if (span.kind != VMA_SPAN_MISSING) {
        check_read (synth, disk, image, at, 65536);
        continue;
      }
      for (guint64 byte = at; byte < MIN (at + 65536, disk->size); byte += 5000) {
        g_autoptr (GError) lost = NULL;
        guint64 found;
        guint8 buffer[10];

        g_assert_cmpint (vma_image_pread (image, buffer, sizeof buffer, byte, NULL, &lost), ==, -1);
        g_assert_error (lost, VMA_ERROR, VMA_ERROR_MISSING);
        g_assert_true (vma_image_next_data (image, byte, &found, NULL, &error));
        g_assert_cmpuint (found, ==, byte);
        g_assert_true (vma_image_next_hole (image, byte, &found, NULL, &error));
        g_assert_cmpuint (found, >=, MIN ((byte / 65536 + 1) * 65536, disk->size));
      }
      if (at > 0) { /* a read that only reaches into it */
        g_autoptr (GError) lost = NULL;
        guint8 buffer[10];
        g_assert_cmpint (vma_image_pread (image, buffer, sizeof buffer, at - 5, NULL, &lost), ==,
                         -1);
        g_assert_error (lost, VMA_ERROR, VMA_ERROR_MISSING);
      }
      errors++;
    }
  }
  g_assert_cmpuint (errors, >, 4);
}

/* --- waiting ----------------------------------------------------------------------------------- */

typedef struct {
  VmaImage *image;
  GCancellable *cancellable;
  int kind;
  atomic_bool started;
} Sleeper;

static void *
sleeper_thread (void *data)
{
  Sleeper *sleeper = data;
  g_autoptr (GError) error = NULL;
  guint8 buffer[10];
  guint64 found;
  VmaSpan span;
  gboolean ok;

  atomic_store (&sleeper->started, true);
  switch (sleeper->kind) {
  case 0:
    ok = vma_image_pread (sleeper->image, buffer, sizeof buffer, 0, sleeper->cancellable, &error)
         >= 0;
    break;
  case 1:
    ok = vma_image_span (sleeper->image, 0, &span, sleeper->cancellable, &error);
    break;
  case 2:
    ok = vma_image_next_data (sleeper->image, 0, &found, sleeper->cancellable, &error);
    break;
  default:
    ok = vma_image_next_hole (sleeper->image, 0, &found, sleeper->cancellable, &error);
  }
  g_assert_false (ok);
  g_assert_error (error, VMA_ERROR, VMA_ERROR_CANCELLED);
  return NULL;
}

/* Nobody scans: every kind of wait ends when it is told to, for disks and for vmstate. */
static void
test_cancel (void)
{
  g_autoptr (SynthArchive) synth = synth_archive_new (&layouts[5].layout);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive
      = vma_archive_open (util_file (synth->bytes->data, synth->bytes->len), NULL, &error);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Sleeper sleepers[12];
  pthread_t threads[12];

  for (guint i = 0; i < 12; i++) {
    const SynthDisk *disk = &g_array_index (synth->disks, SynthDisk, i % 3);
    sleepers[i] = (Sleeper){ vma_archive_image (archive, (guint8) disk->id), cancellable,
                             (int) i / 3, false };
    g_assert_false (vma_image_is_ready (sleepers[i].image, 0, 1));
    g_assert_true (vma_image_size_is_known (sleepers[i].image) == !disk->vmstate);
    pthread_create (&threads[i], NULL, sleeper_thread, &sleepers[i]);
  }
  for (guint i = 0; i < 12; i++)
    while (!atomic_load (&sleepers[i].started))
      g_usleep (1000);
  g_usleep (20000);
  gint64 start = g_get_monotonic_time ();
  g_cancellable_cancel (cancellable);
  vma_index_wake (vma_archive_index (archive));
  for (guint i = 0; i < 12; i++)
    pthread_join (threads[i], NULL);
  g_assert_cmpint (g_get_monotonic_time () - start, <, 2000000);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (layouts); i++) {
    g_autofree char *complete = g_strconcat ("/image/complete/", layouts[i].name, NULL);
    g_autofree char *scanning = g_strconcat ("/image/while-scanning/", layouts[i].name, NULL);
    g_test_add_data_func (complete, &layouts[i].layout, test_complete);
    g_test_add_data_func (scanning, &layouts[i].layout, test_while_scanning);
  }
  g_test_add_func ("/image/lost", test_lost);
  g_test_add_func ("/image/cancel", test_cancel);
  return g_test_run ();
}
