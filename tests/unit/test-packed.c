/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed files as sources, made by the real tools: random reads by several threads against the
 * plain bytes, interruption and resumption, damage, growing files.
 */
#include "source/gzip.h"
#include "source/lz4.h"
#include "source/lzop.h"
#include "source/packed.h"
#include "source/source-impl.h"
#include "source/zstd/codec.h"
#include "tests/unit/synth.h"
#include "vma/error.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLAIN_SIZE (12u << 20)
#define N_THREADS 4u
#define N_READS 150u

static char *directory;
static guint8 *plain;
static char *plain_path;

typedef struct {
  const char *name;
  const VmaCodec *codec;
  const char *command; /* from $P to $O */
  gboolean walks;
} Case;

static const Case cases[] = {
  { "gzip-1", &vma_gzip_codec, "gzip -1 -c $P >$O", FALSE },
  { "gzip-9", &vma_gzip_codec, "gzip -9 -c $P >$O", FALSE },
  { "gzip-rsyncable", &vma_gzip_codec, "gzip --rsyncable -c $P >$O", FALSE },
  { "gzip-piped", &vma_gzip_codec, "cat $P | gzip -c >$O", FALSE },
  { "gzip-members", &vma_gzip_codec,
    "(head -c 1000000 $P | gzip -c; gzip -c </dev/null; tail -c +1000001 $P | gzip -1 -c) >$O", FALSE },
  { "gzip-padded", &vma_gzip_codec, "(gzip -c $P; head -c 5000 /dev/zero) >$O", FALSE },
  { "pigz", &vma_gzip_codec, "pigz -p 2 -c $P >$O", FALSE },
  { "lzop-1", &vma_lzop_codec, "lzop -1 -c $P >$O", TRUE },
  { "lzop-9", &vma_lzop_codec, "head -c 6000000 $P | lzop -9 -c >$O; "
                               "tail -c +6000001 $P | lzop -c >>$O", TRUE },
  { "lzop-crc", &vma_lzop_codec, "lzop --crc32 -c $P >$O", TRUE },
  { "lz4-1", &vma_lz4_codec, "lz4 -q -1 -c $P >$O", FALSE },
  { "lz4-12", &vma_lz4_codec, "lz4 -q -12 -B4 -c $P >$O", FALSE },
  { "lz4-linked", &vma_lz4_codec, "lz4 -q -BD -B5 -c $P >$O", FALSE },
  { "lz4-linked-checked", &vma_lz4_codec, "lz4 -q -BD -BX --content-size -c $P >$O", FALSE },
  { "lz4-checked", &vma_lz4_codec, "lz4 -q -BX -B6 -c $P >$O", TRUE },
  { "lz4-mixed", &vma_lz4_codec,
    "(head -c 5000000 $P | lz4 -q -BX -c; tail -c +5000001 $P | lz4 -q -BD -c) >$O", FALSE },
  { "zstd-3", &vma_zstd_codec, "zstd -q -3 -c $P >$O", FALSE },
  { "zstd-rsyncable", &vma_zstd_codec, "zstd -q --rsyncable --threads=1 -c $P >$O", FALSE },
  { "zstd-frames", &vma_zstd_codec,
    "(head -c 5000000 $P | zstd -q -c; tail -c +5000001 $P | zstd -q -1 -c) >$O", FALSE },
};

/* Text, noise, zeros and repeats, in stretches as in a disk. */
static void
make_plain (void)
{
  GRand *rand = g_rand_new_with_seed (4);
  gsize at = 0;

  plain = g_malloc (PLAIN_SIZE);
  while (at < PLAIN_SIZE) {
    gsize n = MIN ((gsize) g_rand_int_range (rand, 4096, 400000), PLAIN_SIZE - at);
    int kind = g_rand_int_range (rand, 0, 5);
    for (gsize i = 0; i < n; i++) {
      guint8 byte = 0;
      if (kind == 1)
        byte = (guint8) g_rand_int (rand);
      else if (kind >= 2)
        byte = at + i > 30000 && g_rand_int_range (rand, 0, 12) > 0
                   ? plain[at + i - (gsize) (997 * kind)]
                   : (guint8) g_rand_int_range (rand, 'a', 'z');
      plain[at + i] = byte;
    }
    at += n;
  }
  g_rand_free (rand);
  plain_path = g_build_filename (directory, "plain", NULL);
  g_assert_true (g_file_set_contents (plain_path, (const char *) plain, PLAIN_SIZE, NULL));
}

