/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checksums of plain archives: what changes is found, what did not is read, and a file of sums is never
 * trusted for more than it can prove.
 */
#include "source/checked.h"
#include "source/source-impl.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define CHUNK ((gsize) VMA_SUMS_CHUNK)
#define SIZE  (3 * CHUNK + 1000)

typedef struct {
  char *dir, *archive, *path; /* of the sums */
  guint8 *bytes;
  VmaSumsKey key;
  guint notes;
} Fixture;

static VmaSource *
open_plain (const Fixture *f)
{
  g_autoptr (GError) error = NULL;
  VmaSource *source = vma_source_open (f->archive, NULL, &error);

  g_assert_no_error (error);
  return source;
}

static void
take (Fixture *f)
{
  g_autoptr (VmaSource) source = open_plain (f);
  g_autoptr (GError) error = NULL;
  VmaSourceIdentity identity;

  g_assert_true (vma_source_identity (source, &identity, NULL));
  f->key = (VmaSumsKey){ .size = identity.size, .mtime_ns = identity.mtime_ns };
  memcpy (f->key.uuid, synth_uuid, 16);
  g_free (f->path);
  f->path = vma_sums_path (f->dir, &f->key);
  vma_sums_take (f->path, &f->key, source, NULL, NULL, NULL, &error);
  g_assert_no_error (error);
}

static void
setup (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (8);
  g_autoptr (GError) error = NULL;

  f->dir = g_dir_make_tmp ("vmafs-test-XXXXXX", &error);
  g_assert_no_error (error);
  f->archive = g_build_filename (f->dir, "archive.vma", NULL);
  f->bytes = g_malloc (SIZE);
  for (gsize i = 0; i < SIZE; i++)
    f->bytes[i] = (guint8) g_rand_int (rand);
  g_assert_true (g_file_set_contents (f->archive, (char *) f->bytes, SIZE, NULL));
  take (f);
}

static void
teardown (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_unlink (f->path);
  g_unlink (f->archive);
  g_assert_cmpint (g_rmdir (f->dir), ==, 0); /* nothing else was left */
  g_free (f->dir);
  g_free (f->archive);
  g_free (f->path);
  g_free (f->bytes);
}

/* VmaSumsNote */
static void
count_note (gpointer data, const char *message)
{
  g_assert_cmpstr (message, ==, "the checksums are damaged");
  ((Fixture *) data)->notes++;
}

static VmaSource *
open_checked (Fixture *f, VmaSums **sums_out, GError **error)
{
  VmaSums *sums = vma_sums_open (f->path, &f->key, count_note, f, error);

  if (sums_out != NULL)
    *sums_out = sums;
  return sums != NULL ? vma_checked_source_new (open_plain (f), sums) : NULL;
}

/* Keeps the time of change, as bits do that change by themselves. */
static void
write_at (const Fixture *f, gsize offset, const void *bytes, gsize size)
{
  int fd = open (f->archive, O_WRONLY | O_CLOEXEC);
  struct stat st;

  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (fstat (fd, &st), ==, 0);
  g_assert_cmpint (pwrite (fd, bytes, size, (off_t) offset), ==, (gssize) size);
  g_assert_cmpint (futimens (fd, (const struct timespec[]){ st.st_atim, st.st_mtim }), ==, 0);
  close (fd);
}

static void
flip (const Fixture *f, gsize offset)
{
  guint8 byte = f->bytes[offset] ^ 0x10;

  write_at (f, offset, &byte, 1);
}

/* Reads of all kinds; `bad` is the chunk that must not be read, or G_MAXSIZE. */
static void
check_reads (Fixture *f, VmaSource *source, gsize bad, guint32 seed, guint reads)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  g_autofree guint8 *got = g_malloc (SIZE);

  for (guint i = 0; i < reads; i++) {
    gsize offset = (gsize) g_rand_int_range (rand, 0, (gint32) SIZE);
    gsize size = (gsize) g_rand_int_range (rand, 1, i % 2 == 0 ? 5000 : (gint32) SIZE);
    gsize wanted = MIN (size, SIZE - offset);
    gboolean touches = offset / CHUNK <= bad && bad <= (offset + wanted - 1) / CHUNK;
    g_autoptr (GError) error = NULL;
    gssize n = vma_source_pread (source, got, size, offset, VMA_READ_DATA, NULL, &error);

    if (touches) {
      g_autofree char *place = g_strdup_printf ("data at %" G_GSIZE_FORMAT " to ", bad * CHUNK);
      g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
      g_assert_nonnull (strstr (error->message, place));
      g_assert_cmpint (n, ==, -1);
    } else {
      g_assert_no_error (error);
      g_assert_cmpmem (got, (gsize) n, f->bytes + offset, wanted);
    }
  }
}

