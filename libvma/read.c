/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reading half of include/vma.h: a thin skin over image/. */
#include "libvma/result.h"

#include "image/find.h"
#include "image/image.h"
#include "index/saved.h"
#include "vma/error.h"

#include <string.h>

struct VmaDisk {
  VmaHandle *handle;
  VmaImage *image;
};

struct VmaHandle {
  VmaArchive *archive;
  GCancellable *cancellable;
  gboolean header_only;
  void (*note) (void *data, const char *message);
  void *note_data;
  guint n_disks;
  VmaDisk disks[]; /* in the order of the header */
};

static void
on_report (gpointer data, const GError *what)
{
  const VmaHandle *handle = data;

  if (handle->note != NULL)
    handle->note (handle->note_data, what->message);
}

/* The caller's options, as far as its version of the structure goes. */
static VmaOpenOptions
options_of (const VmaOpenOptions *options)
{
  VmaOpenOptions all = VMA_OPEN_OPTIONS_INIT;

  if (options != NULL)
    memcpy (&all, options, MIN (options->struct_size, sizeof all));
  return all;
}

static void
set_disks (VmaHandle *handle)
{
  const GPtrArray *devices = vma_archive_header (handle->archive)->devices;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    handle->disks[i] = (VmaDisk){ handle, vma_archive_image (handle->archive, device->id) };
  }
  handle->n_disks = devices->len;
}

VmaResult
vma_open (VmaHandle **handle, const char *path, const VmaOpenOptions *options)
{
  VmaOpenOptions all = options_of (options);
  const unsigned known = VMA_OPEN_SALVAGE | VMA_OPEN_FOLLOW | VMA_OPEN_NO_CACHE | VMA_OPEN_HEADER;
  GError *error = NULL;

  *handle = NULL;
  if ((all.flags & ~known) != 0)
    return vma_result_invalid ("%s: flags 0x%x are not known to libvma %s", path,
                               all.flags & ~known, VMAFS_VERSION);
  g_autofree char *default_dir = vma_saved_index_default_dir ();
  VmaHandle *new = g_malloc0 (sizeof *new + VMA_MAX_DEVICES * sizeof new->disks[0]);
  new->note = all.note;
  new->note_data = all.note_data;
  new->cancellable = g_cancellable_new ();
  new->header_only = (all.flags & VMA_OPEN_HEADER) != 0;
  const char *cache_dir = all.cache_dir != NULL ? all.cache_dir : default_dir;
  if ((all.flags & (VMA_OPEN_NO_CACHE | VMA_OPEN_HEADER)) != 0)
    cache_dir = NULL;
  const VmaArchiveOptions archive_options = {
    .salvage = (all.flags & VMA_OPEN_SALVAGE) != 0,
    .follow = (all.flags & VMA_OPEN_FOLLOW) != 0,
    .cache_dir = cache_dir,
    .checksums_dir = cache_dir,
    .cache_size = all.cache_size,
    .memory_limit = all.memory_limit,
    .report = on_report,
    .report_data = new,
    .cancellable = new->cancellable,
  };
  new->archive = vma_archive_open (path, &archive_options, &error);
  if (new->archive != NULL && vma_source_is_sequential (vma_archive_source (new->archive)))
    g_set_error (&error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: is a pipe, and cannot be read at random", path);
  if (error != NULL) {
    vma_close (new);
    return vma_result_take (error);
  }
  set_disks (new);
  if (!new->header_only)
    vma_archive_start_index (new->archive);
  *handle = new;
  return VMA_OK;
}

VmaResult
vma_open_fd (VmaHandle **handle, int fd, const VmaOpenOptions *options)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);

  return vma_open (handle, path, options);
}

void
vma_close (VmaHandle *handle)
{
  if (handle == NULL)
    return;
  g_clear_pointer (&handle->archive, vma_archive_free);
  g_object_unref (handle->cancellable);
  g_free (handle);
}

void
vma_cancel (VmaHandle *handle)
{
  g_cancellable_cancel (handle->cancellable);
  vma_index_wake (vma_archive_index (handle->archive));
}

VmaResult
vma_wait (VmaHandle *handle, int timeout_ms)
{
  GError *error = NULL;

  if (handle->header_only)
    return vma_result_invalid ("only the header was opened");
  if (vma_archive_wait_index (handle->archive, timeout_ms, handle->cancellable, &error))
    return VMA_OK;
  if (error != NULL)
    return vma_result_take (error);
  vma_result_take (g_error_new (VMA_ERROR, VMA_ERROR_IO, "%s: the time is over",
                                vma_archive_path (handle->archive)));
  return VMA_E_TIMEOUT;
}

void
vma_progress (VmaHandle *handle, uint64_t *position, uint64_t *size)
{
  *position = vma_index_position (vma_archive_index (handle->archive));
  *size = vma_source_size (vma_archive_source (handle->archive));
}

/* --- what is in it ---------------------------------------------------------------------------- */

void
vma_uuid (VmaHandle *handle, uint8_t uuid[16])
{
  memcpy (uuid, vma_archive_header (handle->archive)->uuid, VMA_UUID_SIZE);
}

int64_t
vma_ctime (VmaHandle *handle)
{
  return vma_archive_header (handle->archive)->ctime;
}

