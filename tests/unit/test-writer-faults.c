/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writer where each call of the system fails once: what cannot be had for an archive is an error, and then
 * there is nothing with the archive's name; what need not be is done without; an interrupted call is
 * made again.
 *
 * The linker puts the functions below between the writer and the system (--wrap).
 */
#include "tests/unit/util.h"

#include "vma/error.h"
#include "writer/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (20 * (guint64) VMA_CLUSTER_SIZE + 4096)

/* --- calls that fail --------------------------------------------------------------------------- */

static const char *wanted; /* the call that fails; NULL: none does */
static int wanted_errno;
static atomic_uint calls;  /* of that one */
static guint fail_at;

static gboolean
fails (const char *name)
{
  if (wanted == NULL || strcmp (wanted, name) != 0 || atomic_fetch_add (&calls, 1) + 1 != fail_at)
    return FALSE;
  errno = wanted_errno;
  return TRUE;
}

#define WRAP(type, name, parameters, arguments)                                                     \
  type __real_##name parameters;                                                                    \
  type __wrap_##name parameters;                                                                    \
  type __wrap_##name parameters                                                                     \
  {                                                                                                 \
    return fails (#name) ? -1 : __real_##name arguments;                                            \
  }
WRAP (ssize_t, pwritev64, (int fd, const struct iovec *iov, int n, off_t at), (fd, iov, n, at))
WRAP (ssize_t, pread64, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
WRAP (ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
WRAP (int, fsync, (int fd), (fd))
WRAP (int, ftruncate64, (int fd, off_t size), (fd, size))
WRAP (int, fstat64, (int fd, struct stat *st), (fd, st))
WRAP (int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
WRAP (int, link, (const char *from, const char *to), (from, to))
WRAP (int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
      (a, from, b, to, flags))
WRAP (int, pipe2, (int fds[2], int flags), (fds, flags))
WRAP (pid_t, fork, (void), ())
WRAP (int, eventfd, (unsigned n, int flags), (n, flags))
WRAP (int, poll, (struct pollfd *fds, nfds_t n, int timeout), (fds, n, timeout))
WRAP (int, waitid, (idtype_t type, id_t id, siginfo_t *info, int options), (type, id, info, options))
WRAP (int, access, (const char *path, int mode), (path, mode))

/* The descriptor is closed all the same. */
int __real_close (int fd);
int __wrap_close (int fd);
int
__wrap_close (int fd)
{
  gboolean failed = fails ("close");

  __real_close (fd);
  if (failed)
    errno = wanted_errno;
  return failed ? -1 : 0;
}

int __real_open64 (const char *path, int flags, ...);
int __wrap_open64 (const char *path, int flags, ...);
int
__wrap_open64 (const char *path, int flags, ...)
{
  va_list list;

  va_start (list, flags);
  mode_t mode = va_arg (list, mode_t);
  va_end (list);
  return fails ("open64") ? -1 : __real_open64 (path, flags, mode);
}

int __real_pthread_create (pthread_t *thread, const pthread_attr_t *attr, void *(*run) (void *),
                           void *data);
int __wrap_pthread_create (pthread_t *thread, const pthread_attr_t *attr, void *(*run) (void *),
                           void *data);
int
__wrap_pthread_create (pthread_t *thread, const pthread_attr_t *attr, void *(*run) (void *),
                       void *data)
{
  return fails ("pthread_create") ? EAGAIN : __real_pthread_create (thread, attr, run, data);
}

/* --- archives ---------------------------------------------------------------------------------- */

static char *dir;

static void
fill (guint64 cluster, guint8 *data)
{
  memset (data, 0, VMA_CLUSTER_SIZE);
  for (guint i = 0; cluster % 3 != 0 && i < VMA_CLUSTER_SIZE; i += cluster % 3 == 1 ? 1 : 8192)
    data[i] = (guint8) (cluster * 31 + i / 7 + 1);
}

typedef struct {
  const char *name;
  VmaWriterOptions options;
  enum { FILE_TARGET, COMMAND_TARGET, DESCRIPTOR_TARGET } target;
} Variant;

static const Variant variants[] = {
  { "file", { .ctime = 1, .slots = 3 }, FILE_TARGET },
  { "readable", { .ctime = 1, .slots = 3, .readable = TRUE }, FILE_TARGET },
  { "zstd", { .ctime = 1, .compression = VMA_COMPRESS_ZSTD, .threads = 3 }, FILE_TARGET },
  { "lz4", { .ctime = 1, .compression = VMA_COMPRESS_LZ4, .threads = 1 }, FILE_TARGET },
  { "command", { .ctime = 1 }, COMMAND_TARGET },
  { "descriptor", { .ctime = 1 }, DESCRIPTOR_TARGET },
};

/* Reads a cluster back where that is possible. */
static gboolean
read_back (VmaWriter *writer, guint8 id, guint64 cluster, GError **error)
{
  g_autofree guint8 *got = g_malloc (VMA_CLUSTER_SIZE), *right = g_malloc (VMA_CLUSTER_SIZE);

  if (!vma_writer_is_readable (writer))
    return TRUE;
  int n = vma_writer_read_cluster (writer, id, cluster, got, error);
  if (n < 0)
    return FALSE;
  fill (cluster, right);
  g_assert_cmpint (n, ==, 1);
  g_assert_cmpmem (got, VMA_CLUSTER_SIZE, right, VMA_CLUSTER_SIZE);
  return TRUE;
}

static gboolean
write_archive (const Variant *variant, const char *target, GError **error)
{
  g_autoptr (VmaWriter) writer = vma_writer_open (target, &variant->options, error);
  g_autofree guint8 *data = g_malloc (VMA_CLUSTER_SIZE);
  guint64 clusters = SIZE / VMA_CLUSTER_SIZE + 1;

  if (writer == NULL || !vma_writer_add_config (writer, "a.conf", (const guint8 *) "x", 1, error))
    return FALSE;
  guint8 id = vma_writer_register_stream (writer, "drive-scsi0", SIZE, error);
  if (id == 0)
    return FALSE;
  for (guint64 cluster = 0; cluster < clusters; cluster++) {
    fill (cluster, data);
    if (cluster == clusters - 1)
      memset (data + 4096, 0, VMA_CLUSTER_SIZE - 4096);
    if (!vma_writer_dump (writer, id, cluster, 1, data, error)
        || (cluster > 10 && !read_back (writer, id, cluster - 10, error)))
      return FALSE;
  }
  return vma_writer_close_stream (writer, id, error) && vma_writer_sync (writer, error)
         && read_back (writer, id, 1, error) && vma_writer_complete (writer, error);
}

static void
check_archive (const char *path)
{
  g_autofree guint8 *right = g_malloc (VMA_CLUSTER_SIZE);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = util_open (path, FALSE, &error);

  g_assert_no_error (error);
  g_autoptr (GByteArray) disk = util_read_disk (archive, 1, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (disk->len, ==, SIZE);
  for (guint64 at = 0; at < SIZE; at += VMA_CLUSTER_SIZE) {
    fill (at / VMA_CLUSTER_SIZE, right);
    g_assert_cmpmem (disk->data + at, MIN (VMA_CLUSTER_SIZE, SIZE - at), right,
                     MIN (VMA_CLUSTER_SIZE, SIZE - at));
  }
}

static void
check_empty (void)
{
  g_autoptr (GDir) opened = g_dir_open (dir, 0, NULL);
  const char *name = g_dir_read_name (opened);

  if (name != NULL)
    g_error ("%s was left behind", name);
}

/* One archive, with one fault.  FALSE where it was not met; *ok tells whether there is an archive. */
static gboolean
attempt (const Variant *variant, const char *call, int errnum, guint n, gboolean *ok)
{
  g_autofree char *path = g_build_filename (dir, "x.vma", NULL);
  g_autofree char *target = g_strdup (path);
  g_autoptr (GError) error = NULL;
  int fd = -1;

  if (variant->target == COMMAND_TARGET) {
    g_free (target);
    target = g_strdup_printf ("exec:cat >%s", path);
  } else if (variant->target == DESCRIPTOR_TARGET) {
    fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_free (target);
    target = g_strdup_printf ("fd:%d", fd);
  }
  atomic_store (&calls, 0);
  fail_at = n;
  wanted_errno = errnum;
  wanted = call;
  *ok = write_archive (variant, target, &error);
  wanted = NULL;

  g_assert_true (*ok == (error == NULL));
  if (error != NULL && error->domain != VMA_ERROR)
    g_error ("%s: %s", call, error->message);
  if (*ok)
    check_archive (path);
  else if (variant->target == FILE_TARGET)
    check_empty ();
  g_unlink (path);
  if (fd >= 0)
    close (fd);
  check_empty ();
  return atomic_load (&calls) >= n;
}

/* How the writer takes a fault. */
typedef enum { MAY_FAIL, NOT_NOTICED } Taken;

static void
try_all (const char *call, int errnum, Taken taken)
{
  for (guint i = 0; i < G_N_ELEMENTS (variants); i++) {
    gboolean ok, met = TRUE;

    for (guint n = 1; met && n < 1000; n++) {
      met = attempt (&variants[i], call, errnum, n, &ok);
      if (!ok && (taken == NOT_NOTICED || !met))
        g_error ("%s: call %u of %s: %s was noticed", variants[i].name, n, call,
                 g_strerror (errnum));
    }
  }
}

static void
test_errors (void)
{
  static const char *const names[] = { "pwritev64", "pread64", "write", "fsync", "ftruncate64",
                                       "fstat64", "pipe2", "fork", "eventfd", "poll", "close",
                                       "waitid", "pthread_create", "open64", "linkat" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    try_all (names[i], EIO, MAY_FAIL);
}

static void
test_interrupted (void)
{
  static const char *const names[] = { "pwritev64", "pread64", "write", "poll", "close", "waitid" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    try_all (names[i], EINTR, NOT_NOTICED);
}

/* File systems without unnamed files; systems without /proc. */
static void
test_no_unnamed_files (void)
{
  static const int reasons[] = { EOPNOTSUPP, EISDIR, EINVAL, ENOSYS };
  gboolean ok;

  for (guint i = 0; i < G_N_ELEMENTS (reasons); i++) {
    g_assert_true (attempt (&variants[0], "open64", reasons[i], 1, &ok));
    g_assert_true (ok);
  }
  g_assert_true (attempt (&variants[0], "access", ENOENT, 1, &ok));
  g_assert_true (ok);
}

/* Somebody else was quicker with the name. */
static void
test_name_taken (void)
{
  gboolean ok;

  g_assert_true (attempt (&variants[0], "linkat", EEXIST, 1, &ok));
  g_assert_false (ok);
}

/* What cannot be read back at all. */
static void
test_read_back_misuse (void)
{
  g_autofree char *path = g_build_filename (dir, "x.vma", NULL);
  g_autofree guint8 *data = g_malloc0 (VMA_CLUSTER_SIZE);
  VmaWriterOptions options = { .ctime = 1, .slots = 60, .readable = TRUE };
  g_autoptr (GError) error = NULL, beyond = NULL, unknown = NULL;
  g_autoptr (VmaWriter) writer = vma_writer_open (path, &options, &error);

  g_assert_no_error (error);
  guint8 id = vma_writer_register_stream (writer, "disk", 2 * VMA_CLUSTER_SIZE, &error);
  g_assert_cmpint (vma_writer_read_cluster (writer, id, 0, data, &error), ==, 0);
  g_assert_cmpint (vma_writer_read_cluster (writer, id, 2, data, &beyond), ==, -1);
  g_assert_error (beyond, VMA_ERROR, VMA_ERROR_INVALID);
  g_assert_cmpint (vma_writer_read_cluster (writer, id + 1, 0, data, &unknown), ==, -1);
  g_assert_error (unknown, VMA_ERROR, VMA_ERROR_INVALID);
  g_assert_no_error (error);
}

/* After a failure all calls say which, and what was written before can be read back. */
static guint
fail_after (guint n)
{
  g_autofree char *path = g_build_filename (dir, "x.vma", NULL);
  g_autofree guint8 *data = g_malloc (VMA_CLUSTER_SIZE), *got = g_malloc (VMA_CLUSTER_SIZE);
  VmaWriterOptions options = { .ctime = 1, .slots = 1, .readable = TRUE };
  g_autoptr (GError) error = NULL, again = NULL, synced = NULL, completed = NULL;
  g_autoptr (VmaWriter) writer = vma_writer_open (path, &options, &error);
  guint64 failed = 0;
  guint lost = 0;

  guint8 id = vma_writer_register_stream (writer, "disk", 64 * VMA_CLUSTER_SIZE, &error);
  g_assert_no_error (error);
  atomic_store (&calls, 0);
  fail_at = n;
  wanted_errno = ENOSPC;
  wanted = "pwritev64";
  for (guint64 cluster = 1; failed == 0 && cluster < 60; cluster++) {
    fill (cluster * 3 + 1, data);
    if (!vma_writer_dump (writer, id, cluster, 1, data, &error))
      failed = cluster;
  }
  wanted = NULL;
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  g_assert_false (vma_writer_dump (writer, id, 60, 1, data, &again));
  g_assert_cmpstr (again->message, ==, error->message);
  g_assert_false (vma_writer_sync (writer, &synced));
  g_assert_false (vma_writer_complete (writer, &completed));
  for (guint64 cluster = 1; cluster <= failed; cluster++) {
    g_autoptr (GError) reading = NULL;
    int there = vma_writer_read_cluster (writer, id, cluster, got, &reading);
    fill (cluster * 3 + 1, data);
    if (there == 1)
      g_assert_cmpmem (got, VMA_CLUSTER_SIZE, data, VMA_CLUSTER_SIZE);
    else {
      g_assert_cmpint (there, ==, -1);
      g_assert_cmpstr (reading->message, ==, error->message);
      lost++;
    }
  }
  g_assert_cmpuint (lost, <, failed);
  g_clear_pointer (&writer, vma_writer_free);
  check_empty ();
  return lost;
}

static void
test_after_failure (void)
{
  guint lost = 0;

  for (guint n = 6; n < 16; n++)
    lost += fail_after (n);
  g_assert_cmpuint (lost, >, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  signal (SIGPIPE, SIG_IGN);
  dir = g_dir_make_tmp ("vmafs-test-XXXXXX", NULL);
  g_test_add_func ("/writer-faults/errors", test_errors);
  g_test_add_func ("/writer-faults/interrupted", test_interrupted);
  g_test_add_func ("/writer-faults/no-unnamed-files", test_no_unnamed_files);
  g_test_add_func ("/writer-faults/name-taken", test_name_taken);
  g_test_add_func ("/writer-faults/read-back-misuse", test_read_back_misuse);
  g_test_add_func ("/writer-faults/after-failure", test_after_failure);
  int status = g_test_run ();
  g_rmdir (dir);
  g_free (dir);
  return status;
}
