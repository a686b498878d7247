/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writer: what comes out is read by our own reader, and, where compressed, taken apart by hand.
 */
#include "tests/unit/util.h"

#include "vma/bytes.h"
#include "vma/error.h"
#include "writer/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <lz4frame.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

static const guint8 uuid[VMA_UUID_SIZE] = "0123456789abcde";
static char *dir; /* private; emptied and removed at the end */

/* --- contents ---------------------------------------------------------------------------------- */

static guint32
mix (guint32 x)
{
  x = (x ^ x >> 16) * 0x7feb352d;
  x = (x ^ x >> 15) * 0x846ca68b;
  return x ^ x >> 16;
}

/* What stands in a cluster of a stream: zero clusters, zero blocks, and data, by turns. */
static void
fill (guint stream, guint64 cluster, guint8 *data)
{
  guint32 seed = mix (stream * 7919u + (guint32) cluster);

  memset (data, 0, VMA_CLUSTER_SIZE);
  if (seed % 5 == 0)
    return;
  for (guint block = 0; block < VMA_BLOCKS_PER_CLUSTER; block++) {
    if (seed % 5 == 1 && (mix (seed + block) & 1) != 0)
      continue;
    guint8 *at = data + block * VMA_BLOCK_SIZE;
    /* A whole block of data, or just its last byte. */
    if (seed % 7 == 0)
      at[VMA_BLOCK_SIZE - 1] = 1;
    else
      for (guint i = 0; i < VMA_BLOCK_SIZE; i += 4)
        vma_put_be32 (at + i, mix (seed + block * VMA_BLOCK_SIZE + i));
  }
}

static gsize
cluster_bytes (guint64 size, guint64 cluster)
{
  return (gsize) MIN (VMA_CLUSTER_SIZE, size - cluster * VMA_CLUSTER_SIZE);
}

/* The archive's disk holds what fill() says. */
static void
check_disk (VmaArchive *archive, guint8 id, guint64 size)
{
  g_autofree guint8 *wanted = g_malloc (VMA_CLUSTER_SIZE);
  g_autoptr (GError) error = NULL;
  g_autoptr (GByteArray) disk = util_read_disk (archive, id, &error);

  g_assert_no_error (error);
  g_assert_cmpuint (disk->len, ==, size);
  for (guint64 cluster = 0; cluster * VMA_CLUSTER_SIZE < size; cluster++) {
    fill (id, cluster, wanted);
    g_assert_cmpmem (wanted, cluster_bytes (size, cluster),
                     disk->data + cluster * VMA_CLUSTER_SIZE, cluster_bytes (size, cluster));
  }
}

static char *
path_of (const char *name)
{
  return g_build_filename (dir, name, NULL);
}

static guint
files_in_dir (void)
{
  g_autoptr (GDir) opened = g_dir_open (dir, 0, NULL);
  guint n = 0;

  while (g_dir_read_name (opened) != NULL)
    n++;
  return n;
}

/* --- small archives ---------------------------------------------------------------------------- */

static const VmaWriterOptions fixed = { .uuid = uuid, .ctime = 12345 };

static VmaWriter *
open_writer (const char *target, const VmaWriterOptions *options)
{
  g_autoptr (GError) error = NULL;
  VmaWriter *writer = vma_writer_open (target, options, &error);

  g_assert_no_error (error);
  return writer;
}

static guint8
add_stream (VmaWriter *writer, const char *name, guint64 size)
{
  g_autoptr (GError) error = NULL;
  guint8 id = vma_writer_register_stream (writer, name, size, &error);

  g_assert_no_error (error);
  return id;
}

static void
dump_one (VmaWriter *writer, guint8 id, guint64 cluster)
{
  g_autofree guint8 *data = g_malloc (VMA_CLUSTER_SIZE);
  g_autoptr (GError) error = NULL;

  fill (id, cluster, data);
  vma_writer_dump (writer, id, cluster, 1, data, &error);
  g_assert_no_error (error);
}

static void
close_and_complete (VmaWriter *writer, guint8 last_id)
{
  g_autoptr (GError) error = NULL;

  for (guint id = 1; id <= last_id; id++) {
    vma_writer_close_stream (writer, (guint8) id, &error);
    g_assert_no_error (error);
  }
  vma_writer_complete (writer, &error);
  g_assert_no_error (error);
}

/* Two disks and a config, in a fixed order. */
#define SMALL_A (300 * (guint64) VMA_CLUSTER_SIZE + 4097)
#define SMALL_B (7 * (guint64) VMA_CLUSTER_SIZE - 1)

static void
write_small (const char *target, const VmaWriterOptions *options)
{
  g_autoptr (VmaWriter) writer = open_writer (target, options);
  g_autoptr (GError) error = NULL;

  vma_writer_add_config (writer, "qemu-server.conf", (const guint8 *) "cores: 2\n", 9, &error);
  g_assert_no_error (error);
  guint8 a = add_stream (writer, "a", SMALL_A), b = add_stream (writer, "b", SMALL_B);
  for (guint64 cluster = 0; cluster <= SMALL_A / VMA_CLUSTER_SIZE; cluster++) {
    dump_one (writer, a, cluster);
    if (cluster <= SMALL_B / VMA_CLUSTER_SIZE)
      dump_one (writer, b, cluster);
  }
  close_and_complete (writer, 2);
}