static void
test_reads (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  VmaSums *sums;
  g_autoptr (VmaSource) source = open_checked (f, &sums, NULL);
  guint8 byte;

  g_assert_cmpstr (vma_source_kind (source), ==, "plain");
  g_assert_cmpuint (vma_source_size (source), ==, SIZE);
  g_assert_cmpuint (vma_sums_checked (sums), ==, 0);
  check_reads (f, source, G_MAXSIZE, 1, 200);
  g_assert_cmpuint (vma_sums_checked (sums), ==, SIZE);
  g_assert_cmpint (vma_source_pread (source, &byte, 1, SIZE, VMA_READ_DATA, NULL, NULL), ==, 0);
}

static void
test_rot (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  const gsize places[] = { 0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 777, 3 * CHUNK, SIZE - 1 };

  for (guint i = 0; i < G_N_ELEMENTS (places); i++) {
    g_autoptr (VmaSource) source = open_checked (f, NULL, NULL);
    guint8 got;

    flip (f, places[i]);
    check_reads (f, source, places[i] / CHUNK, i, 100);
    /* Headers have sums of their own. */
    g_assert_cmpint (
        vma_source_pread (source, &got, 1, places[i], VMA_READ_INDEX, NULL, NULL), ==, 1);
    g_assert_cmphex (got, ==, f->bytes[places[i]] ^ 0x10);
    write_at (f, places[i], f->bytes + places[i], 1);
    check_reads (f, source, G_MAXSIZE, i, 20); /* a bad chunk is looked at anew */
  }
}

/* What was found right is not looked at again: so a re-read costs nothing. */
static void
test_remembered (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (VmaSource) source = open_checked (f, NULL, NULL);
  g_autofree guint8 *got = g_malloc (SIZE);

  check_reads (f, source, G_MAXSIZE, 1, 100);
  flip (f, 5);
  g_assert_cmpint (vma_source_pread (source, got, 10, 0, VMA_READ_DATA, NULL, NULL), ==, 10);
}

static gboolean
opens (Fixture *f, int code)
{
  g_autoptr (GError) error = NULL;
  VmaSource *source = open_checked (f, NULL, &error);

  if (source != NULL)
    vma_source_unref (source);
  else if (code >= 0)
    g_assert_error (error, VMA_ERROR, code);
  else
    g_assert_no_error (error);
  return source != NULL;
}

static void
test_stale (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  VmaSumsKey key = f->key;

  f->key.mtime_ns++;
  g_assert_false (opens (f, VMA_ERROR_INVALID));
  f->key = key;
  f->key.size--;
  g_assert_false (opens (f, VMA_ERROR_INVALID));
  f->key = key;
  f->key.uuid[3] ^= 1;
  g_assert_false (opens (f, VMA_ERROR_INVALID));
  f->key = key;
  g_assert_true (opens (f, -1));
  g_unlink (f->path);
  g_assert_false (opens (f, -1)); /* none is no error */
  g_assert_false (vma_sums_verify (f->path, NULL));
}

