/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library's interface: results, messages, options, what is said before and after the scan. */
#include "include/vma.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const VmaOpenOptions no_cache
    = { sizeof no_cache, VMA_OPEN_NO_CACHE, NULL, 0, 0, NULL, NULL };

static VmaHandle *
open_fixture (const char *name, unsigned flags)
{
  g_autofree char *path = g_build_filename (g_getenv ("FIXTURES"), name, NULL);
  VmaOpenOptions options = no_cache;
  VmaHandle *handle;

  options.flags |= flags;
  g_assert_cmpint (vma_open (&handle, path, &options), ==, VMA_OK);
  return handle;
}

static void
check_open (const char *path, VmaResult wanted, const char *text)
{
  VmaHandle *handle = (VmaHandle *) &handle;

  g_assert_cmpint (vma_open (&handle, path, &no_cache), ==, wanted);
  g_assert_null (handle);
  g_assert_true (g_str_has_prefix (vma_message (), path));
  g_assert_nonnull (strstr (vma_message (), text));
}

static void
test_results (void)
{
  g_autofree char *header
      = g_build_filename (g_getenv ("FIXTURES"), "edge", "61_hdr_badmd5.vma", NULL);
  VmaOpenOptions options = no_cache;
  VmaHandle *handle;

  check_open ("/nonexistent", VMA_E_IO, "No such file");
  check_open ("/dev/null", VMA_E_NOT_VMA, "header at 0");
  check_open (header, VMA_E_HEADER, "checksum mismatch");
  options.flags = 1u << 31;
  g_assert_cmpint (vma_open (&handle, "/dev/null", &options), ==, VMA_E_INVALID);
  vma_close (NULL);
  vma_create_abort (NULL);
  g_assert_cmpstr (vma_version (), !=, "");
}

static void
test_content (void)
{
  VmaHandle *handle = open_fixture ("multi-disk.vma", 0);
  uint8_t uuid[16], none[16] = { 0 };
  size_t size;

  vma_uuid (handle, uuid);
  g_assert_cmpint (memcmp (uuid, none, sizeof uuid), !=, 0);
  g_assert_cmpint (vma_ctime (handle), >, 1000000000);
  g_assert_cmpstr (vma_kind (handle), ==, "plain");
  g_assert_cmpuint (vma_n_configs (handle), ==, 2);
  g_assert_nonnull (vma_config_name (handle, 1));
  g_assert_null (vma_config_name (handle, 2));
  g_assert_nonnull (vma_config_data (handle, 0, &size));
  g_assert_cmpuint (size, >, 0);
  g_assert_null (vma_config_data (handle, 2, &size));
  g_assert_cmpuint (vma_n_disks (handle), ==, 3);
  g_assert_null (vma_disk (handle, 3));
  VmaDisk *disk = vma_find_disk (handle, "scsi0");
  g_assert_nonnull (disk);
  g_assert_true (disk == vma_find_disk (handle, "disk-drive-scsi0.raw"));
  g_assert_cmpstr (vma_disk_name (disk), ==, "drive-scsi0");
  g_assert_cmpstr (vma_disk_file_name (disk), ==, "disk-drive-scsi0.raw");
  g_assert_false (vma_disk_is_vmstate (disk));
  g_assert_null (vma_find_disk (handle, "scsi9"));
  g_assert_nonnull (strstr (vma_message (), "no disk 'scsi9'"));
  vma_close (handle);
}

static void
test_header_only (void)
{
  VmaHandle *handle = open_fixture ("multi-disk.vma", VMA_OPEN_HEADER);
  VmaDisk *disk = vma_disk (handle, 0);
  uint64_t size, found;
  VmaResult result;
  VmaRange range;
  char byte;

  g_assert_cmpint (vma_disk_size (disk, &size), ==, VMA_OK);
  g_assert_cmpuint (size, >, 0);
  g_assert_cmpint (vma_disk_read (disk, &byte, 1, 0, &result), ==, -1);
  g_assert_cmpint (result, ==, VMA_E_INVALID);
  g_assert_cmpint (vma_disk_range (disk, 0, &range), ==, VMA_E_INVALID);
  g_assert_cmpint (vma_disk_next_data (disk, 0, &found), ==, VMA_E_INVALID);
  g_assert_cmpint (vma_wait (handle, -1), ==, VMA_E_INVALID);
  vma_close (handle);
}