static void
check_small (const char *path)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = util_open (path, FALSE, &error);

  g_assert_no_error (error);
  check_disk (archive, 1, SMALL_A);
  check_disk (archive, 2, SMALL_B);
  const VmaHeader *header = vma_archive_header (archive);
  g_assert_cmpmem (header->uuid, VMA_UUID_SIZE, uuid, VMA_UUID_SIZE);
  g_assert_cmpint (header->ctime, ==, 12345);
  g_assert_cmpuint (header->configs->len, ==, 1);
}

static GBytes *
slurp (const char *path)
{
  g_autoptr (GError) error = NULL;
  char *data;
  gsize size;

  g_file_get_contents (path, &data, &size, &error);
  g_assert_no_error (error);
  return g_bytes_new_take (data, size);
}

/* The small archive, uncompressed. */
static GBytes *
small_bytes (void)
{
  g_autofree char *path = path_of ("small.vma");

  write_small (path, &fixed);
  GBytes *bytes = slurp (path);
  g_assert_cmpint (g_unlink (path), ==, 0);
  return bytes;
}

static void
test_small (void)
{
  static const guint slots[] = { 0, 1, 58, 59 };
  g_autofree char *path = path_of ("a.vma");

  for (guint i = 0; i < G_N_ELEMENTS (slots); i++) {
    VmaWriterOptions options = fixed;
    options.slots = slots[i];
    write_small (path, &options);
    check_small (path);
    g_assert_cmpint (g_unlink (path), ==, 0);
  }
}

static void
test_same_bytes (void)
{
  g_autoptr (GBytes) one = small_bytes (), two = small_bytes ();

  g_assert_true (g_bytes_equal (one, two));
}