/* No byte of the file can be changed, added or taken away so that a good archive is not read, or unnoticed. */
static void
test_hostile (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autofree char *file = NULL;
  gsize size;

  g_assert_true (g_file_get_contents (f->path, &file, &size, NULL));
  g_assert_true (vma_sums_verify (f->path, NULL));
  for (gsize i = 0; i < 2 * size + 1; i++) {
    g_autofree char *changed = g_malloc0 (size + 1);
    g_autoptr (GError) error = NULL;

    memcpy (changed, file, size);
    if (i < size)
      changed[i] ^= 0x40;
    g_assert_true (
        g_file_set_contents (f->path, changed, (gssize) (i < size ? size : i - size), NULL)
        || i == size);
    if (i == 2 * size) /* one more than there were */
      g_assert_true (g_file_set_contents (f->path, changed, (gssize) size + 1, NULL));
    g_assert_false (vma_sums_verify (f->path, &error));
    g_assert_nonnull (error);
    g_clear_error (&error);
    f->notes = 0;
    VmaSource *source = open_checked (f, NULL, &error);
    if (source == NULL) {
      g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
      continue;
    }
    check_reads (f, source, G_MAXSIZE, 3, 10);
    g_assert_cmpuint (f->notes, ==, 1);
    vma_source_unref (source);
  }
}

typedef struct {
  Fixture *f;
  VmaSource *source;
  guint32 seed;
} Reader;

static void *
read_in_thread (void *data)
{
  Reader *reader = data;

  check_reads (reader->f, reader->source, 1, reader->seed, 100);
  return NULL;
}

static void
test_threads (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  VmaSums *sums;
  g_autoptr (VmaSource) source = open_checked (f, &sums, NULL);
  Reader readers[4];
  pthread_t threads[4];

  flip (f, CHUNK + 4);
  for (guint i = 0; i < 4; i++) {
    readers[i] = (Reader){ f, source, i };
    pthread_create (&threads[i], NULL, read_in_thread, &readers[i]);
  }
  for (guint i = 0; i < 4; i++)
    pthread_join (threads[i], NULL);
  g_assert_cmpuint (vma_sums_checked (sums), ==, SIZE - CHUNK);
}

/* VmaSumsProgress */
static void
touch (gpointer data, guint64 done G_GNUC_UNUSED)
{
  g_assert_cmpint (utimensat (AT_FDCWD, ((Fixture *) data)->archive,
                              (const struct timespec[]){ { 1, 0 }, { 1, 0 } }, 0),
                   ==, 0);
}

/* VmaSumsProgress */
static void
cancel (gpointer data, guint64 done)
{
  if (done > CHUNK)
    g_cancellable_cancel (data);
}