/* The packed file's path, or NULL (skipped) where the tool is not there. */
static char *
pack (const Case *c)
{
  g_autofree char *path = g_build_filename (directory, c->name, NULL);
  g_autofree char *tool = g_strndup (c->name, strcspn (c->name, "-"));
  g_autofree char *found = g_find_program_in_path (tool);

  if (found == NULL) {
    g_test_skip (tool);
    return NULL;
  }
  if (g_file_test (path, G_FILE_TEST_EXISTS)) /* an earlier test's */
    return g_steal_pointer (&path);
  g_setenv ("P", plain_path, TRUE);
  g_setenv ("O", path, TRUE);
  g_assert_cmpint (system (c->command), ==, 0);
  return g_steal_pointer (&path);
}

static VmaSource *
open_packed (const char *path, const VmaCodec *codec, const VmaPackedOptions *options)
{
  g_autoptr (GError) error = NULL;
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  g_assert_cmpint (fd, >=, 0);
  VmaSource *source = vma_packed_source_new ((VmaPackedFile){ .fd = fd }, codec, options, &error);
  g_assert_no_error (error);
  g_assert_nonnull (source);
  return source;
}

static void
check_read (VmaSource *source, guint64 offset, gsize size, VmaReadHint hint)
{
  g_autofree guint8 *buffer = g_malloc (size);
  g_autoptr (GError) error = NULL;
  gssize got = vma_source_pread (source, buffer, size, offset, hint, NULL, &error);
  gssize expected
      = offset >= PLAIN_SIZE ? 0 : (gssize) MIN ((guint64) size, PLAIN_SIZE - offset);

  g_assert_no_error (error);
  g_assert_cmpint (got, ==, expected);
  g_assert_true (memcmp (buffer, plain + MIN (offset, PLAIN_SIZE), (gsize) got) == 0);
}

typedef struct {
  VmaSource *source;
  guint32 seed;
} Reader;

static void *
random_reader (void *data)
{
  const Reader *reader = data;
  GRand *rand = g_rand_new_with_seed (reader->seed);

  for (guint i = 0; i < N_READS; i++) {
    guint64 offset = (guint64) g_rand_int_range (rand, 0, PLAIN_SIZE + 1000);
    gsize size = (gsize) g_rand_int_range (rand, 1, i % 16 == 0 ? 3000000 : 70000);
    check_read (reader->source, offset, size, VMA_READ_DATA);
  }
  g_rand_free (rand);
  return NULL;
}

static void *
scanner (void *data)
{
  const Reader *reader = data;

  for (guint64 offset = 0; offset < PLAIN_SIZE + 300000; offset += 300000)
    check_read (reader->source, offset, 512, VMA_READ_INDEX);
  return NULL;
}

static void *
sequential_reader (void *data)
{
  const Reader *reader = data;

  for (guint64 offset = 0; offset <= PLAIN_SIZE; offset += 131072)
    check_read (reader->source, offset, 131072, VMA_READ_DATA);
  return NULL;
}

/* Everybody at once. */
static void
check_all (VmaSource *source)
{
  pthread_t threads[N_THREADS + 2];
  Reader readers[N_THREADS + 2];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++) {
    readers[i] = (Reader){ source, i };
    pthread_create (&threads[i], NULL,
                    i < N_THREADS ? random_reader : i == N_THREADS ? scanner : sequential_reader,
                    &readers[i]);
  }
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    pthread_join (threads[i], NULL);
  g_assert_cmpuint (vma_source_size (source), ==, PLAIN_SIZE);
}

static void
test_reads (gconstpointer data)
{
  const Case *c = data;
  g_autofree char *path = pack (c);
  g_autofree char *sidecars = g_build_filename (directory, "sidecars", c->name, NULL);
  VmaPackedOptions options
      = { .sidecar_directory = sidecars, .cache_size = 6u << 20, .spacing = 1u << 20 };

  if (path == NULL)
    return;
  VmaSource *source = open_packed (path, c->codec, &options);
  g_assert_cmpstr (source->ops->kind, ==, c->codec->kind);
  check_all (source);
  vma_source_unref (source);

  /* The second time everything is known at once. */
  source = open_packed (path, c->codec, &options);
  g_assert_cmpuint (vma_source_size (source), ==, PLAIN_SIZE);
  check_all (source);
  vma_source_unref (source);

  /* And without a directory, with the codec's own spacing. */
  source = open_packed (path, c->codec, NULL);
  check_all (source);
  vma_source_unref (source);
}

