/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of a point in time and its sinks, with a QEMU that is played: pieces in any order, by both
 * ways, several at once, overlapping, and garbage for all that was collected before.
 */
#include "tests/unit/util.h"

#include "backup/point.h"
#include "index/lock.h"
#include "vma/error.h"
#include "writer/writer.h"

#include <glib/gstdio.h>
#include <stdatomic.h>
#include <string.h>

#define N_DISKS 2
#define THREADS 4

static const guint64 sizes[N_DISKS] = { 5 * 1024 * 1024 + 3 * 512, 3 * 1024 * 1024 };
static const char *const names[N_DISKS] = { "drive-scsi0", "drive-scsi1" };
static guint8 *truth[N_DISKS];
static char *dir;

/* The disks: data, and whole or partly zero clusters. */
static void
make_truth (void)
{
  g_autoptr (GRand) random = g_rand_new_with_seed (7);

  for (guint i = 0; i < N_DISKS; i++) {
    truth[i] = g_malloc0 (sizes[i]);
    for (guint64 at = 0; at < sizes[i]; at += 512) {
      guint64 cluster = at / VMA_CLUSTER_SIZE;
      if (cluster % 3 == 1 || (cluster % 3 == 2 && at / VMA_BLOCK_SIZE % 2 == 0))
        continue;
      for (guint j = 0; j < 512; j += 4) {
        guint32 value = g_rand_int (random);
        memcpy (truth[i] + at + j, &value, 4);
      }
    }
  }
}

/* --- a sink in memory -------------------------------------------------------------------------- */

typedef struct {
  VmaTargetSink base;
  guint8 *data[N_DISKS];
  _Atomic guint64 written;
  guint delay_us;
  gint fail_after; /* writes; < 0: never */
  atomic_int n_writes;
  atomic_bool aborted, freed;
  pthread_mutex_t lock; /* of data and seen */
  guint8 *seen[N_DISKS];
} MemorySink;

static gboolean
memory_write (VmaTargetSink *base, const VmaTargetClusters *clusters, GError **error)
{
  MemorySink *sink = (MemorySink *) base;

  if (sink->delay_us > 0)
    g_usleep (sink->delay_us);
  if (atomic_load (&sink->aborted)
      || (sink->fail_after >= 0 && atomic_fetch_add (&sink->n_writes, 1) >= sink->fail_after)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "the medium is full");
    return FALSE;
  }
  VMA_LOCK (&sink->lock);
  for (guint64 i = 0; i < clusters->n; i++) {
    guint64 at = (clusters->cluster + i) * VMA_CLUSTER_SIZE;
    guint64 n = MIN (VMA_CLUSTER_SIZE, sizes[clusters->disk] - at);
    g_assert_cmpuint (sink->seen[clusters->disk][clusters->cluster + i], ==, 0);
    sink->seen[clusters->disk][clusters->cluster + i] = 1;
    if (clusters->data != NULL) {
      g_assert_cmpuint (i * VMA_CLUSTER_SIZE + n, <=, clusters->size);
      memcpy (sink->data[clusters->disk] + at, clusters->data + i * VMA_CLUSTER_SIZE, n);
    }
    atomic_fetch_add (&sink->written, n);
  }
  return TRUE;
}

static gboolean
memory_read (VmaTargetSink *base, guint disk, guint64 cluster, void *buffer, GError **error)
{
  MemorySink *sink = (MemorySink *) base;
  guint64 at = cluster * VMA_CLUSTER_SIZE;

  (void) error;
  VMA_LOCK (&sink->lock);
  g_assert_cmpuint (sink->seen[disk][cluster], ==, 1);
  memcpy (buffer, sink->data[disk] + at, MIN (VMA_CLUSTER_SIZE, sizes[disk] - at));
  return TRUE;
}

static guint64
memory_written (VmaTargetSink *base)
{
  return atomic_load (&((MemorySink *) base)->written);
}

static guint64
memory_waiting (VmaTargetSink *base)
{
  (void) base;
  return 0;
}

static gboolean
memory_finish (VmaTargetSink *base, GCancellable *cancellable, GError **error)
{
  (void) base;
  (void) cancellable;
  (void) error;
  return TRUE;
}

static void
memory_abort (VmaTargetSink *base)
{
  atomic_store (&((MemorySink *) base)->aborted, TRUE);
}

