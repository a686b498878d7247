/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sources of bytes: files, files that grow, pipes, and what is none of these. */
#include "source/source.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir;

static char *
path_of (const char *name)
{
  return g_build_filename (dir, name, NULL);
}

static void
append (int fd, guint8 byte, gsize n)
{
  g_autofree guint8 *bytes = g_malloc (n);

  memset (bytes, byte, n);
  g_assert_cmpint (write (fd, bytes, n), ==, (gssize) n);
}

static VmaSource *
open_source (const char *path, gboolean follow)
{
  const VmaSourceOptions options = { .follow = follow };
  g_autoptr (GError) error = NULL;
  VmaSource *source = vma_source_open (path, &options, &error);

  g_assert_no_error (error);
  return source;
}

static void
refused (const char *path, int code, const char *text)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (vma_source_open (path, NULL, &error));
  g_assert_error (error, VMA_ERROR, code);
  if (strstr (error->message, text) == NULL)
    g_error ("'%s' is not in: %s", text, error->message);
}

/* --- what is no archive at all ----------------------------------------------------------------- */

static void
test_refused (void)
{
  g_autofree char *nothing = path_of ("nothing"), *loop = path_of ("loop");

  refused (nothing, VMA_ERROR_IO, g_strerror (ENOENT));
  refused (dir, VMA_ERROR_IO, g_strerror (EISDIR));
  g_assert_cmpint (symlink (loop, loop), ==, 0);
  refused (loop, VMA_ERROR_IO, g_strerror (ELOOP));
  g_unlink (loop);
}

/* A compressed archive in a pipe cannot be gone back in, and says what to do. */
static void
test_compressed_pipe (void)
{
  static const guint8 gzip[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3 };
  int fds[2];

  g_assert_cmpint (pipe (fds), ==, 0);
  g_assert_cmpint (write (fds[1], gzip, sizeof gzip), ==, sizeof gzip);
  close (fds[1]);
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fds[0]);
  refused (path, VMA_ERROR_UNSUPPORTED, "gzip");
  close (fds[0]);
}

/* --- files ------------------------------------------------------------------------------------- */

