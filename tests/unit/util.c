/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/util.h"

#include "vma/error.h"
#include "vma/md5.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static GByteArray *
slurp (const char *folder, const char *name)
{
  g_autofree char *path = g_build_filename (g_getenv (folder), name, NULL);
  g_autoptr (GError) error = NULL;
  char *data;
  gsize size;

  g_file_get_contents (path, &data, &size, &error);
  g_assert_no_error (error);
  return g_byte_array_new_take ((guint8 *) data, size);
}

GByteArray *
util_fixture (const char *name)
{
  return slurp ("FIXTURES", name);
}

GByteArray *
util_generated (const char *name)
{
  return slurp ("ARCHIVES", name);
}

void
util_fix_md5 (guint8 *data, gsize size, gsize field)
{
  /* Not the library's own: what checks the sum must not also have made it. */
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_MD5);
  gsize length = 16;

  memset (data + field, 0, length);
  g_checksum_update (sum, data, (gssize) size);
  g_checksum_get_digest (sum, data + field, &length);
}

const char *
util_file (const guint8 *data, gsize size)
{
  static char path[64];
  static int fd = -1;

  if (fd >= 0)
    close (fd);
  fd = memfd_create ("archive.vma", MFD_CLOEXEC);
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (write (fd, data, size), ==, (gssize) size);
  g_snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
  return path;
}

VmaArchive *
util_open (const char *path, gboolean salvage, GError **error)
{
  VmaArchiveOptions options = { .salvage = salvage };
  g_autoptr (VmaArchive) archive = vma_archive_open (path, &options, error);

  if (archive == NULL)
    return NULL;
  vma_archive_start_index (archive);
  if (!vma_archive_wait_index (archive, -1, NULL, error))
    return NULL;
  return g_steal_pointer (&archive);
}

GByteArray *
util_read_disk (VmaArchive *archive, guint8 device, GError **error)
{
  VmaImage *image = vma_archive_image (archive, device);
  guint64 size;

  if (!vma_image_size (image, &size, NULL, error))
    return NULL;
  g_autoptr (GByteArray) disk = g_byte_array_sized_new ((guint) size);
  g_byte_array_set_size (disk, (guint) size);
  for (guint64 at = 0; at < size;) {
    gssize n = vma_image_pread (image, disk->data + at, MIN (size - at, 777777), at, NULL, error);
    if (n < 0)
      return NULL;
    g_assert_cmpint (n, >, 0);
    at += (guint64) n;
  }
  return g_steal_pointer (&disk);
}

/* An error of the archive names the place, and is one line. */
static void
check_error (const char *path, const GError *error)
{
  g_assert_nonnull (error);
  g_assert_true (error->domain == VMA_ERROR);
  g_assert_true (g_str_has_prefix (error->message, path));
  g_assert_null (strchr (error->message, '\n'));
}

static int
check_disk (VmaArchive *archive, const VmaDevice *device, GBytes *wanted)
{
  VmaImage *image = vma_archive_image (archive, device->id);
  g_autofree guint8 *buffer = g_malloc (VMA_CLUSTER_SIZE);
  g_autoptr (GError) size_error = NULL;
  guint64 size;
  int lost = 0;

  if (!vma_image_size (image, &size, NULL, &size_error)) {
    g_assert_nonnull (size_error);
    return 1;
  }
  for (guint64 at = 0; at < size; at += VMA_CLUSTER_SIZE) {
    g_autoptr (GError) error = NULL;
    gssize n = vma_image_pread (image, buffer, VMA_CLUSTER_SIZE, at, NULL, &error);

    if (n < 0) {
      g_assert_nonnull (error);
      lost++;
    } else {
      g_assert_cmpuint (at + (gsize) n, <=, g_bytes_get_size (wanted));
      g_assert_cmpmem (buffer, (gsize) n, (const guint8 *) g_bytes_get_data (wanted, NULL) + at,
                       MIN (VMA_CLUSTER_SIZE, g_bytes_get_size (wanted) - at));
    }
  }
  return lost;
}

int
util_check (const guint8 *data, gsize size, gboolean salvage, GHashTable *truth)
{
  const char *path = util_file (data, size);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = util_open (path, salvage, &error);
  int lost = 0;

  if (archive == NULL) {
    check_error (path, error);
    return -1;
  }
  const VmaHeader *header = vma_archive_header (archive);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    GBytes *wanted = g_hash_table_lookup (truth, device->name);

    g_assert_nonnull (wanted);
    lost += check_disk (archive, device, wanted);
  }
  return lost;
}

GHashTable *
util_truth (const guint8 *data, gsize size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = util_open (util_file (data, size), FALSE, &error);
  GHashTable *truth
      = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_bytes_unref);

  g_assert_no_error (error);
  const VmaHeader *header = vma_archive_header (archive);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    GByteArray *disk = util_read_disk (archive, device->id, &error);

    g_assert_no_error (error);
    g_hash_table_insert (truth, g_strdup (device->name), g_byte_array_free_to_bytes (disk));
  }
  return truth;
}

guint
util_files_in (const char *dir)
{
  g_autoptr (GDir) entries = g_dir_open (dir, 0, NULL);
  guint n = 0;

  while (g_dir_read_name (entries) != NULL)
    n++;
  return n;
}