const char *
vma_kind (VmaHandle *handle)
{
  return vma_source_kind (vma_archive_source (handle->archive));
}

size_t
vma_n_configs (VmaHandle *handle)
{
  return vma_archive_header (handle->archive)->configs->len;
}

const char *
vma_config_name (VmaHandle *handle, size_t i)
{
  return i < vma_n_configs (handle)
             ? vma_names_config (vma_archive_names (handle->archive), (guint) i)
             : NULL;
}

const void *
vma_config_data (VmaHandle *handle, size_t i, size_t *size)
{
  static const char nothing[1] = "";

  *size = 0;
  if (i >= vma_n_configs (handle))
    return NULL;
  const VmaConfig *config = g_ptr_array_index (vma_archive_header (handle->archive)->configs, i);
  const void *data = g_bytes_get_data (config->data, size);
  return data != NULL ? data : nothing;
}

size_t
vma_n_disks (VmaHandle *handle)
{
  return handle->n_disks;
}

VmaDisk *
vma_disk (VmaHandle *handle, size_t i)
{
  return i < handle->n_disks ? &handle->disks[i] : NULL;
}

VmaDisk *
vma_find_disk (VmaHandle *handle, const char *name)
{
  GError *error = NULL;
  const VmaDevice *device = vma_archive_find_disk (handle->archive, name, &error);

  if (device == NULL) {
    vma_result_take (error);
    return NULL;
  }
  for (guint i = 0; i < handle->n_disks; i++)
    if (vma_image_device (handle->disks[i].image) == device)
      return &handle->disks[i];
  return NULL;
}

/* --- disks ------------------------------------------------------------------------------------ */

const char *
vma_disk_name (VmaDisk *disk)
{
  return vma_image_device (disk->image)->name;
}

const char *
vma_disk_file_name (VmaDisk *disk)
{
  return vma_names_device (vma_archive_names (disk->handle->archive),
                           vma_image_device (disk->image)->id);
}

int
vma_disk_is_vmstate (VmaDisk *disk)
{
  return vma_image_device (disk->image)->is_vmstate;
}

/* Nobody would ever finish the index that such a call waits for. */
static gboolean
has_index (VmaDisk *disk, VmaResult *result)
{
  if (disk->handle->header_only)
    *result = vma_result_invalid ("only the header was opened");
  return !disk->handle->header_only;
}

VmaResult
vma_disk_size (VmaDisk *disk, uint64_t *size)
{
  VmaResult result;
  guint64 found = 0;
  GError *error = NULL;

  if (!vma_image_size_is_known (disk->image) && !has_index (disk, &result))
    return result;
  gboolean ok = vma_image_size (disk->image, &found, disk->handle->cancellable, &error);
  *size = found;
  return ok ? VMA_OK : vma_result_take (error);
}

ssize_t
vma_disk_read (VmaDisk *disk, void *buffer, size_t size, uint64_t offset, VmaResult *result)
{
  VmaResult unused;
  GError *error = NULL;

  if (result == NULL)
    result = &unused;
  if (!has_index (disk, result))
    return -1;
  gssize n = vma_image_pread (disk->image, buffer, MIN (size, (size_t) G_MAXSSIZE), offset,
                              disk->handle->cancellable, &error);
  *result = n < 0 ? vma_result_take (error) : VMA_OK;
  return n;
}

VmaResult
vma_disk_range (VmaDisk *disk, uint64_t offset, VmaRange *range)
{
  static const VmaRangeKind kinds[] = {
    [VMA_SPAN_DATA] = VMA_RANGE_DATA,
    [VMA_SPAN_ZERO] = VMA_RANGE_ZERO,
    [VMA_SPAN_MISSING] = VMA_RANGE_MISSING,
  };
  VmaResult result;
  GError *error = NULL;
  VmaSpan span;
  guint64 size;

  if (!has_index (disk, &result))
    return result;
  if (!vma_image_size (disk->image, &size, disk->handle->cancellable, &error))
    return vma_result_take (error);
  if (offset >= size)
    return vma_result_invalid ("%" G_GUINT64_FORMAT " is behind the end of the disk",
                               (guint64) offset);
  if (!vma_image_span (disk->image, offset, &span, disk->handle->cancellable, &error))
    return vma_result_take (error);
  *range = (VmaRange){ .start = span.start, .end = span.end, .kind = kinds[span.kind] };
  return VMA_OK;
}

typedef gboolean (*Seek) (VmaImage *image, guint64 offset, guint64 *found,
                          GCancellable *cancellable, GError **error);

static VmaResult
seek_with (Seek seek, VmaDisk *disk, uint64_t offset, uint64_t *found)
{
  VmaResult result;
  GError *error = NULL;
  guint64 place = 0;

  if (!has_index (disk, &result))
    return result;
  gboolean ok = seek (disk->image, offset, &place, disk->handle->cancellable, &error);
  *found = place;
  return ok ? VMA_OK : vma_result_take (error);
}

VmaResult
vma_disk_next_data (VmaDisk *disk, uint64_t offset, uint64_t *found)
{
  return seek_with (vma_image_next_data, disk, offset, found);
}

VmaResult
vma_disk_next_hole (VmaDisk *disk, uint64_t offset, uint64_t *found)
{
  return seek_with (vma_image_next_hole, disk, offset, found);
}