/* Disks without any data, and no disk at all. */
static void
test_empty (void)
{
  g_autofree char *path = path_of ("a.vma");
  g_autoptr (GError) error = NULL;
  guint64 size = G_GUINT64_CONSTANT (40) << 30;

  {
    g_autoptr (VmaWriter) writer = open_writer (path, &fixed);
    guint8 id = add_stream (writer, "empty", size);
    vma_writer_dump (writer, id, 0, size / VMA_CLUSTER_SIZE, NULL, &error);
    g_assert_no_error (error);
    VmaStreamProgress progress;
    vma_writer_get_progress (writer, id, &progress);
    g_assert_cmpuint (progress.zero, ==, size);
    g_assert_cmpuint (progress.transferred, ==, size);
    close_and_complete (writer, 1);
    g_assert_cmpuint (vma_writer_written_bytes (writer), ==, vma_writer_archive_bytes (writer));
  }
  {
    g_autoptr (VmaArchive) archive = util_open (path, FALSE, &error);
    g_assert_no_error (error);
    guint64 found;
    g_assert_true (
        vma_image_next_data (vma_archive_image (archive, 1), 0, &found, NULL, &error));
    g_assert_cmpuint (found, ==, size);
  }
  g_assert_cmpint (g_unlink (path), ==, 0);
  {
    g_autoptr (VmaWriter) writer = open_writer (path, &fixed);
    close_and_complete (writer, 0);
  }
  {
    g_autoptr (VmaArchive) archive = util_open (path, FALSE, &error);
    g_assert_no_error (error);
  }
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* --- many threads ------------------------------------------------------------------------------ */

#define MANY_STREAMS 200
#define DUMPERS      16
#define READERS      2

typedef struct {
  guint8 id;
  guint64 cluster;
} Job;

typedef struct {
  VmaWriter *writer;
  guint64 sizes[MANY_STREAMS + 1];
  GArray *jobs; /* Job, shuffled */
  atomic_uint next;
  atomic_bool over;
  atomic_uint read_back;
} Crowd;

static void *
dumper (void *data)
{
  Crowd *crowd = data;
  guint i;

  while ((i = atomic_fetch_add (&crowd->next, 1)) < crowd->jobs->len) {
    const Job *job = &g_array_index (crowd->jobs, Job, i);
    dump_one (crowd->writer, job->id, job->cluster);
  }
  return NULL;
}

static void *
read_back (void *data)
{
  Crowd *crowd = data;
  g_autofree guint8 *got = g_malloc (VMA_CLUSTER_SIZE), *wanted = g_malloc (VMA_CLUSTER_SIZE);
  guint32 seed = (guint32) GPOINTER_TO_SIZE (&got);

  while (!atomic_load (&crowd->over)) {
    g_autoptr (GError) error = NULL;
    const Job *job = &g_array_index (crowd->jobs, Job, (seed = mix (seed + 1)) % crowd->jobs->len);
    int there = vma_writer_read_cluster (crowd->writer, job->id, job->cluster, got, &error);
    VmaStreamProgress progress;

    g_assert_no_error (error);
    vma_writer_get_progress (crowd->writer, job->id, &progress);
    g_assert_cmpuint (progress.transferred, <=, progress.total);
    g_assert_cmpuint (vma_writer_written_bytes (crowd->writer), <=,
                      vma_writer_archive_bytes (crowd->writer));
    if (there == 0)
      continue;
    gsize size = cluster_bytes (crowd->sizes[job->id], job->cluster);
    fill (job->id, job->cluster, wanted);
    g_assert_cmpmem (got, size, wanted, size);
    atomic_fetch_add (&crowd->read_back, 1);
  }
  return NULL;
}

static GArray *
shuffled_jobs (Crowd *crowd)
{
  GArray *jobs = g_array_new (FALSE, FALSE, sizeof (Job));

  for (guint id = 1; id <= MANY_STREAMS; id++)
    for (guint64 cluster = 0; cluster * VMA_CLUSTER_SIZE < crowd->sizes[id]; cluster++) {
      Job job = { (guint8) id, cluster };
      g_array_append_val (jobs, job);
    }
  for (guint i = jobs->len - 1; i > 0; i--) {
    guint other = (guint) g_test_rand_int_range (0, (gint32) i + 1);
    Job *a = &g_array_index (jobs, Job, i), *b = &g_array_index (jobs, Job, other), swap = *a;
    *a = *b;
    *b = swap;
  }
  return jobs;
}

static void
run_crowd (const char *target, const VmaWriterOptions *options, Crowd *crowd)
{
  g_autoptr (VmaWriter) writer = open_writer (target, options);
  pthread_t dumpers[DUMPERS], readers[READERS];

  crowd->writer = writer;
  for (guint id = 1; id <= MANY_STREAMS; id++) {
    g_autofree char *name = g_strdup_printf ("drive-%u", id);
    crowd->sizes[id] = 1 + (guint64) g_test_rand_int_range (0, 30 * (gint32) VMA_CLUSTER_SIZE);
    g_assert_cmpuint (add_stream (writer, name, crowd->sizes[id]), ==, id);
  }
  crowd->jobs = shuffled_jobs (crowd);
  for (guint i = 0; i < DUMPERS; i++)
    g_assert_cmpint (pthread_create (&dumpers[i], NULL, dumper, crowd), ==, 0);
  for (guint i = 0; options->readable && i < READERS; i++)
    g_assert_cmpint (pthread_create (&readers[i], NULL, read_back, crowd), ==, 0);
  for (guint i = 0; i < DUMPERS; i++)
    pthread_join (dumpers[i], NULL);
  atomic_store (&crowd->over, TRUE);
  for (guint i = 0; options->readable && i < READERS; i++)
    pthread_join (readers[i], NULL);
  close_and_complete (writer, MANY_STREAMS);
  g_array_unref (crowd->jobs);
}

static void
check_crowd (const VmaWriterOptions *options)
{
  g_autofree char *path = path_of ("crowd.vma");
  g_autofree Crowd *crowd = g_new0 (Crowd, 1);
  g_autoptr (GError) error = NULL;

  run_crowd (path, options, crowd);
  g_autoptr (VmaArchive) archive = util_open (path, FALSE, &error);
  g_assert_no_error (error);
  for (guint id = 1; id <= MANY_STREAMS; id++)
    check_disk (archive, (guint8) id, crowd->sizes[id]);
  if (options->readable)
    g_assert_cmpuint (atomic_load (&crowd->read_back), >, 0);
  g_assert_cmpint (g_unlink (path), ==, 0);
}

static void
test_threads_read_back (void)
{
  const VmaWriterOptions options = { .ctime = -1, .readable = TRUE };

  check_crowd (&options);
}

static void
test_threads_compressed (void)
{
  static const VmaCompression kinds[] = { VMA_COMPRESS_ZSTD, VMA_COMPRESS_LZ4 };

  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
    const VmaWriterOptions options = { .ctime = -1, .compression = kinds[i], .level = 1,
                                       .threads = 3 };
    check_crowd (&options);
  }
}