/* The ranges of a disk cover it, and what they say is true. */
static void
check_ranges (VmaDisk *disk)
{
  g_autofree guint8 *buffer = g_malloc (VMA_CLUSTER);
  uint64_t size, at = 0, found;
  VmaRange range;

  g_assert_cmpint (vma_disk_size (disk, &size), ==, VMA_OK);
  while (at < size) {
    g_assert_cmpint (vma_disk_range (disk, at, &range), ==, VMA_OK);
    g_assert_cmpuint (range.start, ==, at);
    g_assert_cmpuint (range.end, >, at);
    g_assert_cmpuint (range.end, <=, size);
    size_t n = (size_t) MIN (range.end - range.start, VMA_CLUSTER);
    ssize_t got = vma_disk_read (disk, buffer, n, at, NULL);
    g_assert_cmpint (got, ==, range.kind == VMA_RANGE_MISSING ? -1 : (ssize_t) n);
    if (range.kind == VMA_RANGE_ZERO) {
      for (size_t i = 0; i < n; i++)
        g_assert_cmpuint (buffer[i], ==, 0);
      g_assert_cmpint (vma_disk_next_hole (disk, at, &found), ==, VMA_OK);
    } else
      g_assert_cmpint (vma_disk_next_data (disk, at, &found), ==, VMA_OK);
    g_assert_cmpuint (found, ==, at);
    at = range.end;
  }
  g_assert_cmpint (vma_disk_read (disk, buffer, 1, size, NULL), ==, 0);
  g_assert_cmpint (vma_disk_range (disk, size, &range), ==, VMA_E_INVALID);
}

static void
test_ranges (void)
{
  VmaHandle *handle = open_fixture ("multi-disk.vma", 0);

  for (size_t i = 0; i < vma_n_disks (handle); i++)
    check_ranges (vma_disk (handle, i));
  g_assert_cmpint (vma_wait (handle, -1), ==, VMA_OK);
  uint64_t position, size;
  vma_progress (handle, &position, &size);
  g_assert_cmpuint (position, ==, size);
  vma_close (handle);
}

static void
test_damaged (void)
{
  VmaHandle *handle = open_fixture ("edge/57_trunc_at_extent.vma", 0);
  g_assert_cmpint (vma_wait (handle, -1), ==, VMA_E_MISSING);
  vma_close (handle);

  handle = open_fixture ("edge/57_trunc_at_extent.vma", VMA_OPEN_SALVAGE);
  g_assert_cmpint (vma_wait (handle, -1), ==, VMA_OK);
  VmaDisk *disk = vma_disk (handle, 0);
  VmaResult result;
  VmaRange range;
  char byte;
  check_ranges (disk);
  g_assert_cmpint (vma_disk_range (disk, 131072, &range), ==, VMA_OK);
  g_assert_cmpint (range.kind, ==, VMA_RANGE_MISSING);
  g_assert_cmpint (vma_disk_read (disk, &byte, 1, 131072, &result), ==, -1);
  g_assert_cmpint (result, ==, VMA_E_MISSING);
  vma_close (handle);
}

static void
test_fd_and_old_options (void)
{
  g_autofree char *path = g_build_filename (g_getenv ("FIXTURES"), "tiny.vma.zst", NULL);
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  /* A caller that was compiled when the structure had less in it. */
  VmaOpenOptions options = no_cache;
  VmaHandle *handle;

  options.struct_size = G_STRUCT_OFFSET (VmaOpenOptions, cache_dir);
  options.cache_dir = (const char *) 1; /* not to be looked at */
  g_assert_cmpint (vma_open_fd (&handle, fd, &options), ==, VMA_OK);
  close (fd);
  g_assert_cmpstr (vma_kind (handle), ==, "zstd");
  check_ranges (vma_disk (handle, 0));
  vma_close (handle);
}

static void *
read_until_cancelled (void *data)
{
  VmaDisk *disk = data;
  VmaResult result;
  uint64_t size;
  char byte;

  g_assert_cmpint (vma_disk_size (disk, &size), ==, VMA_OK);
  g_assert_cmpint (vma_disk_read (disk, &byte, 1, size - 1, &result), ==, -1);
  g_assert_cmpint (result, ==, VMA_E_CANCELLED);
  g_assert_cmpstr (vma_message (), !=, "");
  return NULL;
}