/* Only what is asked for is read, and closing in the middle is prompt and loses nothing. */
static void
test_resume (gconstpointer data)
{
  const Case *c = data;
  g_autofree char *path = pack (c);
  g_autofree char *sidecars = g_build_filename (directory, "resume", c->name, NULL);
  VmaPackedOptions options = { .sidecar_directory = sidecars, .spacing = 1u << 20 };
  guint64 position, size;

  if (path == NULL)
    return;
  VmaSource *source = open_packed (path, c->codec, &options);
  check_read (source, 0, 12288, VMA_READ_INDEX);
  if (!c->walks) {
    g_assert_true (vma_packed_source_progress (source, &position, &size));
    g_assert_cmpuint (position, <, size);
  }
  vma_source_unref (source);

  for (guint64 to = 1000000; to < PLAIN_SIZE; to += 3000000) {
    source = open_packed (path, c->codec, &options);
    check_read (source, to, 100000, VMA_READ_DATA);
    check_read (source, to / 2, 100000, VMA_READ_DATA);
    gint64 begun = g_get_monotonic_time ();
    vma_source_unref (source);
    g_assert_cmpint (g_get_monotonic_time () - begun, <, 2 * G_USEC_PER_SEC);
  }
  source = open_packed (path, c->codec, &options);
  check_all (source);
  vma_source_unref (source);
}

/* A broken sidecar is made anew, wherever it is broken, and never believed. */
static void
test_bad_sidecar (gconstpointer data)
{
  const Case *c = data;
  g_autofree char *path = pack (c);
  GRand *rand = g_rand_new_with_seed (9);

  for (guint i = 0; path != NULL && i < (synth_scale () < 1 ? 4u : 8u); i++) {
    g_autofree char *number = g_strdup_printf ("bad-%s-%u", c->name, i);
    g_autofree char *sidecars = g_build_filename (directory, number, NULL);
    VmaPackedOptions options = { .sidecar_directory = sidecars, .spacing = 1u << 20 };
    VmaSource *source = open_packed (path, c->codec, &options);
    check_read (source, i % 3 == 0 ? PLAIN_SIZE / 2 : PLAIN_SIZE, 100, VMA_READ_DATA);
    vma_source_unref (source);

    GDir *dir = g_dir_open (sidecars, 0, NULL);
    const char *name = g_dir_read_name (dir);
    g_autofree char *file = g_build_filename (sidecars, name, NULL);
    g_autofree char *bytes = NULL;
    gsize size;
    g_assert_true (g_file_get_contents (file, &bytes, &size, NULL));
    if (i % 4 == 1)
      size = (gsize) g_rand_int_range (rand, 0, (gint32) size);
    else
      for (guint n = 0; n < 20; n++)
        bytes[g_rand_int_range (rand, 0, (gint32) size)] ^= (char) (1 << g_rand_int_range (rand, 0, 8));
    g_assert_true (g_file_set_contents (file, bytes, (gssize) size, NULL));
    g_dir_close (dir);

    source = open_packed (path, c->codec, &options);
    check_all (source);
    vma_source_unref (source);
  }
  g_rand_free (rand);
}

/* Whatever a damaged file gives, it gives in the right place or fails. */
static void
test_damage (gconstpointer data)
{
  const Case *c = data;
  g_autofree char *path = pack (c);
  g_autofree char *bytes = NULL;
  GRand *rand = g_rand_new_with_seed (3);
  gsize size = 0;

  if (path == NULL)
    return;
  g_assert_true (g_file_get_contents (path, &bytes, &size, NULL));
  for (guint i = 0; i < (synth_scale () < 1 ? 3u : 6u); i++) {
    g_autofree char *damaged = g_strconcat (path, "-damaged", NULL);
    gsize at = (gsize) g_rand_int_range (rand, (gint32) size / 4, (gint32) size), kept = size;
    if (i == 0)
      kept = at;
    else
      bytes[at] ^= 0x10;
    g_assert_true (g_file_set_contents (damaged, bytes, (gssize) kept, NULL));
    if (i > 0)
      bytes[at] ^= 0x10;

    VmaSource *source = open_packed (damaged, c->codec, NULL);
    guint8 buffer[50000];
    guint failed = 0, good = 0;
    for (guint64 offset = 0; offset < PLAIN_SIZE; offset += sizeof buffer) {
      g_autoptr (GError) error = NULL;
      gssize got = vma_source_pread (source, buffer, sizeof buffer, offset, VMA_READ_DATA, NULL,
                                     &error);
      if (got < 0) {
        g_assert_true (error->domain == VMA_ERROR);
        failed++;
        continue;
      }
      good++;
      /* What the pass has not proved yet it may give, as the tools do, where the stream's only
       * checksum comes at its end; in the right amount at least. */
      if (c->walks)
        g_assert_true (memcmp (buffer, plain + offset, (gsize) got) == 0);
    }
    g_assert_cmpuint (good, >, 0);
    /* Damage is contained, or ends the archive: but it is seen. */
    if (c->walks && i > 0)
      g_assert_cmpuint (failed, <, 100);
    else if (failed == 0)
      g_assert_cmpint (vma_source_pread (source, buffer, 1, (guint64) 1 << 40, VMA_READ_DATA, NULL,
                                         NULL), ==, -1);
    vma_source_unref (source);
  }
  g_rand_free (rand);
}

