/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sidecar where each call of the system fails once, and where it is used in ways that it refuses: what can
 * be read of it afterwards is right, whatever was in the way.
 *
 * The linker puts the functions below between the sidecar and the system (--wrap).
 */
#include "source/sidecar.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define N 400u /* more than is written at once */

/* --- calls that fail --------------------------------------------------------------------------- */

static const char *wanted; /* the call that fails; NULL: none does */
static int wanted_errno;
static guint calls, fail_at;

static gboolean
fails (const char *name)
{
  if (wanted == NULL || strcmp (wanted, name) != 0 || ++calls != fail_at)
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
WRAP (ssize_t, pread64, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
WRAP (ssize_t, pwrite64, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
WRAP (int, ftruncate64, (int fd, off_t size), (fd, size))
WRAP (int, fdatasync, (int fd), (fd))
WRAP (int, rename, (const char *from, const char *to), (from, to))
WRAP (int, flock, (int fd, int how), (fd, how))
WRAP (int, fstat64, (int fd, struct stat *st), (fd, st))
WRAP (int, stat64, (const char *path, struct stat *st), (path, st))
WRAP (int, dup3, (int from, int to, int flags), (from, to, flags))
WRAP (int, memfd_create, (const char *name, unsigned flags), (name, flags))

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

/* --- a sidecar --------------------------------------------------------------------------------- */

static const VmaSidecarKey key = { .kind = "test", .spacing = 7 };
static char *directory;

static VmaPiece *
pieces_of (guint i)
{
  static VmaPiece pieces[2];

  pieces[0] = (VmaPiece){ .size = 400 };
  pieces[1] = (VmaPiece){ .size = 600 };
  pieces[1].hash[0] = (guint8) i;
  return pieces;
}

static gboolean
append (VmaSidecar *sidecar, guint i, GError **error)
{
  guint8 bytes[200] = { 0 };

  memcpy (bytes, &i, sizeof i);
  g_autoptr (GBytes) state = g_bytes_new (bytes, sizeof bytes);
  VmaCheckpoint checkpoint = { .in = 10 * i, .out = 1000 * (guint64) i, .state = state };
  return vma_sidecar_append (sidecar, &checkpoint, pieces_of (i), 2, error);
}

/* Chunks that can be read are right; the others say what is wrong. */
static void
check (VmaSidecar *sidecar)
{
  guint64 closed, n = vma_sidecar_count (sidecar, &closed);

  for (guint64 i = 0; i < n; i += 7) {
    g_autoptr (GError) error = NULL;
    guint64 out, size;
    if (!vma_sidecar_get (sidecar, i, &out, &size))
      continue;
    g_autoptr (VmaSidecarChunk) chunk = vma_sidecar_read (sidecar, i, &error);
    g_assert_true ((chunk == NULL) == (error != NULL));
    if (chunk == NULL)
      continue;
    guint number = (guint) i;
    g_assert_cmpuint (chunk->from.in, ==, 10 * i);
    g_assert_cmpuint (chunk->from.out, ==, 1000 * i);
    g_assert_cmpuint (chunk->size, ==, 1000);
    if (i > 0)
      g_assert_cmpint (memcmp (g_bytes_get_data (chunk->from.state, NULL), &number, sizeof number), ==,
                       0);
    if (chunk->pieces != NULL)
      g_assert_cmpuint (chunk->pieces[1].hash[0], ==, (guint8) (i + 1));
  }
}

/* All that is done to one: filled, read, completed, opened again, cut, and gone on with. */
static gboolean
live (GError **error)
{
  for (guint round = 0; round < 2; round++) {
    g_autoptr (VmaSidecar) sidecar = vma_sidecar_open (directory, &key, error);
    if (sidecar == NULL)
      return FALSE;
    guint64 closed, n = vma_sidecar_count (sidecar, &closed);
    if (vma_sidecar_is_complete (sidecar)) {
      check (sidecar);
      if (!vma_sidecar_cut (sidecar, N / 2, error))
        return FALSE;
      n = vma_sidecar_count (sidecar, &closed);
    }
    g_autoptr (VmaSidecarChunk) last = vma_sidecar_last (sidecar, error);
    if (last == NULL)
      return FALSE;
    n = vma_sidecar_count (sidecar, &closed);
    for (guint i = (guint) n; i < N; i++)
      if (!append (sidecar, i, error))
        return FALSE;
    check (sidecar);
    if (!vma_sidecar_finish (sidecar, 10 * N, 1000 * (guint64) N, pieces_of (N), 2, error))
      return FALSE;
    check (sidecar);
  }
  return TRUE;
}

static void
empty (void)
{
  g_autoptr (GDir) dir = g_dir_open (directory, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *path = g_build_filename (directory, name, NULL);
    g_unlink (path);
  }
}

static void
try_all (const char *call, int errnum)
{
  for (guint n = 1, met = TRUE; met && n < 400; n += 1 + n / 6) {
    g_autoptr (GError) error = NULL, later = NULL;

    empty ();
    calls = 0;
    fail_at = n;
    wanted_errno = errnum;
    wanted = call;
    gboolean ok = live (&error);
    met = calls >= n;
    wanted = NULL;
    g_assert_true (ok == (error == NULL));
    if (errnum == EINTR)
      g_assert_no_error (error);
    /* And with what it left. */
    if (!live (&later))
      g_error ("after call %u of %s: %s", n, call, later->message);
  }
  empty ();
}

static GLogWriterOutput
no_messages (GLogLevelFlags level G_GNUC_UNUSED, const GLogField *fields G_GNUC_UNUSED,
             gsize n G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
  return G_LOG_WRITER_HANDLED;
}

static void
test_errors (void)
{
  static const char *const names[] = { "pread64", "pwrite64", "ftruncate64", "fdatasync", "rename",
                                       "flock", "fstat64", "stat64", "dup3", "memfd_create",
                                       "open64" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    try_all (names[i], i % 2 == 0 ? EIO : ENOSPC);
}

static void
test_interrupted (void)
{
  try_all ("pread64", EINTR);
  try_all ("pwrite64", EINTR);
}

/* Something else where it is to be, and nowhere to be. */
static void
test_no_directory (void)
{
  g_autofree char *file = g_build_filename (directory, "file", NULL);
  g_autoptr (GError) error = NULL, refused = NULL;

  g_assert_true (g_file_set_contents (file, "x", 1, NULL));
  const char *const places[] = { file, NULL };
  for (guint i = 0; i < G_N_ELEMENTS (places); i++) {
    g_autoptr (VmaSidecar) sidecar = vma_sidecar_open (places[i], &key, &error);
    g_assert_no_error (error);
    g_assert_true (append (sidecar, 1, &error));
    check (sidecar);
  }
  empty ();
  calls = 0;
  fail_at = 1;
  wanted_errno = EMFILE;
  wanted = "open64"; /* whatever else there is to be had */
  g_autoptr (VmaSidecar) sidecar = vma_sidecar_open (directory, &key, &refused);
  wanted = NULL;
  g_assert_true ((sidecar == NULL) == (refused != NULL));
  empty ();
}

/* Checkpoints that do not follow one another, and ones that are too large. */
static void
test_misuse (void)
{
  g_autoptr (VmaSidecar) sidecar = vma_sidecar_open (NULL, &key, NULL);
  g_autofree guint8 *much = g_malloc0 (((gsize) 256 << 20) + 1);
  VmaPiece piece = { .size = 1 };
  g_autoptr (GError) error = NULL;

  g_assert_true (append (sidecar, 5, &error));
  const VmaCheckpoint wrong[] = { { .in = 50, .out = 5000 }, { .in = 60, .out = 4999 },
                                  { .in = 49, .out = 6000 } };
  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++) {
    g_autoptr (GError) refused = NULL;
    g_assert_false (vma_sidecar_append (sidecar, &wrong[i], NULL, 0, &refused));
    g_assert_error (refused, VMA_ERROR, VMA_ERROR_INVALID);
  }
  g_autoptr (GError) many = NULL, large = NULL, early = NULL, late = NULL, twice = NULL;
  g_autoptr (GBytes) state = g_bytes_new_static (much, ((gsize) 256 << 20) + 1);
  VmaCheckpoint next = { .in = 70, .out = 7000 };
  g_assert_false (vma_sidecar_append (sidecar, &next, &piece, (1u << 20) + 1, &many));
  g_assert_error (many, VMA_ERROR, VMA_ERROR_UNSUPPORTED);
  next.state = state;
  g_assert_false (vma_sidecar_append (sidecar, &next, NULL, 0, &large));
  g_assert_error (large, VMA_ERROR, VMA_ERROR_UNSUPPORTED);

  g_assert_false (vma_sidecar_finish (sidecar, 60, 4999, NULL, 0, &early));
  g_assert_error (early, VMA_ERROR, VMA_ERROR_INVALID);
  g_assert_true (vma_sidecar_finish (sidecar, 60, 6000, pieces_of (6), 2, &error));
  g_assert_no_error (error);
  g_assert_false (vma_sidecar_finish (sidecar, 70, 7000, NULL, 0, &twice));
  g_assert_error (twice, VMA_ERROR, VMA_ERROR_INVALID);
  g_assert_false (append (sidecar, 8, &late));
  g_assert_error (late, VMA_ERROR, VMA_ERROR_INVALID);
  vma_sidecar_abort (sidecar, 9000, NULL, 0); /* nothing left to be closed */
  guint64 closed;
  vma_sidecar_count (sidecar, &closed);
  g_assert_cmpuint (closed, ==, 6000);
}

int
main (int argc, char **argv)
{
  g_log_set_writer_func (no_messages, NULL, NULL);
  g_test_init (&argc, &argv, NULL);
  directory = g_dir_make_tmp ("vma-sidecar-XXXXXX", NULL);
  g_test_add_func ("/sidecar-faults/errors", test_errors);
  g_test_add_func ("/sidecar-faults/interrupted", test_interrupted);
  g_test_add_func ("/sidecar-faults/no-directory", test_no_directory);
  g_test_add_func ("/sidecar-faults/misuse", test_misuse);
  int result = g_test_run ();
  empty ();
  g_rmdir (directory);
  g_free (directory);
  return result;
}
