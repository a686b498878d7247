/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/base.h"

#include "image/delta.h"
#include "image/image.h"
#include "index/saved.h"
#include "vma/error.h"

/* So much is read at once. */
#define CHUNK VMA_EXTENT_SLOTS

struct VmaBase {
  VmaArchive *archive;
  guint n_disks;
  VmaImage **images; /* NULL: the disk was copied as a whole */
};

static const VmaDevice *
find_device (VmaArchive *archive, const char *name)
{
  const VmaHeader *header = vma_archive_header (archive);

  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    if (!device->is_vmstate && g_str_equal (device->name, name))
      return device;
  }
  return NULL;
}

static VmaImage *
find_image (VmaArchive *archive, const char *name, guint64 size, GError **error)
{
  const VmaDevice *device = find_device (archive, name);

  if (device == NULL)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: the base has no disk '%s'",
                 vma_archive_path (archive), name);
  else if (device->size != size)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "%s: disk '%s' has %" G_GUINT64_FORMAT " bytes in the base, and %" G_GUINT64_FORMAT
                 " now",
                 vma_archive_path (archive), name, device->size, size);
  else
    return vma_archive_image (archive, device->id);
  return NULL;
}

VmaBase *
vma_base_new (const char *path, const char *const *names, const guint64 *sizes,
              const gboolean *wanted, guint n_disks, GError **error)
{
  VmaBase *base = g_new0 (VmaBase, 1);
  g_autofree char *checksums = vma_saved_index_default_dir ();
  const VmaArchiveOptions options = { .checksums_dir = checksums };
  guint8 uuid[VMA_UUID_SIZE];

  base->n_disks = n_disks;
  base->images = g_new0 (VmaImage *, n_disks + 1);
  base->archive = vma_archive_open (path, &options, error);
  gboolean ok = base->archive != NULL;
  if (ok && vma_delta_base_uuid (vma_archive_header (base->archive), uuid)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: is a delta itself, and no base (vmatool repack --base makes it whole)", path);
    ok = FALSE;
  }
  for (guint i = 0; ok && i < n_disks; i++)
    if (wanted == NULL || wanted[i]) {
      base->images[i] = find_image (base->archive, names[i], sizes[i], error);
      ok = base->images[i] != NULL;
    }
  if (!ok) {
    vma_base_free (base);
    return NULL;
  }
  vma_archive_start_index (base->archive);
  return base;
}

void
vma_base_free (VmaBase *base)
{
  g_clear_pointer (&base->archive, vma_archive_free);
  g_free (base->images);
  g_free (base);
}

gboolean
vma_base_has (VmaBase *base, guint disk)
{
  return base != NULL && base->images[disk] != NULL;
}

gboolean
vma_base_read (VmaBase *base, guint disk, guint64 cluster, void *buffer, GCancellable *cancellable,
               GError **error)
{
  return vma_image_pread (base->images[disk], buffer, VMA_CLUSTER_SIZE, cluster * VMA_CLUSTER_SIZE,
                          cancellable, error)
         > 0;
}

const guint8 *
vma_base_uuid (VmaBase *base)
{
  return vma_archive_header (base->archive)->uuid;
}

/* Clusters [cluster, cluster + n), of which none is taken. */
static gboolean
fill_chunk (VmaImage *image, VmaPoint *point, guint disk, guint64 cluster, guint64 n,
            guint8 *buffer, GCancellable *cancellable, GError **error)
{
  gssize size = vma_image_pread (image, buffer, (gsize) n * VMA_CLUSTER_SIZE,
                                 cluster * VMA_CLUSTER_SIZE, cancellable, error);

  return size >= 0 && vma_point_fill (point, disk, cluster, n, buffer, (gsize) size, error);
}

/* How many of the n clusters are zeros all together: such need not be read. */
static gboolean
count_zeros (VmaImage *image, guint64 cluster, guint64 n, guint64 *zeros, GCancellable *cancellable,
             GError **error)
{
  guint64 start = cluster * VMA_CLUSTER_SIZE, data;

  if (!vma_image_next_data (image, start, &data, cancellable, error))
    return FALSE;
  guint64 size = vma_image_device (image)->size;
  *zeros = data >= size ? n : MIN (n, (data - start) / VMA_CLUSTER_SIZE);
  return TRUE;
}

static gboolean
fill_disk (VmaImage *image, VmaPoint *point, guint disk, guint8 *buffer, GCancellable *cancellable,
           GError **error)
{
  guint64 cluster = 0, n, zeros;

  while (vma_point_next_open (point, disk, &cluster, &n)) {
    if (!count_zeros (image, cluster, n, &zeros, cancellable, error))
      return FALSE;
    if (zeros > 0) {
      if (!vma_point_fill (point, disk, cluster, zeros, NULL, 0, error))
        return FALSE;
      cluster += zeros;
      continue;
    }
    n = MIN (n, CHUNK);
    if (!fill_chunk (image, point, disk, cluster, n, buffer, cancellable, error))
      return FALSE;
    cluster += n;
  }
  return TRUE;
}

gboolean
vma_base_fill (VmaBase *base, VmaPoint *point, GCancellable *cancellable, GError **error)
{
  g_autofree guint8 *buffer = g_malloc (CHUNK * VMA_CLUSTER_SIZE);

  for (guint i = 0; i < base->n_disks; i++)
    if (base->images[i] != NULL
        && !fill_disk (base->images[i], point, i, buffer, cancellable, error))
      return FALSE;
  return TRUE;
}