typedef struct {
  const char *from, *to;
} Writer;

static void *
slow_writer (void *data)
{
  const Writer *writer = data;
  g_autofree char *bytes = NULL;
  g_autofree char *final = g_strndup (writer->to, strlen (writer->to) - strlen (".dat"));
  gsize size;

  g_assert_true (g_file_get_contents (writer->from, &bytes, &size, NULL));
  int fd = open (writer->to, O_WRONLY);
  for (gsize at = 0; at < size;) {
    gsize n = MIN (size / 7 + 1, size - at);
    g_assert_cmpint (write (fd, bytes + at, n), ==, n);
    at += n;
    g_usleep (30000);
  }
  close (fd);
  g_assert_cmpint (g_rename (writer->to, final), ==, 0);
  return NULL;
}

static void
test_follow (gconstpointer data)
{
  const Case *c = data;
  g_autofree char *path = pack (c);

  if (path == NULL)
    return;
  g_autofree char *growing = g_strconcat (path, "-growing.dat", NULL);
  VmaPackedOptions options = { .follow = TRUE };
  Writer writer = { path, growing };
  pthread_t thread;

  g_assert_true (g_file_set_contents (growing, "", 0, NULL));
  VmaSource *source = open_packed (growing, c->codec, &options);
  pthread_create (&thread, NULL, slow_writer, &writer);
  check_all (source);
  pthread_join (thread, NULL);
  vma_source_unref (source);

  /* Closed while it waits, and cancelled while it waits. */
  g_assert_true (g_file_set_contents (growing, "", 0, NULL));
  source = open_packed (growing, c->codec, &options);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  guint8 byte;
  g_cancellable_cancel (cancellable);
  g_assert_cmpint (vma_source_pread (source, &byte, 1, 0, VMA_READ_DATA, cancellable, &error), ==,
                   -1);
  g_assert_error (error, VMA_ERROR, VMA_ERROR_CANCELLED);
  gint64 begun = g_get_monotonic_time ();
  vma_source_unref (source);
  g_assert_cmpint (g_get_monotonic_time () - begun, <, G_USEC_PER_SEC);
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;

  g_test_init (&argc, &argv, NULL);
  directory = g_dir_make_tmp ("vma-packed-XXXXXX", &error);
  g_assert_no_error (error);
  make_plain ();
  /* All kinds with -m slow; else some of them must do, and fewer under sanitizers and emulators. */
  guint step = g_test_slow () ? 1 : synth_scale () < 1 ? 4 : 2;
  for (guint i = 0; i < G_N_ELEMENTS (cases); i += step) {
    const struct {
      const char *name;
      GTestDataFunc test;
    } tests[] = { { "reads", test_reads }, { "resume", test_resume },
                  { "bad-sidecar", test_bad_sidecar }, { "damage", test_damage },
                  { "follow", test_follow } };
    for (guint t = 0; t < G_N_ELEMENTS (tests); t++) {
      g_autofree char *name = g_strdup_printf ("/packed/%s/%s", cases[i].name, tests[t].name);
      g_test_add_data_func (name, &cases[i], tests[t].test);
    }
  }
  int result = g_test_run ();
  g_autofree char *remove = g_strdup_printf ("rm -rf '%s'", directory);
  if (system (remove) != 0)
    g_printerr ("cannot remove %s\n", directory);
  g_free (plain);
  g_free (plain_path);
  g_free (directory);
  return result;
}