/* The test looks into it afterwards. */
static gboolean
memory_free (VmaTargetSink *base)
{
  atomic_store (&((MemorySink *) base)->freed, TRUE);
  return TRUE;
}

static const VmaTargetSinkOps memory_ops
    = { memory_write,  memory_read,  memory_written, memory_waiting,
        memory_finish, memory_abort, memory_free };
static const VmaTargetSinkOps blind_ops
    = { memory_write, NULL, memory_written, memory_waiting, memory_finish, memory_abort,
        memory_free };

static MemorySink *
memory_new (void)
{
  MemorySink *sink = g_new0 (MemorySink, 1);

  sink->base.ops = &memory_ops;
  sink->fail_after = -1;
  pthread_mutex_init (&sink->lock, NULL);
  for (guint i = 0; i < N_DISKS; i++) {
    sink->data[i] = g_malloc0 (sizes[i]);
    sink->seen[i] = g_malloc0 (sizes[i] / VMA_CLUSTER_SIZE + 1);
  }
  return sink;
}

static void
memory_check (MemorySink *sink)
{
  for (guint i = 0; i < N_DISKS; i++)
    g_assert_cmpmem (sink->data[i], sizes[i], truth[i], sizes[i]);
}

static void
memory_end (MemorySink *sink)
{
  for (guint i = 0; i < N_DISKS; i++) {
    g_free (sink->data[i]);
    g_free (sink->seen[i]);
  }
  pthread_mutex_destroy (&sink->lock);
  g_free (sink);
}

/* --- QEMU -------------------------------------------------------------------------------------- */

typedef struct {
  atomic_int n;
  char message[200];
} Failures;

static void
on_failed (gpointer data, const GError *error)
{
  Failures *failures = data;

  atomic_fetch_add (&failures->n, 1);
  g_strlcpy (failures->message, error->message, sizeof failures->message);
}

static VmaPoint *
new_point (VmaTargetSink *sink, Failures *failures)
{
  g_autoptr (GError) error = NULL;
  VmaPointOptions options = { sizes, names, N_DISKS, sink, on_failed, failures };
  VmaPoint *point = vma_point_new (&options, &error);

  g_assert_no_error (error);
  return point;
}

static gboolean
is_zero (const guint8 *data, gsize size)
{
  return size == 0 || (data[0] == 0 && memcmp (data, data + 1, size - 1) == 0);
}

/* A piece of the truth, by one of both ways, as data or (where it is) as zeros. */
static void
deliver (VmaPoint *point, GRand *random, guint disk, guint64 offset, guint64 size)
{
  gboolean zero = g_rand_boolean (random) && is_zero (truth[disk] + offset, size);

  vma_point_write (point, disk, g_rand_boolean (random), offset,
                   zero ? NULL : truth[disk] + offset, size, NULL, NULL);
}

typedef struct {
  VmaPoint *point;
  guint seed;
  guint rounds;
} Player;

static void
read_one (VmaPoint *point, guint disk, guint64 cluster)
{
  guint8 *buffer = g_malloc (VMA_CLUSTER_SIZE);
  guint64 at = cluster * VMA_CLUSTER_SIZE, n = MIN (VMA_CLUSTER_SIZE, sizes[disk] - at);
  g_autoptr (GError) error = NULL;
  int found = vma_point_read (point, disk, cluster, buffer, &error);

  g_assert_no_error (error);
  if (found == 1)
    g_assert_cmpmem (buffer, n, truth[disk] + at, n);
  else {
    /* Its pieces over the truth are the truth. */
    memcpy (buffer, truth[disk] + at, n);
    vma_point_overlay (point, disk, cluster, buffer);
    g_assert_cmpmem (buffer, n, truth[disk] + at, n);
  }
  g_free (buffer);
}