static void
test_file (void)
{
  g_autofree char *path = path_of ("file");
  g_autoptr (GError) error = NULL, cut = NULL;
  VmaSourceIdentity a, b;
  guint8 buffer[300];

  int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  append (fd, 7, 1000);
  g_autoptr (VmaSource) source = open_source (path, FALSE);
  g_autoptr (VmaSource) again = vma_source_ref (source);
  g_assert_true (again == source);
  g_assert_cmpuint (vma_source_size (source), ==, 1000);
  g_assert_false (vma_source_is_sequential (source));
  g_assert_false (vma_source_is_remote (source));
  g_assert_cmpstr (vma_source_kind (source), ==, "plain");
  vma_source_interrupt (source); /* nothing to be interrupted */
  g_assert_cmpint (vma_source_pread (source, buffer, 300, 900, VMA_READ_DATA, NULL, &error), ==, 100);
  g_assert_cmpint (vma_source_pread (source, buffer, 300, 1000, VMA_READ_DATA, NULL, &error), ==, 0);
  g_assert_cmpint (vma_source_pread (source, buffer, 300, G_MAXUINT64 - 10, VMA_READ_INDEX, NULL,
                                     &error), ==, 0);
  g_assert_no_error (error);
  g_assert_false (vma_source_pread_full (source, buffer, 300, 900, VMA_READ_DATA, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
  g_assert_nonnull (strstr (error->message, "at 1000"));
  g_clear_error (&error);

  /* Another content is another identity; the same is the same. */
  g_assert_true (vma_source_identity (source, &a, &error));
  g_assert_true (vma_source_identity (source, &b, &error));
  g_assert_cmpmem (&a, sizeof a, &b, sizeof b);
  g_assert_cmpint (pwrite (fd, "x", 1, 999), ==, 1);
  g_assert_true (vma_source_identity (source, &b, &error));
  g_assert_cmpint (memcmp (a.tail, b.tail, sizeof a.tail), !=, 0);

  /* Cut off under us: never zeros. */
  g_assert_cmpint (ftruncate (fd, 950), ==, 0);
  g_assert_cmpint (vma_source_pread (source, buffer, 300, 900, VMA_READ_DATA, NULL, &cut), ==, -1);
  g_assert_error (cut, VMA_ERROR, VMA_ERROR_IO);
  g_assert_nonnull (strstr (cut->message, "cut off at 950"));
  close (fd);
  g_unlink (path);
}

/* --- files that grow --------------------------------------------------------------------------- */

typedef struct {
  VmaSource *source;
  GCancellable *cancellable;
  guint8 buffer[2000];
  gssize got;
  GError *error;
} Reader;

static void *
read_behind (void *data)
{
  Reader *reader = data;

  reader->got = vma_source_pread (reader->source, reader->buffer, sizeof reader->buffer, 500,
                                  VMA_READ_DATA, reader->cancellable, &reader->error);
  return NULL;
}

/* Ways in which a file comes to its end. */
typedef enum { GROWS, CLOSED, RENAMED, DELETED, CANCELLED } End;

/* FALSE where this system does not tell who writes. */
static gboolean
follow (const char *name, End end)
{
  g_autofree char *path = path_of (name), *final = path_of ("final");
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Reader reader = { .cancellable = cancellable };
  pthread_t thread;
  gboolean known = TRUE;

  int fd = open (path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  append (fd, 1, 1000);
  reader.source = open_source (path, TRUE);
  g_assert_cmpuint (vma_source_size (reader.source), ==, VMA_SIZE_UNKNOWN);
  pthread_create (&thread, NULL, read_behind, &reader);
  g_usleep (50000);
  append (fd, 2, 1000);
  g_usleep (50000);
  g_assert_cmpuint (vma_source_size (reader.source), ==, VMA_SIZE_UNKNOWN);
  switch (end) {
  case GROWS:
    append (fd, 3, 1000);
    break;
  case CLOSED:
    close (fd);
    fd = -1;
    for (guint i = 0; i < 500 && vma_source_size (reader.source) == VMA_SIZE_UNKNOWN; i++)
      g_usleep (10000);
    known = vma_source_size (reader.source) != VMA_SIZE_UNKNOWN;
    if (!known)
      g_cancellable_cancel (cancellable);
    break;
  case RENAMED:
    g_assert_cmpint (rename (path, final), ==, 0);
    break;
  case DELETED:
    g_assert_cmpint (unlink (path), ==, 0);
    break;
  case CANCELLED:
    g_cancellable_cancel (cancellable);
    break;
  }
  pthread_join (thread, NULL);
  if (end == CANCELLED || !known) {
    g_assert_cmpint (reader.got, ==, -1);
    g_assert_error (reader.error, VMA_ERROR, VMA_ERROR_CANCELLED);
    g_clear_error (&reader.error);
  } else {
    g_assert_no_error (reader.error);
    g_assert_cmpint (reader.got, ==, end == GROWS ? 2000 : 1500);
    for (gssize i = 0; i < reader.got; i++)
      g_assert_cmpuint (reader.buffer[i], ==, (i + 500) / 1000 + 1);
    if (end != GROWS)
      g_assert_cmpuint (vma_source_size (reader.source), ==, 2000);
  }
  vma_source_unref (reader.source);
  if (fd >= 0)
    close (fd);
  g_unlink (path);
  g_unlink (final);
  return known;
}

/* As vzdump names what is not finished. */
static void
test_follow_dat (void)
{
  follow ("growing.vma.dat", GROWS);
  follow ("growing.vma.dat", RENAMED);
  follow ("growing.vma.dat", DELETED);
  follow ("growing.vma.dat", CANCELLED);
}

/* Under any other name: as long as somebody has it open for writing. */
static void
test_follow_writer (void)
{
  if (!follow ("growing.vma", CLOSED)) {
    g_test_message ("there are no leases on this file system");
    return;
  }
  follow ("growing.vma", GROWS);
  follow ("growing.vma", DELETED);
  follow ("growing.vma", CANCELLED);
}

/* --- pipes ------------------------------------------------------------------------------------- */

typedef struct {
  int fd;
} Feed;

static void *
feed (void *data)
{
  const Feed *f = data;

  for (guint i = 0; i < 40; i++) {
    append (f->fd, (guint8) i, 10000);
    g_usleep (500);
  }
  close (f->fd);
  return NULL;
}

static void
test_pipe (void)
{
  g_autofree guint8 *buffer = g_malloc (400000);
  g_autoptr (GError) error = NULL, back = NULL, cancelled = NULL;
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  pthread_t thread;
  int fds[2];

  g_assert_cmpint (pipe (fds), ==, 0);
  Feed f = { fds[1] };
  pthread_create (&thread, NULL, feed, &f);
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fds[0]);
  g_autoptr (VmaSource) source = open_source (path, FALSE);
  close (fds[0]);
  g_assert_true (vma_source_is_sequential (source));
  g_assert_cmpuint (vma_source_size (source), ==, VMA_SIZE_UNKNOWN);

  /* Small, over a gap, and more than any buffer. */
  g_assert_cmpint (vma_source_pread (source, buffer, 100, 0, VMA_READ_DATA, NULL, &error), ==, 100);
  g_assert_cmpint (vma_source_pread (source, buffer, 10, 15000, VMA_READ_DATA, NULL, &error), ==, 10);
  g_assert_cmpuint (buffer[0], ==, 1);
  g_assert_cmpint (vma_source_pread (source, buffer, 300000, 20000, VMA_READ_DATA, NULL, &error), ==,
                   300000);
  g_assert_no_error (error);
  for (guint i = 0; i < 300000; i++)
    g_assert_cmpuint (buffer[i], ==, 2 + i / 10000);

  g_assert_cmpint (vma_source_pread (source, buffer, 10, 319999, VMA_READ_DATA, NULL, &back), ==, -1);
  g_assert_error (back, VMA_ERROR, VMA_ERROR_UNSUPPORTED);
  g_cancellable_cancel (cancellable);
  g_assert_cmpint (vma_source_pread (source, buffer, 10, 330000, VMA_READ_DATA, cancellable,
                                     &cancelled), ==, -1);
  g_assert_error (cancelled, VMA_ERROR, VMA_ERROR_CANCELLED);

  /* Its end is its size. */
  g_assert_cmpint (vma_source_pread (source, buffer, 400000, 390000, VMA_READ_DATA, NULL, &error), ==,
                   10000);
  g_assert_cmpint (vma_source_pread (source, buffer, 10, 500000, VMA_READ_DATA, NULL, &error), ==, 0);
  g_assert_no_error (error);
  g_assert_cmpuint (vma_source_size (source), ==, 400000);
  pthread_join (thread, NULL);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  dir = g_dir_make_tmp ("vmafs-test-XXXXXX", NULL);
  g_test_add_func ("/source/refused", test_refused);
  g_test_add_func ("/source/compressed-pipe", test_compressed_pipe);
  g_test_add_func ("/source/file", test_file);
  g_test_add_func ("/source/follow-dat", test_follow_dat);
  g_test_add_func ("/source/follow-writer", test_follow_writer);
  g_test_add_func ("/source/pipe", test_pipe);
  int status = g_test_run ();
  g_assert_cmpint (g_rmdir (dir), ==, 0);
  g_free (dir);
  return status;
}