static void
test_taking (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (VmaSource) source = open_plain (f);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;

  g_unlink (f->path);
  g_assert_false (
      vma_sums_take (f->path, &f->key, source, cancel, cancellable, cancellable, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_CANCELLED);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);
  g_clear_error (&error);
  g_assert_false (vma_sums_take (f->path, &f->key, source, touch, f, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  g_assert_cmpuint (util_files_in (f->dir), ==, 1);
}

/* A source of zeros, too large to be a file of a test. */
typedef struct {
  VmaSource base;
  guint64 size, mark; /* a byte here is no zero */
} Zeros;

static gssize
zeros_pread (VmaSource *source, void *buffer, gsize size, guint64 offset,
             VmaReadHint hint G_GNUC_UNUSED, GCancellable *cancellable G_GNUC_UNUSED,
             GError **error G_GNUC_UNUSED)
{
  const Zeros *zeros = (const Zeros *) source;

  size = (gsize) MIN (size, zeros->size - offset);
  memset (buffer, 0, size);
  if (zeros->mark >= offset && zeros->mark - offset < size)
    ((guint8 *) buffer)[zeros->mark - offset] = 1;
  return (gssize) size;
}

static gboolean
zeros_identity (VmaSource *source, VmaSourceIdentity *identity, GError **error G_GNUC_UNUSED)
{
  *identity = (VmaSourceIdentity){ .size = ((const Zeros *) source)->size, .mtime_ns = 7 };
  return TRUE;
}

static void
zeros_free (VmaSource *source)
{
  g_free (source);
}

static VmaSource *
zeros_new (guint64 size, guint64 mark)
{
  static const VmaSourceOps ops = {
    .kind = "zeros", .pread = zeros_pread, .identity = zeros_identity, .free = zeros_free
  };
  Zeros *zeros = g_new0 (Zeros, 1);

  zeros->base.ops = &ops;
  atomic_init (&zeros->base.refs, 1);
  zeros->size = size;
  zeros->mark = mark;
  return &zeros->base;
}

/* A source with a bit changed at `mark`, beside the sums of one without. */
static VmaSource *
open_zeros (Fixture *f, guint64 mark, VmaSums **sums)
{
  g_autoptr (GError) error = NULL;

  *sums = vma_sums_open (f->path, &f->key, count_note, f, &error);
  g_assert_no_error (error);
  return vma_checked_source_new (zeros_new (f->key.size, mark), *sums);
}

/* More than a group of sums: one of them damaged, and the others go on to be checked. */
static void
test_groups (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  const guint64 group = 4096 * (guint64) CHUNK, size = group + CHUNK + 5;
  g_autoptr (VmaSource) zeros = zeros_new (size, G_MAXUINT64);
  guint8 byte = 1, got[16];
  g_autoptr (GError) error = NULL;
  VmaSums *sums;

  if (synth_scale () < 1)
    return; /* a GiB is to be summed */
  g_unlink (f->path);
  g_free (f->path);
  f->key.size = size;
  f->key.mtime_ns = 7;
  f->path = vma_sums_path (f->dir, &f->key);
  vma_sums_take (f->path, &f->key, zeros, NULL, NULL, NULL, &error);
  g_assert_no_error (error);
  {
    g_autoptr (VmaSource) source = open_zeros (f, group + CHUNK, &sums);
    g_assert_cmpint (vma_source_pread (source, got, 16, group - 8, VMA_READ_DATA, NULL, NULL), ==,
                     16);
    g_assert_cmpuint (vma_sums_checked (sums), ==, 2 * CHUNK);
    g_assert_cmpint (
        vma_source_pread (source, got, 5, group + CHUNK, VMA_READ_DATA, NULL, &error), ==, -1);
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
  }

  int fd = open (f->path, O_WRONLY | O_CLOEXEC);
  g_assert_cmpint (pwrite (fd, &byte, 1, 100), ==, 1);
  close (fd);
  g_autoptr (VmaSource) source = open_zeros (f, group + CHUNK, &sums);
  f->notes = 0;
  for (guint i = 0; i < 3; i++)
    g_assert_cmpint (vma_source_pread (source, got, 8, i * CHUNK, VMA_READ_DATA, NULL, NULL), ==, 8);
  g_assert_cmpuint (f->notes, ==, 1);
  g_assert_cmpint (vma_source_pread (source, got, 5, group + CHUNK, VMA_READ_DATA, NULL, NULL), ==,
                   -1);
  g_assert_cmpuint (vma_sums_checked (sums), ==, 0);
}

/* Names that lead nowhere, or to what is no file of sums. */
static void
test_places (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autofree char *link = g_build_filename (f->dir, "link", NULL);
  g_autofree char *below = g_build_filename (f->archive, "sums", NULL);
  const char *const bad[] = { link, f->dir };
  VmaSumsInfo info;

  g_assert_true (vma_sums_info (f->path, &info, NULL));
  g_assert_cmpuint (info.key.size, ==, SIZE);
  g_assert_cmpuint (info.file_size, ==, 56 + 5 * 8);
  g_assert_cmpint (symlink (f->path, link), ==, 0);
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL, unread = NULL, untold = NULL;
    g_assert_null (vma_sums_open (bad[i], &f->key, NULL, NULL, &error));
    g_assert_nonnull (error);
    g_assert_false (vma_sums_verify (bad[i], &unread));
    g_assert_nonnull (unread);
    g_assert_false (vma_sums_info (bad[i], &info, &untold));
    g_assert_nonnull (untold);
  }
  g_autoptr (GError) error = NULL;
  g_assert_null (vma_sums_open (below, &f->key, NULL, NULL, &error));
  g_assert_no_error (error); /* there are none */
  g_assert_false (vma_sums_verify (below, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  g_unlink (link);
}

/* A header that is right by its own sum, of a file so large that its tables would be, too. */
static void
test_too_large (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (VmaSource) source = open_plain (f);
  g_autoptr (GError) error = NULL;
  g_autofree char *file = NULL;
  gsize size;

  g_assert_true (g_file_get_contents (f->path, &file, &size, NULL));
  f->key.size = (UINT64_C (1) << 50) + 1;
  vma_put_le64 ((guint8 *) file + 24, f->key.size);
  vma_put_le64 ((guint8 *) file + 48, XXH3_64bits (file, 48));
  g_assert_true (g_file_set_contents (f->path, file, (gssize) size, NULL));
  g_assert_false (opens (f, VMA_ERROR_DAMAGED));
  g_assert_false (vma_sums_verify (f->path, NULL));
  g_assert_false (vma_sums_take (f->path, &f->key, source, NULL, NULL, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED);
}

/* Damaged sums, and nobody who wants to know. */
static void
test_untold (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autofree char *file = NULL;
  g_autoptr (GError) error = NULL;
  gsize size;
  guint64 wanted;

  g_assert_true (g_file_get_contents (f->path, &file, &size, NULL));
  file[60] ^= 1;
  g_assert_true (g_file_set_contents (f->path, file, (gssize) size, NULL));
  g_autoptr (VmaSums) sums = vma_sums_open (f->path, &f->key, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (vma_sums_size (sums), ==, SIZE);
  g_assert_false (vma_sums_must_check (sums, 0, &wanted));
}

static void
refuse_to_take (Fixture *f, const char *path, VmaSource *source, int code, const char *message)
{
  g_autoptr (GError) error = NULL;
  guint before = util_files_in (f->dir);

  g_assert_false (vma_sums_take (path, &f->key, source, NULL, NULL, NULL, &error));
  if (code >= 0)
    g_assert_error (error, VMA_ERROR, code);
  g_assert_nonnull (error);
  g_assert_nonnull (strstr (error->message, message));
  g_assert_cmpuint (util_files_in (f->dir), ==, before); /* nothing was left */
}

/* Where sums cannot be put: nothing is left, and what was there still is. */
static void
test_untaken (Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
  g_autoptr (VmaSource) source = open_plain (f);
  g_autoptr (VmaSource) other = zeros_new (SIZE, G_MAXUINT64); /* of another time */
  g_autofree char *below = g_build_filename (f->archive, "dir", "sums", NULL);
  g_autofree char *name = g_strnfill (250, 'n');
  g_autofree char *taken = g_build_filename (f->dir, "taken", NULL);
  g_autofree char *too_long = g_build_filename (f->dir, name, NULL); /* with what is put behind */
  struct rlimit old, limit;
  VmaSumsKey key = f->key;

  refuse_to_take (f, below, source, -1, "cannot make ");
  refuse_to_take (f, too_long, source, -1, "cannot write the checksums in ");
  g_assert_cmpint (g_mkdir (taken, 0700), ==, 0);
  refuse_to_take (f, taken, source, -1, "cannot rename the checksums to ");
  g_assert_cmpint (g_rmdir (taken), ==, 0);
  refuse_to_take (f, f->path, other, VMA_ERROR_IO, "the archive has changed while it was read");
  f->key.size += 1; /* it ends before */
  refuse_to_take (f, f->path, source, -1, "");
  f->key = key;

  signal (SIGXFSZ, SIG_IGN);
  g_assert_cmpint (getrlimit (RLIMIT_FSIZE, &old), ==, 0);
  for (guint i = 0; i < 2; i++) { /* the sums of a group, then those of groups, do not fit */
    limit = (struct rlimit){ i == 0 ? 57 : 90, old.rlim_max };
    g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &limit), ==, 0);
    refuse_to_take (f, f->path, source, -1, "cannot write the checksums");
    g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &old), ==, 0);
  }
  g_assert_true (vma_sums_verify (f->path, NULL));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, function) g_test_add (name, Fixture, NULL, setup, function, teardown)
  ADD ("/sums/reads", test_reads);
  ADD ("/sums/rot", test_rot);
  ADD ("/sums/remembered", test_remembered);
  ADD ("/sums/stale", test_stale);
  ADD ("/sums/hostile", test_hostile);
  ADD ("/sums/threads", test_threads);
  ADD ("/sums/taking", test_taking);
  ADD ("/sums/groups", test_groups);
  ADD ("/sums/places", test_places);
  ADD ("/sums/too-large", test_too_large);
  ADD ("/sums/untold", test_untold);
  ADD ("/sums/untaken", test_untaken);
  return g_test_run ();
}