static void *
play (void *data)
{
  const Player *player = data;
  g_autoptr (GRand) random = g_rand_new_with_seed (player->seed);
  g_autofree guint8 *garbage = g_malloc (400 * 1024);

  memset (garbage, 0xee, 400 * 1024);
  for (guint i = 0; i < player->rounds; i++) {
    guint disk = (guint) g_rand_int_range (random, 0, N_DISKS);
    guint64 sectors = sizes[disk] / 512;
    guint64 first = (guint64) g_rand_int_range (random, 0, (gint32) sectors);
    guint64 n = (guint64) g_rand_int_range (random, 1, g_rand_boolean (random) ? 10 : 700);
    n = MIN (n, sectors - first);

    if (vma_point_covers (player->point, disk, first * 512, n * 512))
      vma_point_write (player->point, disk, g_rand_boolean (random), first * 512,
                       g_rand_boolean (random) ? garbage : NULL, n * 512, NULL, NULL);
    else
      deliver (player->point, random, disk, first * 512, n * 512);
    read_one (player->point, disk, first * 512 / VMA_CLUSTER_SIZE);
  }
  return NULL;
}

static atomic_bool reading;

/* Reads what was collected a moment ago, which may be on its way from one place to another. */
static void *
read_along (void *data)
{
  VmaPoint *point = data;
  g_autoptr (GRand) random = g_rand_new_with_seed (5);

  while (atomic_load (&reading)) {
    guint disk = (guint) g_rand_int_range (random, 0, N_DISKS);
    read_one (point, disk,
              (guint64) g_rand_int_range (random, 0, (gint32) (sizes[disk] / VMA_CLUSTER_SIZE)));
  }
  return NULL;
}

/* Many threads at once, and the background copy of all. */
static void
play_all (VmaPoint *point)
{
  pthread_t threads[THREADS], readers[2];
  Player players[THREADS];
  g_autoptr (GRand) random = g_rand_new_with_seed (99);

  atomic_store (&reading, TRUE);
  for (guint i = 0; i < G_N_ELEMENTS (readers); i++)
    g_assert_cmpint (pthread_create (&readers[i], NULL, read_along, point), ==, 0);

  for (guint i = 0; i < THREADS; i++) {
    players[i] = (Player){ point, i + 1, 150 };
    g_assert_cmpint (pthread_create (&threads[i], NULL, play, &players[i]), ==, 0);
  }
  for (guint disk = 0; disk < N_DISKS; disk++)
    for (guint64 at = 0; at < sizes[disk]; at += 100 * 1024) {
      g_usleep (100);
      deliver (point, random, disk, at, MIN (100 * 1024, sizes[disk] - at));
    }
  for (guint i = 0; i < THREADS; i++)
    pthread_join (threads[i], NULL);
  atomic_store (&reading, FALSE);
  for (guint i = 0; i < G_N_ELEMENTS (readers); i++)
    pthread_join (readers[i], NULL);
  for (guint disk = 0; disk < N_DISKS; disk++) {
    guint64 collected, zero;
    g_assert_cmpuint (vma_point_missing (point, disk), ==, 0);
    vma_point_get_progress (point, disk, &collected, &zero);
    g_assert_cmpuint (collected, ==, sizes[disk]);
    g_assert_cmpuint (zero, >, 0);
    for (guint64 cluster = 0; cluster * VMA_CLUSTER_SIZE < sizes[disk]; cluster++)
      read_one (point, disk, cluster);
  }
}

/* --- tests ------------------------------------------------------------------------------------- */

static void
test_memory (void)
{
  MemorySink *sink = memory_new ();
  Failures failures = { 0 };
  g_autoptr (VmaPoint) point = new_point (&sink->base, &failures);

  play_all (point);
  vma_point_seal (point);
  g_assert_false (vma_point_has_failed (point, NULL));
  g_assert_cmpint (atomic_load (&failures.n), ==, 0);
  memory_check (sink);
  g_clear_pointer (&point, vma_point_free);
  memory_end (sink);
}