/* Places given out in order, and filled in any: the same bytes as one dump after the other. */
static void
test_places (void)
{
  g_autofree char *path = path_of ("a.vma");
  g_autoptr (GError) error = NULL;
  g_autofree VmaDump *dumps = g_new (VmaDump, 400);
  g_autoptr (GPtrArray) buffers = g_ptr_array_new_with_free_func (g_free);

  {
    g_autoptr (VmaWriter) writer = open_writer (path, &fixed);
    vma_writer_add_config (writer, "qemu-server.conf", (const guint8 *) "cores: 2\n", 9, NULL);
    add_stream (writer, "a", SMALL_A);
    add_stream (writer, "b", SMALL_B);
    guint n = 0;
    for (guint64 cluster = 0; cluster <= SMALL_A / VMA_CLUSTER_SIZE; cluster++)
      for (guint8 id = 1; id <= (cluster <= SMALL_B / VMA_CLUSTER_SIZE ? 2 : 1); id++) {
        guint8 *data = g_malloc (VMA_CLUSTER_SIZE);
        g_ptr_array_add (buffers, data);
        fill (id, cluster, data);
        g_assert_true (vma_writer_look (writer, &dumps[n], id, cluster, 1, data, &error));
        g_assert_true (vma_writer_place (writer, &dumps[n], &error));
        n++;
      }
    while (n > 0)
      g_assert_true (vma_writer_put (writer, &dumps[--n], &error));
    close_and_complete (writer, 2);
  }
  g_autoptr (GBytes) bytes = slurp (path), wanted = small_bytes ();
  g_assert_true (g_bytes_equal (bytes, wanted));
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* --- misuse ------------------------------------------------------------------------------------ */

static void
expect_invalid (gboolean ok, GError **error, const char *text)
{
  g_assert_false (ok);
  g_assert_error (*error, VMA_ERROR, VMA_ERROR_INVALID);
  if (strstr ((*error)->message, text) == NULL)
    g_error ("'%s' is not in '%s'", text, (*error)->message);
  g_clear_error (error);
}

static void
test_misuse (void)
{
  g_autofree char *path = path_of ("a.vma");
  g_autofree guint8 *data = g_malloc0 (4 * VMA_CLUSTER_SIZE);
  g_autoptr (VmaWriter) writer = open_writer (path, &fixed);
  g_autoptr (GError) error = NULL;
  VmaDump dump;

  guint8 a = add_stream (writer, "a", 10 * VMA_CLUSTER_SIZE + 1);
  guint8 ram = add_stream (writer, "vmstate", 100);
  guint8 open = add_stream (writer, "open", 1);
  expect_invalid (vma_writer_register_stream (writer, "a", 1, &error), &error, "two disks");
  expect_invalid (vma_writer_register_stream (writer, "", 1, &error), &error, "name");
  expect_invalid (vma_writer_register_stream (writer, "z", 0, &error), &error, "size of 0");
  expect_invalid (vma_writer_register_stream (writer, "z", VMA_MAX_DEVICE_SIZE + 1, &error),
                  &error, "cannot hold");
  expect_invalid (vma_writer_complete (writer, &error), &error, "still open");

  expect_invalid (vma_writer_dump (writer, 77, 0, 1, data, &error), &error, "no such stream");
  expect_invalid (vma_writer_dump (writer, 0, 0, 1, data, &error), &error, "no such stream");
  expect_invalid (vma_writer_dump (writer, a, 11, 1, data, &error), &error, "beyond the end");
  expect_invalid (vma_writer_dump (writer, a, 10, 2, data, &error), &error, "beyond the end");
  expect_invalid (vma_writer_dump (writer, a, G_MAXUINT64, 2, NULL, &error), &error, "beyond");
  expect_invalid (vma_writer_dump (writer, a, 1, G_MAXUINT64, NULL, &error), &error, "beyond");
  expect_invalid (vma_writer_look (writer, &dump, a, 10, 2, data, &error), &error, "at once");
  expect_invalid (vma_writer_look (writer, &dump, a, 0, 60, data, &error), &error, "at once");
  expect_invalid (vma_writer_look (writer, &dump, 9, 0, 1, data, &error), &error, "at once");

  g_assert_true (vma_writer_dump (writer, a, 4, 2, data, &error));
  expect_invalid (vma_writer_dump (writer, a, 3, 2, data, &error), &error, "written twice");
  expect_invalid (vma_writer_dump (writer, a, 5, 1, NULL, &error), &error, "written twice");
  g_assert_true (vma_writer_look (writer, &dump, a, 5, 1, data, &error));
  expect_invalid (vma_writer_place (writer, &dump, &error), &error, "written twice");
  /* Nothing of the refused calls was taken. */
  g_assert_true (vma_writer_dump (writer, a, 3, 1, data, &error));

  expect_invalid (vma_writer_dump (writer, ram, 1, 1, data, &error), &error, "out of order");
  g_assert_true (vma_writer_dump (writer, ram, 0, 2, data, &error));
  expect_invalid (vma_writer_dump (writer, ram, 0, 1, data, &error), &error, "out of order");
  expect_invalid (vma_writer_dump (writer, ram, 3, 1, data, &error), &error, "out of order");
  g_assert_true (vma_writer_dump (writer, ram, 2, 1, data, &error)); /* past its size */

  expect_invalid (vma_writer_add_config (writer, "c", data, 1, &error), &error, "before any data");
  expect_invalid (vma_writer_register_stream (writer, "late", 1, &error), &error, "before any");
  expect_invalid (vma_writer_close_stream (writer, 99, &error), &error, "not open");
  g_assert_cmpint (vma_writer_read_cluster (writer, a, 4, data, &error), ==, -1);
  g_assert_error (error, VMA_ERROR, VMA_ERROR_INVALID); /* not opened to be read */
  g_clear_error (&error);

  g_assert_false (vma_writer_close_stream (writer, a, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_MISSING);
  g_clear_error (&error);
  g_assert_true (vma_writer_dump (writer, a, 0, 3, NULL, &error));
  g_assert_true (vma_writer_dump (writer, a, 6, 5, NULL, &error));
  g_assert_true (vma_writer_close_stream (writer, a, &error));
  expect_invalid (vma_writer_close_stream (writer, a, &error), &error, "not open");
  expect_invalid (vma_writer_dump (writer, a, 0, 1, data, &error), &error, "closed");
  g_assert_true (vma_writer_close_stream (writer, ram, &error));
  expect_invalid (vma_writer_complete (writer, &error), &error, "still open");
  g_assert_cmpuint (files_in_dir (), ==, 0);
  g_assert_true (vma_writer_dump (writer, open, 0, 1, data, &error));
  g_assert_true (vma_writer_close_stream (writer, open, &error));
  g_assert_true (vma_writer_complete (writer, &error));
  expect_invalid (vma_writer_complete (writer, &error), &error, "complete already");
  expect_invalid (vma_writer_dump (writer, a, 0, 1, data, &error), &error, "closed");
  g_assert_cmpint (g_unlink (path), ==, 0);
}

static void
test_limits (void)
{
  g_autofree char *path = path_of ("a.vma"), *longest = g_strnfill (65534, 'n');
  g_autofree char *too_long = g_strnfill (65535, 'n');
  g_autofree guint8 *data = g_malloc0 (65536);
  g_autoptr (GError) error = NULL;

  {
    g_autoptr (VmaWriter) writer = open_writer (path, &fixed);
    expect_invalid (vma_writer_add_config (writer, "big", data, 65536, &error), &error, "65535");
    expect_invalid (vma_writer_add_config (writer, too_long, data, 1, &error), &error, "65534");
    expect_invalid (vma_writer_register_stream (writer, too_long, 1, &error), &error, "65534");
    g_assert_true (vma_writer_add_config (writer, longest, data, 65535, &error));
    g_assert_true (vma_writer_add_config (writer, "empty", data, 0, &error));
    for (guint i = 2; i < 256; i++) {
      g_autofree char *name = g_strdup_printf ("config-%u", i);
      g_assert_true (vma_writer_add_config (writer, name, data, 1, &error));
    }
    expect_invalid (vma_writer_add_config (writer, "257", data, 1, &error), &error, "256 configs");
    for (guint i = 1; i <= 254; i++) {
      g_autofree char *name = g_strdup_printf ("disk-%u", i);
      guint8 id = add_stream (writer, i == 1 ? longest : name, i);
      g_assert_cmpuint (id, ==, i);
    }
    expect_invalid (vma_writer_register_stream (writer, "z", 1, &error), &error, "254 disks");
    for (guint i = 1; i <= 254; i++)
      dump_one (writer, (guint8) i, 0);
    close_and_complete (writer, 254);
  }
  g_autoptr (VmaArchive) archive = util_open (path, FALSE, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (vma_archive_header (archive)->configs->len, ==, 256);
  for (guint i = 1; i <= 254; i++)
    check_disk (archive, (guint8) i, i);
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* --- compression ------------------------------------------------------------------------------- */

/* The uncompressed archive in a compressed one's frames, one by one as the seek table has them. */
static GByteArray *
unpack_zstd (GBytes *packed)
{
  gsize size, at = 0;
  const guint8 *data = g_bytes_get_data (packed, &size);
  GByteArray *out = g_byte_array_new ();

  /* The footer, and the table in front of it. */
  g_assert_cmpuint (size, >, 17);
  g_assert_cmphex (vma_get_le32 (data + size - 4), ==, 0x8F92EAB1);
  g_assert_cmpuint (data[size - 5], ==, 0);
  guint32 frames = vma_get_le32 (data + size - 9);
  gsize table = size - 9 - frames * 8 - 8;
  g_assert_cmphex (vma_get_le32 (data + table), ==, 0x184D2A5E);
  g_assert_cmpuint (vma_get_le32 (data + table + 4), ==, frames * 8 + 9);

  for (guint i = 0; i < frames; i++) {
    guint32 compressed = vma_get_le32 (data + table + 8 + i * 8);
    guint32 length = vma_get_le32 (data + table + 12 + i * 8);

    g_assert_cmpuint (at + compressed, <=, table);
    g_assert_cmpuint (ZSTD_findFrameCompressedSize (data + at, size - at), ==, compressed);
    g_assert_cmpuint (ZSTD_getFrameContentSize (data + at, compressed), ==, length);
    g_assert_cmpuint (data[at + 4] & 4, ==, 4); /* a checksum */
    gsize before = out->len;
    g_byte_array_set_size (out, (guint) (before + length));
    g_assert_cmpuint (ZSTD_decompress (out->data + before, length, data + at, compressed), ==,
                      length);
    at += compressed;
  }
  g_assert_cmpuint (at, ==, table);
  return out;
}

static void
test_zstd (void)
{
  static const int levels[] = { 0, 1, -5, 19 };
  g_autofree char *path = path_of ("a.vma.zst");
  g_autoptr (GBytes) plain = small_bytes ();
  gsize size = g_bytes_get_size (plain);

  for (guint i = 0; i < G_N_ELEMENTS (levels); i++) {
    VmaWriterOptions options = fixed;
    options.compression = VMA_COMPRESS_ZSTD;
    options.level = levels[i];
    options.threads = 1 + i;
    write_small (path, &options);
    g_autoptr (GBytes) packed = slurp (path);
    g_autoptr (GByteArray) out = unpack_zstd (packed);
    g_assert_cmpmem (out->data, out->len, g_bytes_get_data (plain, NULL), size);
    /* As one stream, as `zstd -dc` has it: a table is skipped. */
    g_autofree guint8 *whole = g_malloc (size);
    g_assert_cmpuint (ZSTD_decompress (whole, size, g_bytes_get_data (packed, NULL),
                                       g_bytes_get_size (packed)),
                      ==, size);
    g_assert_cmpmem (whole, size, g_bytes_get_data (plain, NULL), size);
    check_small (path);
    g_assert_cmpint (g_unlink (path), ==, 0);
  }
}

static void
test_lz4 (void)
{
  g_autofree char *path = path_of ("a.vma.lz4");
  g_autoptr (GBytes) plain = small_bytes ();
  VmaWriterOptions options = fixed;

  options.compression = VMA_COMPRESS_LZ4;
  options.threads = 2;
  write_small (path, &options);
  g_autoptr (GBytes) packed = slurp (path);
  gsize left, size = g_bytes_get_size (plain);
  const guint8 *at = g_bytes_get_data (packed, &left);
  g_autofree guint8 *out = g_malloc (size + 1);
  LZ4F_dctx *context;
  gsize done = 0;
  g_assert_cmpuint (LZ4F_createDecompressionContext (&context, LZ4F_VERSION), ==, 0);
  while (left > 0) {
    LZ4F_frameInfo_t info;
    gsize in = left;
    g_assert_false (LZ4F_isError (LZ4F_getFrameInfo (context, &info, at, &in)));
    g_assert_cmpint (info.blockMode, ==, LZ4F_blockIndependent);
    g_assert_cmpint (info.contentChecksumFlag, ==, LZ4F_contentChecksumEnabled);
    g_assert_cmpuint (info.contentSize, >, 0);
    gsize end = done + info.contentSize;
    at += in;
    left -= in;
    for (gsize hint = 1; hint != 0;) {
      gsize room = size + 1 - done;
      in = left;
      hint = LZ4F_decompress (context, out + done, &room, at, &in, NULL);
      g_assert_false (LZ4F_isError (hint));
      done += room;
      at += in;
      left -= in;
    }
    g_assert_cmpuint (done, ==, end);
  }
  LZ4F_freeDecompressionContext (context);
  g_assert_cmpmem (out, done, g_bytes_get_data (plain, NULL), size);
  check_small (path);
  g_assert_cmpint (g_unlink (path), ==, 0);
}

static void
test_compressed_same_bytes (void)
{
  g_autofree char *path = path_of ("a.vma.zst");
  g_autoptr (GBytes) first = NULL;

  for (guint threads = 1; threads <= 4; threads++) {
    VmaWriterOptions options = fixed;
    options.compression = VMA_COMPRESS_ZSTD;
    options.threads = threads;
    write_small (path, &options);
    g_autoptr (GBytes) bytes = slurp (path);
    if (first == NULL)
      first = g_bytes_ref (bytes);
    g_assert_true (g_bytes_equal (first, bytes));
    g_assert_cmpint (g_unlink (path), ==, 0);
  }
}

static void
test_levels (void)
{
  VmaWriterOptions options = { .ctime = -1, .compression = VMA_COMPRESS_ZSTD, .level = 99 };
  g_autofree char *path = path_of ("a");
  g_autoptr (GError) error = NULL;

  g_assert_null (vma_writer_open (path, &options, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_INVALID);
  g_clear_error (&error);
  options.compression = VMA_COMPRESS_LZ4;
  g_assert_null (vma_writer_open (path, &options, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_INVALID);
  g_clear_error (&error);
  options.level = 0;
  options.readable = TRUE;
  g_assert_null (vma_writer_open (path, &options, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED);
  g_assert_cmpuint (files_in_dir (), ==, 0);
}

/* --- outputs that fail ------------------------------------------------------------------------- */

/* Dumps until it fails; every later call fails with the same words. */
static void
expect_failure (VmaWriter *writer, const char *text)
{
  g_autofree guint8 *data = g_malloc (VMA_CLUSTER_SIZE);
  g_autoptr (GError) first = NULL, error = NULL;
  guint8 id = add_stream (writer, "a", 2000 * (guint64) VMA_CLUSTER_SIZE);

  memset (data, 'x', VMA_CLUSTER_SIZE);
  for (guint i = 0; first == NULL && i < 2000; i++)
    vma_writer_dump (writer, id, i, 1, data, &first);
  g_assert_nonnull (first);
  if (strstr (first->message, text) == NULL)
    g_error ("'%s' is not in '%s'", text, first->message);

  g_assert_false (vma_writer_dump (writer, id, 1999, 1, NULL, &error));
  g_assert_cmpstr (error->message, ==, first->message);
  g_clear_error (&error);
  g_assert_false (vma_writer_close_stream (writer, id, &error));
  g_assert_cmpstr (error->message, ==, first->message);
}

static void
test_full (void)
{
  static const VmaCompression kinds[] = { VMA_COMPRESS_NONE, VMA_COMPRESS_ZSTD, VMA_COMPRESS_LZ4 };

  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
    const VmaWriterOptions options = { .ctime = -1, .compression = kinds[i], };
    g_autoptr (VmaWriter) writer = open_writer ("/dev/full", &options);
    guint64 before = vma_writer_written_bytes (writer);
    g_autoptr (GError) error = NULL;

    g_assert_cmpuint (before, ==, 0);
    if (kinds[i] == VMA_COMPRESS_NONE)
      expect_failure (writer, "No space left");
    else {
      /* A frame may be on its way when the last cluster is taken: then the end tells. */
      guint8 id = add_stream (writer, "a", VMA_CLUSTER_SIZE);
      dump_one (writer, id, 0);
      g_assert_true (vma_writer_close_stream (writer, id, &error));
      g_assert_false (vma_writer_complete (writer, &error));
      g_assert_nonnull (strstr (error->message, "No space left"));
      g_clear_error (&error);
      g_assert_false (vma_writer_complete (writer, &error));
      g_assert_nonnull (strstr (error->message, "No space left"));
    }
  }
}

static void
test_file_too_large (void)
{
  g_autofree char *path = path_of ("a.vma");
  struct rlimit old, limit;

  signal (SIGXFSZ, SIG_IGN);
  g_assert_cmpint (getrlimit (RLIMIT_FSIZE, &old), ==, 0);
  limit = old;
  limit.rlim_cur = 1 << 20;
  g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &limit), ==, 0);
  {
    g_autoptr (VmaWriter) writer = open_writer (path, NULL);
    expect_failure (writer, "a.vma: cannot write: File too large");
  }
  g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &old), ==, 0);
  g_assert_cmpuint (files_in_dir (), ==, 0);
}

static void
test_closed_pipe (void)
{
  int fds[2];

  g_assert_cmpint (pipe (fds), ==, 0);
  g_autofree char *target = g_strdup_printf ("fd:%d", fds[1]);
  {
    g_autoptr (VmaWriter) writer = open_writer (target, NULL);
    close (fds[0]);
    expect_failure (writer, "Broken pipe");
  }
  close (fds[1]);
}

static void
test_command (void)
{
  g_autofree char *path = path_of ("a.vma");
  g_autofree char *good = g_strdup_printf ("exec:cat >'%s'", path);
  g_autofree char *late = g_strdup_printf ("exec:cat >'%s'; exit 3", path);
  g_autofree char *killed = g_strdup_printf ("exec:cat >'%s'; kill -9 $$", path);
  g_autoptr (GError) error = NULL;

  write_small (good, &fixed);
  check_small (path);
  {
    g_autoptr (VmaWriter) writer = open_writer (late, NULL);
    g_assert_false (vma_writer_complete (writer, &error));
    g_assert_nonnull (strstr (error->message, "status 3"));
    g_clear_error (&error);
  }
  {
    g_autoptr (VmaWriter) writer = open_writer (killed, NULL);
    g_assert_false (vma_writer_complete (writer, &error));
    g_assert_nonnull (strstr (error->message, "signal 9"));
    g_clear_error (&error);
  }
  {
    g_autoptr (VmaWriter) writer = open_writer ("exec:exit 1", NULL);
    expect_failure (writer, "Broken pipe");
  }
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* A caller that has blocked signals in its threads must still get rid of a command at once. */
static void
test_cancel_command (void)
{
  sigset_t all, old;
  gint64 start = g_get_monotonic_time ();

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  {
    g_autoptr (VmaWriter) writer = open_writer ("exec:sleep 100", NULL);
    guint8 id = add_stream (writer, "a", VMA_CLUSTER_SIZE);
    dump_one (writer, id, 0);
  }
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  g_assert_cmpint (g_get_monotonic_time () - start, <, 1500000);
}

static void
test_cancelled (void)
{
  g_autofree char *path = path_of ("a.vma");
  g_autoptr (GError) error = NULL;

  {
    g_autoptr (VmaWriter) writer = open_writer (path, NULL);
    guint8 id = add_stream (writer, "a", 100 * VMA_CLUSTER_SIZE);
    for (guint i = 0; i < 60; i++)
      dump_one (writer, id, i);
  }
  g_assert_cmpuint (files_in_dir (), ==, 0);
  {
    g_autoptr (VmaWriter) writer = open_writer (path, NULL);
    guint8 id = add_stream (writer, "a", VMA_CLUSTER_SIZE);
    dump_one (writer, id, 0);
    g_assert_true (vma_writer_close_stream (writer, id, &error));
    g_assert_true (vma_writer_sync (writer, &error));
    g_assert_cmpuint (files_in_dir (), ==, 0); /* no name before the end */
    vma_writer_cancel (writer, FALSE);
    g_assert_false (vma_writer_complete (writer, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_CANCELLED);
  }
  g_assert_cmpuint (files_in_dir (), ==, 0);
}

/* A file that has come up meanwhile is not replaced. */
static void
test_name_taken (void)
{
  g_autofree char *path = path_of ("a.vma");
  g_autoptr (GError) error = NULL;

  g_assert_true (g_file_set_contents (path, "x", 1, NULL));
  g_assert_null (vma_writer_open (path, NULL, &error));
  g_assert_nonnull (strstr (error->message, "File exists"));
  g_clear_error (&error);
  g_assert_cmpint (g_unlink (path), ==, 0);
  {
    g_autoptr (VmaWriter) writer = open_writer (path, NULL);
    g_assert_true (g_file_set_contents (path, "x", 1, NULL));
    g_assert_false (vma_writer_complete (writer, &error));
    g_assert_nonnull (strstr (error->message, "File exists"));
  }
  g_autoptr (GBytes) bytes = slurp (path);
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, 1);
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* An inherited descriptor of a file: what it held is gone, and after a failure it is as it began. */
static void
test_descriptor (void)
{
  static const int flags[] = { O_RDWR, O_WRONLY, O_WRONLY | O_APPEND };
  g_autofree char *path = path_of ("a.vma"), *old = g_strnfill (40 << 20, 'o');

  for (guint i = 0; i < G_N_ELEMENTS (flags); i++) {
    gboolean append = (flags[i] & O_APPEND) != 0;
    struct stat st;
    g_assert_true (g_file_set_contents (path, old, append ? 0 : 40 << 20, NULL));
    int fd = open (path, flags[i] | (flags[i] == O_WRONLY ? O_TRUNC : 0));
    g_autofree char *target = g_strdup_printf ("fd:%d", fd);
    write_small (target, &fixed);
    close (fd);
    check_small (path);

    fd = open (path, flags[i]);
    if (append)
      g_assert_cmpint (stat (path, &st), ==, 0);
    else
      st.st_size = 0;
    {
      g_autofree char *again = g_strdup_printf ("fd:%d", fd);
      g_autoptr (VmaWriter) writer = open_writer (again, NULL);
      guint8 id = add_stream (writer, "a", 1000 * VMA_CLUSTER_SIZE);
      for (guint n = 0; n < 600; n++)
        dump_one (writer, id, n);
    }
    gsize wanted = (gsize) st.st_size;
    g_assert_cmpint (fstat (fd, &st), ==, 0);
    g_assert_cmpuint ((gsize) st.st_size, ==, wanted);
    close (fd);
  }
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* A pipe that does not wait by itself, with a slow reader. */
static void *
slow_reader (void *data)
{
  g_autoptr (GByteArray) got = g_byte_array_new ();
  int fd = GPOINTER_TO_INT (data);
  guint8 buffer[65536];
  gssize n;

  while ((n = read (fd, buffer, sizeof buffer)) > 0) {
    g_byte_array_append (got, buffer, (guint) n);
    g_usleep (500);
  }
  return g_byte_array_free_to_bytes (g_steal_pointer (&got));
}

static void
test_nonblocking_pipe (void)
{
  g_autoptr (GBytes) wanted = small_bytes ();
  pthread_t thread;
  void *result;
  int fds[2];

  g_assert_cmpint (pipe2 (fds, O_NONBLOCK), ==, 0);
  g_assert_cmpint (fcntl (fds[0], F_SETFL, 0), ==, 0);
  g_assert_cmpint (pthread_create (&thread, NULL, slow_reader, GINT_TO_POINTER (fds[0])), ==, 0);
  g_autofree char *target = g_strdup_printf ("fd:%d", fds[1]);
  write_small (target, &fixed);
  close (fds[1]);
  pthread_join (thread, &result);
  close (fds[0]);
  g_autoptr (GBytes) got = result;
  g_assert_true (g_bytes_equal (got, wanted));
}

static void
test_bad_targets (void)
{
  static const char *const targets[] = { "fd:x", "fd:-1", "fd:999999", "fd:", "/nonexistent/a.vma" };

  for (guint i = 0; i < G_N_ELEMENTS (targets); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_null (vma_writer_open (targets[i], NULL, &error));
    g_assert_true (g_str_has_prefix (error->message, targets[i]));
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  signal (SIGPIPE, SIG_IGN);
  dir = g_dir_make_tmp ("test-writer-XXXXXX", NULL);
  g_test_add_func ("/writer/small", test_small);
  g_test_add_func ("/writer/same-bytes", test_same_bytes);
  g_test_add_func ("/writer/empty", test_empty);
  g_test_add_func ("/writer/threads/read-back", test_threads_read_back);
  g_test_add_func ("/writer/threads/compressed", test_threads_compressed);
  g_test_add_func ("/writer/places", test_places);
  g_test_add_func ("/writer/misuse", test_misuse);
  g_test_add_func ("/writer/limits", test_limits);
  g_test_add_func ("/writer/zstd", test_zstd);
  g_test_add_func ("/writer/lz4", test_lz4);
  g_test_add_func ("/writer/compressed-same-bytes", test_compressed_same_bytes);
  g_test_add_func ("/writer/levels", test_levels);
  g_test_add_func ("/writer/full", test_full);
  g_test_add_func ("/writer/file-too-large", test_file_too_large);
  g_test_add_func ("/writer/closed-pipe", test_closed_pipe);
  g_test_add_func ("/writer/command", test_command);
  g_test_add_func ("/writer/cancel-command", test_cancel_command);
  g_test_add_func ("/writer/cancelled", test_cancelled);
  g_test_add_func ("/writer/name-taken", test_name_taken);
  g_test_add_func ("/writer/descriptor", test_descriptor);
  g_test_add_func ("/writer/nonblocking-pipe", test_nonblocking_pipe);
  g_test_add_func ("/writer/bad-targets", test_bad_targets);
  int status = g_test_run ();
  g_rmdir (dir);
  return status;
}