static void
test_cancel (void)
{
  g_autofree char *dir = g_dir_make_tmp ("libvma-XXXXXX", NULL);
  g_autofree char *whole = g_build_filename (g_getenv ("FIXTURES"), "multi-disk.vma.zst", NULL);
  g_autofree char *path = g_build_filename (dir, "growing.vma.dat", NULL);
  g_autofree char *content = NULL;
  VmaOpenOptions options = no_cache;
  VmaHandle *handle;
  pthread_t thread;
  gsize size;

  g_assert_true (g_file_get_contents (whole, &content, &size, NULL));
  g_assert_true (g_file_set_contents (path, content, (gssize) size / 2, NULL));
  options.flags |= VMA_OPEN_FOLLOW;
  g_assert_cmpint (vma_open (&handle, path, &options), ==, VMA_OK);
  g_assert_cmpint (vma_wait (handle, 50), ==, VMA_E_TIMEOUT);
  g_assert_cmpint (
      pthread_create (&thread, NULL, read_until_cancelled, vma_find_disk (handle, "scsi0")), ==, 0);
  g_usleep (50000);
  vma_cancel (handle);
  pthread_join (thread, NULL);
  g_assert_cmpint (vma_wait (handle, -1), ==, VMA_E_CANCELLED);
  vma_close (handle);
  g_unlink (path);
  g_rmdir (dir);
}

/* --- writing ---------------------------------------------------------------------------------- */

#define CLUSTERS 40u

typedef struct {
  VmaCreate *create;
  unsigned disk, first;
} Part;

static void
fill (guint8 *cluster, guint i)
{
  memset (cluster, i % 5 == 0 ? 0 : (int) i, VMA_CLUSTER);
}

static void *
write_every_other (void *data)
{
  const Part *part = data;
  g_autofree guint8 *cluster = g_malloc (VMA_CLUSTER);

  for (guint i = part->first; i < CLUSTERS; i += 2) {
    fill (cluster, i);
    g_assert_cmpint (
        vma_create_write (part->create, part->disk, i, 1, i % 10 == 0 ? NULL : cluster), ==,
        VMA_OK);
  }
  return NULL;
}

static void
check_written (const char *path)
{
  g_autofree guint8 *wanted = g_malloc (VMA_CLUSTER), *got = g_malloc (VMA_CLUSTER);
  VmaHandle *handle;

  g_assert_cmpint (vma_open (&handle, path, &no_cache), ==, VMA_OK);
  g_assert_cmpint (vma_ctime (handle), ==, 1234567890);
  g_assert_cmpstr (vma_config_name (handle, 0), ==, "my.conf");
  VmaDisk *disk = vma_find_disk (handle, "virtio0");
  for (guint i = 0; i < CLUSTERS; i++) {
    fill (wanted, i);
    g_assert_cmpint (vma_disk_read (disk, got, VMA_CLUSTER, (uint64_t) i * VMA_CLUSTER, NULL), ==,
                     VMA_CLUSTER);
    g_assert_cmpmem (wanted, VMA_CLUSTER, got, VMA_CLUSTER);
  }
  vma_close (handle);
}