/* Pieces of a cluster: the first of each place wins, by whichever way; and nothing is whole too early. */
static void
test_pieces (void)
{
  MemorySink *sink = memory_new ();
  Failures failures = { 0 };
  g_autoptr (VmaPoint) point = new_point (&sink->base, &failures);
  guint8 *mixed = g_memdup2 (truth[0], VMA_CLUSTER_SIZE);

  vma_point_write (point, 0, TRUE, 1024, truth[0] + 1024, 4096, NULL, NULL);
  for (guint i = 0; i < 40; i++)
    vma_point_write (point, 0, FALSE, 1024, mixed + 1024, 4096, NULL, NULL); /* adds nothing */
  memset (mixed + 1024, 0xee, 4096);
  vma_point_write (point, 0, FALSE, 512, mixed + 512, 8192, NULL, NULL);
  g_assert_cmpint (vma_point_read (point, 0, 0, mixed, NULL), ==, 0);
  read_one (point, 0, 0);
  vma_point_write (point, 0, TRUE, 8192, truth[0] + 8192, 7, NULL, NULL); /* the kernel may cut anywhere */
  vma_point_write (point, 0, TRUE, 8199, truth[0] + 8199, VMA_CLUSTER_SIZE - 8199, NULL, NULL);
  g_assert_cmpint (vma_point_read (point, 0, 0, mixed, NULL), ==, 0);
  vma_point_write (point, 0, FALSE, 0, truth[0], 512, NULL, NULL);
  g_assert_cmpint (vma_point_read (point, 0, 0, mixed, NULL), ==, 1);
  g_assert_cmpmem (mixed, VMA_CLUSTER_SIZE, truth[0], VMA_CLUSTER_SIZE);
  g_free (mixed);
  g_clear_pointer (&point, vma_point_free);
  memory_end (sink);
}

typedef struct {
  VmaPoint *point;
  MemorySink *sink;
  guint n;
} Taken;

/* The guest writes again as soon as it is answered: that must not count any more, stored or not. */
static void
on_taken (gpointer data)
{
  Taken *taken = data;
  g_autofree guint8 *later = g_malloc0 (2 * VMA_CLUSTER_SIZE);

  taken->n++;
  g_assert_cmpuint (atomic_load (&taken->sink->written), ==, 0);
  g_assert_false (vma_point_covers (taken->point, 0, 512, VMA_CLUSTER_SIZE));
  memset (later, 0xee, 2 * VMA_CLUSTER_SIZE);
  vma_point_write (taken->point, 0, FALSE, 0, later, 2 * VMA_CLUSTER_SIZE, NULL, NULL);
}

/* Who writes is told when all is taken, pieces too, and before anything is stored. */
static void
test_taken (void)
{
  MemorySink *sink = memory_new ();
  Failures failures = { 0 };
  g_autoptr (VmaPoint) point = new_point (&sink->base, &failures);
  Taken taken = { point, sink, 0 };

  vma_point_write (point, 0, TRUE, 0, truth[0], 512, NULL, NULL);
  vma_point_write (point, 0, TRUE, 512, truth[0] + 512, 2 * VMA_CLUSTER_SIZE - 512, on_taken,
                   &taken);
  g_assert_cmpuint (taken.n, ==, 1);
  read_one (point, 0, 0);
  read_one (point, 0, 1);
  g_assert_cmpint (atomic_load (&failures.n), ==, 0);
  g_clear_pointer (&point, vma_point_free);
  memory_end (sink);
}

/* Into a real archive, with or without a scratch file before it. */
static void
archive_case (gboolean scratch, VmaCompression compression)
{
  g_autofree char *path = g_build_filename (dir, "point.vma", NULL);
  g_autoptr (GError) error = NULL;
  VmaWriterOptions options = { .ctime = -1,
                               .compression = compression,
                               .readable = compression == VMA_COMPRESS_NONE };
  VmaWriter *writer = vma_writer_open (path, &options, &error);
  guint8 streams[N_DISKS];
  Failures failures = { 0 };

  g_assert_no_error (error);
  for (guint i = 0; i < N_DISKS; i++)
    streams[i] = vma_writer_register_stream (writer, names[i], sizes[i], &error);
  VmaTargetSink *sink = vma_writer_sink_new (writer, streams, N_DISKS, options.readable);
  if (scratch) {
    VmaScratchOptions wanted = { .path = dir,
                                 .size = 8 * VMA_CLUSTER_SIZE,
                                 .sizes = sizes,
                                 .n_disks = N_DISKS,
                                 .failed = on_failed,
                                 .data = &failures };
    if (!options.readable) {
      wanted.keep = TRUE;
      wanted.size = 0;
    }
    sink = vma_scratch_sink_new (&wanted, sink, &error);
    g_assert_no_error (error);
  }
  VmaPoint *point = new_point (sink, &failures);
  play_all (point);
  vma_point_seal (point);
  sink->ops->finish (sink, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (sink->ops->waiting (sink), ==, 0);
  vma_writer_complete (writer, &error);
  g_assert_no_error (error);
  /* What was complete can still be read. */
  read_one (point, 0, 0);
  vma_point_free (point);
  g_assert_true (sink->ops->free (sink));
  vma_writer_free (writer);
  g_assert_cmpint (atomic_load (&failures.n), ==, 0);

  VmaArchive *archive = util_open (path, FALSE, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < N_DISKS; i++) {
    g_autoptr (GByteArray) disk = util_read_disk (archive, streams[i], &error);
    g_assert_no_error (error);
    g_assert_cmpmem (disk->data, disk->len, truth[i], sizes[i]);
  }
  vma_archive_free (archive);
  g_unlink (path);
}

static void
test_archive (void)
{
  archive_case (FALSE, VMA_COMPRESS_NONE);
}

static void
test_archive_scratch (void)
{
  archive_case (TRUE, VMA_COMPRESS_NONE);
}

static void
test_archive_scratch_compressed (void)
{
  archive_case (TRUE, VMA_COMPRESS_ZSTD);
}

/* A slow sink below a scratch file: all come through, whether they wait or not. */
static void
test_scratch_slow (void)
{
  MemorySink *below = memory_new ();
  Failures failures = { 0 };
  g_autoptr (GError) error = NULL;
  VmaScratchOptions options = { .path = dir,
                                .size = 4 * VMA_CLUSTER_SIZE,
                                .sizes = sizes,
                                .n_disks = N_DISKS,
                                .failed = on_failed,
                                .data = &failures };

  below->delay_us = 300;
  VmaTargetSink *sink = vma_scratch_sink_new (&options, &below->base, &error);
  g_assert_no_error (error);
  VmaPoint *point = new_point (sink, &failures);
  play_all (point);
  vma_point_seal (point);
  sink->ops->finish (sink, NULL, &error);
  g_assert_no_error (error);
  memory_check (below);
  vma_point_free (point);
  g_assert_true (sink->ops->free (sink));
  g_assert_true (atomic_load (&below->freed));
  memory_end (below);
  g_assert_cmpint (atomic_load (&failures.n), ==, 0);
}

/* Only what a guest waits for goes into the scratch file, and what is full is full. */
static void
test_scratch_full (void)
{
  MemorySink *below = memory_new ();
  Failures failures = { 0 };
  g_autoptr (GError) error = NULL;
  VmaScratchOptions options = { .path = dir,
                                .size = 2 * VMA_CLUSTER_SIZE,
                                .sizes = sizes,
                                .n_disks = N_DISKS,
                                .fail_full = TRUE,
                                .keep = TRUE,
                                .failed = on_failed,
                                .data = &failures };

  below->base.ops = &blind_ops;
  VmaTargetSink *sink = vma_scratch_sink_new (&options, &below->base, &error);
  VmaPoint *point = new_point (sink, &failures);
  vma_point_write (point, 0, TRUE, 0, truth[0], VMA_CLUSTER_SIZE, NULL, NULL);
  vma_point_write (point, 0, TRUE, 2 * VMA_CLUSTER_SIZE, truth[0] + 2 * VMA_CLUSTER_SIZE,
                   VMA_CLUSTER_SIZE, NULL, NULL);
  g_assert_false (vma_point_has_failed (point, NULL));
  vma_point_write (point, 0, TRUE, 3 * VMA_CLUSTER_SIZE, truth[0] + 3 * VMA_CLUSTER_SIZE,
                   VMA_CLUSTER_SIZE, NULL, NULL);
  g_assert_cmpint (atomic_load (&failures.n), ==, 1);
  g_assert_nonnull (strstr (failures.message, "scratch file is full"));
  /* What was collected is there, what comes now is dropped. */
  read_one (point, 0, 0);
  read_one (point, 0, 2);
  vma_point_write (point, 0, TRUE, 5 * VMA_CLUSTER_SIZE, NULL, VMA_CLUSTER_SIZE, NULL, NULL);
  g_assert_false (vma_point_covers (point, 0, 5 * VMA_CLUSTER_SIZE, 1));
  vma_point_free (point);
  g_assert_true (sink->ops->free (sink));
  memory_end (below);
}

/* Without a sink below: the view alone. */
static void
test_scratch_only (void)
{
  Failures failures = { 0 };
  g_autoptr (GError) error = NULL;
  VmaScratchOptions options
      = { .path = dir, .sizes = sizes, .n_disks = N_DISKS, .failed = on_failed, .data = &failures };
  VmaTargetSink *sink = vma_scratch_sink_new (&options, NULL, &error);
  VmaPoint *point = new_point (sink, &failures);

  play_all (point);
  vma_point_free (point);
  g_assert_true (sink->ops->free (sink));
  g_assert_cmpint (atomic_load (&failures.n), ==, 0);
}

/* A sink below that fails behind the back of those who write. */
static void
test_scratch_below_fails (void)
{
  MemorySink *below = memory_new ();
  Failures failures = { 0 };
  g_autoptr (GError) error = NULL;
  VmaScratchOptions options = { .path = dir,
                                .sizes = sizes,
                                .n_disks = N_DISKS,
                                .failed = on_failed,
                                .data = &failures };

  below->fail_after = 0;
  VmaTargetSink *sink = vma_scratch_sink_new (&options, &below->base, &error);
  VmaPoint *point = new_point (sink, &failures);
  vma_point_write (point, 0, TRUE, 0, truth[0], VMA_CLUSTER_SIZE, NULL, NULL);
  g_assert_false (sink->ops->finish (sink, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  for (guint i = 0; i < 500 && atomic_load (&failures.n) == 0; i++)
    g_usleep (10000);
  g_assert_cmpint (atomic_load (&failures.n), ==, 1);
  read_one (point, 0, 0);
  vma_point_free (point);
  g_assert_true (sink->ops->free (sink));
  memory_end (below);
}

/* A failure is told once, frees nobody's data, and drops the rest. */
static void
test_failure (void)
{
  MemorySink *sink = memory_new ();
  Failures failures = { 0 };
  g_autoptr (VmaPoint) point = new_point (&sink->base, &failures);
  g_autoptr (GError) error = NULL;
  guint8 *buffer = g_malloc (VMA_CLUSTER_SIZE);

  sink->fail_after = 2;
  vma_point_write (point, 0, FALSE, 0, truth[0], VMA_CLUSTER_SIZE, NULL, NULL);
  vma_point_write (point, 0, FALSE, 3 * VMA_CLUSTER_SIZE, truth[0] + 3 * VMA_CLUSTER_SIZE,
                   VMA_CLUSTER_SIZE, NULL, NULL);
  for (guint i = 0; i < 3; i++)
    vma_point_write (point, 1, TRUE, i * VMA_CLUSTER_SIZE, truth[1] + i * VMA_CLUSTER_SIZE,
                     VMA_CLUSTER_SIZE, NULL, NULL);
  g_assert_cmpint (atomic_load (&failures.n), ==, 1);
  g_assert_true (vma_point_has_failed (point, &error));
  g_assert_cmpstr (error->message, ==, "the medium is full");
  read_one (point, 0, 3);
  g_assert_cmpint (vma_point_read (point, 1, 0, buffer, NULL), ==, -1);
  g_assert_cmpint (vma_point_read (point, 1, 9, buffer, NULL), ==, -1);
  vma_point_seal (point);
  g_clear_error (&error);
  g_assert_false (vma_point_fill (point, 1, 0, 1, truth[1], VMA_CLUSTER_SIZE, &error));
  g_assert_nonnull (error);
  g_free (buffer);
  g_clear_pointer (&point, vma_point_free);
  memory_end (sink);
}

/* Requests that no QEMU makes. */
static void
test_bad_requests (void)
{
  static const struct {
    guint64 offset, size;
    const char *message;
  } bad[] = {
    { 0, 3 * 1024 * 1024 + 1, "beyond the end" },
    { 3 * 1024 * 1024, 512, "beyond the end" },
    { G_MAXUINT64 - 511, 512, "beyond the end" },
    { G_MAXUINT64 - 511, 1024, "beyond the end" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    MemorySink *sink = memory_new ();
    Failures failures = { 0 };
    g_autoptr (VmaPoint) point = new_point (&sink->base, &failures);

    vma_point_write (point, 1, TRUE, bad[i].offset, NULL, bad[i].size, NULL, NULL);
    g_assert_cmpint (atomic_load (&failures.n), ==, 1);
    g_assert_nonnull (strstr (failures.message, bad[i].message));
    g_assert_nonnull (strstr (failures.message, "'drive-scsi1'"));
    g_clear_pointer (&point, vma_point_free);
    memory_end (sink);
  }
}

/* After seal() only what fill() brings counts. */
static void
test_fill (void)
{
  MemorySink *sink = memory_new ();
  Failures failures = { 0 };
  g_autoptr (VmaPoint) point = new_point (&sink->base, &failures);
  g_autoptr (GRand) random = g_rand_new_with_seed (3);
  g_autoptr (GError) error = NULL;

  deliver (point, random, 0, 7 * VMA_CLUSTER_SIZE, 3 * VMA_CLUSTER_SIZE);
  deliver (point, random, 0, 20 * VMA_CLUSTER_SIZE + 512, 1024); /* a piece, given up */
  vma_point_seal (point);
  deliver (point, random, 0, 0, VMA_CLUSTER_SIZE);
  g_assert_false (vma_point_covers (point, 0, 0, 1));
  for (guint disk = 0; disk < N_DISKS; disk++) {
    guint64 cluster = 0, n;
    while (vma_point_next_open (point, disk, &cluster, &n)) {
      n = MIN (n, 5);
      guint64 at = cluster * VMA_CLUSTER_SIZE;
      g_assert_true (vma_point_fill (point, disk, cluster, n, truth[disk] + at,
                                     MIN (n * VMA_CLUSTER_SIZE, sizes[disk] - at), &error));
      cluster += n;
    }
    g_assert_cmpuint (vma_point_missing (point, disk), ==, 0);
  }
  memory_check (sink);
  g_clear_pointer (&point, vma_point_free);
  memory_end (sink);
}

static void
test_seek (void)
{
  MemorySink *sink = memory_new ();
  Failures failures = { 0 };
  g_autoptr (VmaPoint) point = new_point (&sink->base, &failures);
  const guint64 c = VMA_CLUSTER_SIZE;

  /* Nothing is known: all may be data. */
  g_assert_cmpuint (vma_point_seek (point, 1, 100, TRUE), ==, 100);
  g_assert_cmpuint (vma_point_seek (point, 1, 100, FALSE), ==, sizes[1]);
  vma_point_write (point, 1, FALSE, c, NULL, 2 * c, NULL, NULL);
  g_assert_cmpuint (vma_point_seek (point, 1, 100, TRUE), ==, 100);
  g_assert_cmpuint (vma_point_seek (point, 1, 100, FALSE), ==, c);
  g_assert_cmpuint (vma_point_seek (point, 1, c + 5, TRUE), ==, 3 * c);
  g_assert_cmpuint (vma_point_seek (point, 1, c + 5, FALSE), ==, c + 5);
  vma_point_write (point, 1, FALSE, 0, NULL, sizes[1], NULL, NULL);
  g_assert_cmpuint (vma_point_seek (point, 1, 0, TRUE), ==, sizes[1]);
  g_assert_cmpuint (vma_point_seek (point, 1, sizes[1] + 7, FALSE), ==, sizes[1]);
  g_clear_pointer (&point, vma_point_free);
  memory_end (sink);
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;

  g_test_init (&argc, &argv, NULL);
  dir = g_dir_make_tmp ("test-point-XXXXXX", &error);
  g_assert_no_error (error);
  make_truth ();
  g_test_add_func ("/point/memory", test_memory);
  g_test_add_func ("/point/pieces", test_pieces);
  g_test_add_func ("/point/taken", test_taken);
  g_test_add_func ("/point/archive", test_archive);
  g_test_add_func ("/point/archive-scratch", test_archive_scratch);
  g_test_add_func ("/point/archive-scratch-compressed", test_archive_scratch_compressed);
  g_test_add_func ("/point/scratch-slow", test_scratch_slow);
  g_test_add_func ("/point/scratch-full", test_scratch_full);
  g_test_add_func ("/point/scratch-only", test_scratch_only);
  g_test_add_func ("/point/scratch-below-fails", test_scratch_below_fails);
  g_test_add_func ("/point/failure", test_failure);
  g_test_add_func ("/point/bad-requests", test_bad_requests);
  g_test_add_func ("/point/fill", test_fill);
  g_test_add_func ("/point/seek", test_seek);
  int status = g_test_run ();
  for (guint i = 0; i < N_DISKS; i++)
    g_free (truth[i]);
  g_rmdir (dir);
  g_free (dir);
  return status;
}