static void
check_create (const char *compression)
{
  g_autofree char *dir = g_dir_make_tmp ("libvma-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "new.vma", NULL);
  VmaCreateOptions options = VMA_CREATE_OPTIONS_INIT;
  VmaCreate *create;
  unsigned disk;
  pthread_t thread;

  options.compression = compression;
  options.ctime = 1234567890;
  g_assert_cmpint (vma_create (&create, path, &options), ==, VMA_OK);
  g_assert_cmpint (vma_create_add_config (create, "my.conf", "a", 1), ==, VMA_OK);
  g_assert_cmpint (vma_create_add_config (create, "my.conf", "a", 1), ==, VMA_E_INVALID);
  g_assert_cmpint (
      vma_create_add_disk (create, "drive-virtio0", CLUSTERS * (uint64_t) VMA_CLUSTER, &disk), ==,
      VMA_OK);
  g_assert_cmpint (vma_create_write (create, disk + 1, 0, 1, NULL), ==, VMA_E_INVALID);
  Part parts[2] = { { create, disk, 0 }, { create, disk, 1 } };
  g_assert_cmpint (pthread_create (&thread, NULL, write_every_other, &parts[1]), ==, 0);
  write_every_other (&parts[0]);
  pthread_join (thread, NULL);
  g_assert_cmpint (vma_create_write (create, disk, 0, 1, NULL), ==, VMA_E_INVALID);
  g_assert_false (g_file_test (path, G_FILE_TEST_EXISTS));
  g_assert_cmpint (vma_create_finish (create), ==, VMA_OK);
  check_written (path);
  g_assert_cmpint (vma_create (&create, path, &options), ==, VMA_E_IO);
  g_assert_null (create);
  g_unlink (path);
  g_assert_cmpint (g_rmdir (dir), ==, 0);
}

static void
test_create (void)
{
  check_create (NULL);
  check_create ("none");
  check_create ("zstd");
  check_create ("lz4");
}

static void
test_create_fails (void)
{
  g_autofree char *dir = g_dir_make_tmp ("libvma-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "new.vma", NULL);
  VmaCreateOptions options = VMA_CREATE_OPTIONS_INIT;
  VmaCreate *create;
  unsigned disk;

  options.compression = "rar";
  g_assert_cmpint (vma_create (&create, path, &options), ==, VMA_E_INVALID);
  for (guint i = 0; i < 2; i++) {
    g_assert_cmpint (vma_create (&create, path, NULL), ==, VMA_OK);
    g_assert_cmpint (vma_create_add_disk (create, "drive-virtio0", 3 * VMA_CLUSTER, &disk), ==,
                     VMA_OK);
    g_assert_cmpint (vma_create_write (create, disk, 0, 2, NULL), ==, VMA_OK);
    if (i == 0)
      g_assert_cmpint (vma_create_finish (create), ==, VMA_E_MISSING);
    else
      vma_create_abort (create);
    g_assert_false (g_file_test (path, G_FILE_TEST_EXISTS));
  }
  g_assert_cmpint (g_rmdir (dir), ==, 0);
}

/* The signals that a thread has blocked; all where it has ended. */
static guint64
blocked_signals (const char *task)
{
  g_autofree char *path = g_build_filename ("/proc/self/task", task, "status", NULL);
  g_autofree char *status = NULL;

  if (!g_file_get_contents (path, &status, NULL, NULL))
    return G_MAXUINT64;
  const char *blocked = strstr (status, "\nSigBlk:");
  return blocked != NULL ? g_ascii_strtoull (blocked + 8, NULL, 16) : 0;
}

/* Emulators and valgrind keep masks to themselves. */
static gboolean
masks_are_seen (void)
{
  g_autofree char *own = g_strdup_printf ("%d", (int) getpid ());
  sigset_t one, old;

  sigemptyset (&one);
  sigaddset (&one, SIGUSR2);
  pthread_sigmask (SIG_BLOCK, &one, &old);
  gboolean seen = blocked_signals (own) >> (SIGUSR2 - 1) & 1;
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return seen;
}

/* What nobody can block, and what goes to whoever caused it: qemu's emulator leaves these open. */
static gboolean
is_for_its_own_thread (int number)
{
  return number == SIGKILL || number == SIGSTOP || number == SIGILL || number == SIGTRAP
         || number == SIGBUS || number == SIGFPE || number == SIGSEGV;
}

/* How many threads there are beside this one; none of them may take a signal. */
static guint
count_deaf_threads (void)
{
  g_autoptr (GDir) tasks = g_dir_open ("/proc/self/task", 0, NULL);
  const char *task;
  guint n = 0;

  while ((task = g_dir_read_name (tasks)) != NULL) {
    guint64 mask = blocked_signals (task);

    if (g_ascii_strtoll (task, NULL, 10) == getpid ())
      continue;
    for (int number = 1; number < 32; number++)
      if (!is_for_its_own_thread (number) && (mask >> (number - 1) & 1) == 0)
        g_error ("thread %s of the library takes signal %d", task, number);
    n++;
  }
  return n;
}

/* The caller's signals never arrive in a thread of ours, whoever it was that made us start it. */
static void
test_signals (void)
{
  g_autofree uint8_t *buffer = g_malloc (VMA_CLUSTER);
  guint seen = 0;

  if (!masks_are_seen ())
    return;
  for (guint round = 0; round < 5 || (seen == 0 && round < 500); round++) {
    VmaHandle *handle = open_fixture ("multi-disk.vma.zst", 0);
    VmaDisk *disk = vma_disk (handle, 0);

    seen += count_deaf_threads ();
    g_assert_cmpint (vma_wait (handle, -1), ==, VMA_OK);
    for (uint64_t at = 0; vma_disk_read (disk, buffer, VMA_CLUSTER, at, NULL) > 0; at += VMA_CLUSTER)
      seen += count_deaf_threads ();
    vma_close (handle);
  }
  g_assert_cmpuint (seen, >, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/libvma/results", test_results);
  g_test_add_func ("/libvma/content", test_content);
  g_test_add_func ("/libvma/header-only", test_header_only);
  g_test_add_func ("/libvma/ranges", test_ranges);
  g_test_add_func ("/libvma/damaged", test_damaged);
  g_test_add_func ("/libvma/fd", test_fd_and_old_options);
  g_test_add_func ("/libvma/cancel", test_cancel);
  g_test_add_func ("/libvma/create", test_create);
  g_test_add_func ("/libvma/create-fails", test_create_fails);
  g_test_add_func ("/libvma/signals", test_signals);
  return g_test_run ();
}
