/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vma/header.h"

#include "vma/bytes.h"
#include "vma/error.h"
#include "vma/md5.h"

#include <string.h>

static const guint8 header_magic[4] = { 'V', 'M', 'A', 0 };

guint32
vma_header_peek_size (const guint8 *data, gsize available, GError **error)
{
  if (available < sizeof header_magic || memcmp (data, header_magic, sizeof header_magic) != 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_NOT_VMA,
                 "header at 0: not a VMA archive (it does not begin with the magic \"VMA\\0\")");
    return 0;
  }
  if (available < VMA_HEADER_FIXED_SIZE) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                 "header at 0: the file ends at %" G_GSIZE_FORMAT ", inside the header", available);
    return 0;
  }
  guint32 version = vma_get_be32 (data + VMA_HEADER_OFF_VERSION);
  if (version != VMA_HEADER_VERSION) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                 "header at %u: version %u, this program knows version 1", VMA_HEADER_OFF_VERSION,
                 version);
    return 0;
  }
  guint32 size = vma_get_be32 (data + VMA_HEADER_OFF_SIZE);
  if (size <= VMA_HEADER_FIXED_SIZE || size > VMA_HEADER_MAX_SIZE) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                 "header at %u: header size %u is out of bounds (%u to %u)", VMA_HEADER_OFF_SIZE,
                 size, VMA_HEADER_FIXED_SIZE + 1, VMA_HEADER_MAX_SIZE);
    return 0;
  }
  return size;
}

/* The blob buffer and where its blobs begin, ascending. */
typedef struct {
  const guint8 *data;
  guint32 offset; /* in the header, for messages */
  guint32 size;
  GArray *starts;
} BlobBuffer;

static int
compare_u32 (const void *a, const void *b)
{
  guint32 x = *(const guint32 *) a, y = *(const guint32 *) b;
  return (x > y) - (x < y);
}

/*
 * Blobs are only ever found by walking from offset 1, as the reference reader does; a pointer into
 * the middle of one is not a blob.
 */
static gboolean
blob_buffer_walk (BlobBuffer *blobs, GError **error)
{
  guint64 at = 1;

  while (at + 2 <= blobs->size) {
    guint32 start = (guint32) at;
    guint64 end = at + 2 + vma_get_le16 (blobs->data + at);
    if (end > blobs->size) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                   "header at %" G_GUINT64_FORMAT ": a blob runs past the end of the blob buffer",
                   blobs->offset + at);
      return FALSE;
    }
    g_array_append_val (blobs->starts, start);
    at = end;
  }
  return TRUE;
}

/* The blob that `pointer` names, or NULL where it names none. */
static const guint8 *
blob_buffer_find (const BlobBuffer *blobs, guint32 pointer, gsize *size)
{
  if (!g_array_binary_search (blobs->starts, &pointer, compare_u32, NULL))
    return NULL;
  *size = vma_get_le16 (blobs->data + pointer);
  return blobs->data + pointer + 2;
}

/* A name is what stands before the first NUL of its blob.  NULL where there is none. */
static char *
blob_buffer_find_name (const BlobBuffer *blobs, guint32 pointer)
{
  gsize size;
  const guint8 *blob = blob_buffer_find (blobs, pointer, &size);

  if (blob == NULL || memchr (blob, 0, size) == NULL)
    return NULL;
  return g_strdup ((const char *) blob);
}

static void
vma_device_free (VmaDevice *device)
{
  g_free (device->name);
  g_free (device);
}

static void
vma_config_free (VmaConfig *config)
{
  g_free (config->name);
  g_bytes_unref (config->data);
  g_free (config);
}

static gboolean
parse_configs (VmaHeader *header, const guint8 *data, const BlobBuffer *blobs, GError **error)
{
  for (guint slot = 0; slot < VMA_MAX_CONFIGS; slot++) {
    guint name_at = VMA_HEADER_OFF_CONFIG_NAMES + 4 * slot;
    guint data_at = VMA_HEADER_OFF_CONFIG_DATA + 4 * slot;
    guint32 name_pointer = vma_get_be32 (data + name_at);
    guint32 data_pointer = vma_get_be32 (data + data_at);
    gsize size;

    if (name_pointer == 0 && data_pointer == 0)
      continue;

    g_autofree char *name = blob_buffer_find_name (blobs, name_pointer);
    if (name == NULL || *name == '\0') {
      g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                   "header at %u: config %u has no valid name", name_at, slot);
      return FALSE;
    }
    const guint8 *blob = blob_buffer_find (blobs, data_pointer, &size);
    if (blob == NULL) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                   "header at %u: config %u has no valid data", data_at, slot);
      return FALSE;
    }
    VmaConfig *config = g_new0 (VmaConfig, 1);
    config->slot = slot;
    config->name = g_steal_pointer (&name);
    config->data = g_bytes_new (blob, size);
    g_ptr_array_add (header->configs, config);
  }
  return TRUE;
}

static gboolean
parse_devices (VmaHeader *header, const guint8 *data, const BlobBuffer *blobs, GError **error)
{
  for (guint id = VMA_FIRST_DEVICE; id <= VMA_LAST_DEVICE; id++) {
    guint at = VMA_HEADER_OFF_DEVICES + VMA_DEVICE_INFO_SIZE * id;
    guint32 pointer = vma_get_be32 (data + at);
    guint64 size = vma_get_be64 (data + at + 8);

    /* The format's own rule: without a size or a name there is no device. */
    if (size == 0)
      continue;
    g_autofree char *name = blob_buffer_find_name (blobs, pointer);
    if (name == NULL)
      continue;

    if (size > VMA_MAX_DEVICE_SIZE) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                   "header at %u: device %u has a size of %" G_GUINT64_FORMAT
                   " bytes, more than the format can address",
                   at + 8, id, size);
      return FALSE;
    }
    VmaDevice *device = g_new0 (VmaDevice, 1);
    device->id = (guint8) id;
    device->size = size;
    device->name = g_steal_pointer (&name);
    device->is_vmstate = strcmp (device->name, VMA_VMSTATE_NAME) == 0 && !header->has_vmstate;
    header->has_vmstate |= device->is_vmstate;
    device->clusters = device->is_vmstate ? VMA_MAX_CLUSTERS : vma_clusters_for_size (size);
    g_ptr_array_add (header->devices, device);
    header->by_id[id] = device;
  }
  return TRUE;
}

VmaHeader *
vma_header_parse (const guint8 *data, gsize size, GError **error)
{
  guint32 header_size = vma_header_peek_size (data, size, error);

  if (header_size == 0)
    return NULL;
  if (size < header_size) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                 "header at 0: the file ends at %" G_GSIZE_FORMAT
                 ", inside the header of %u bytes",
                 size, header_size);
    return NULL;
  }
  if (!vma_md5_matches (data, header_size, VMA_HEADER_OFF_MD5)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER, "header at %u: checksum mismatch",
                 VMA_HEADER_OFF_MD5);
    return NULL;
  }

  guint32 blob_offset = vma_get_be32 (data + VMA_HEADER_OFF_BLOB_OFFSET);
  guint32 blob_size = vma_get_be32 (data + VMA_HEADER_OFF_BLOB_SIZE);
  if (blob_offset < VMA_HEADER_FIXED_SIZE || (guint64) blob_offset + blob_size > header_size) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_HEADER,
                 "header at %u: the blob buffer (%u bytes at %u) is not inside the header",
                 VMA_HEADER_OFF_BLOB_OFFSET, blob_size, blob_offset);
    return NULL;
  }

  g_autoptr (VmaHeader) header = g_new0 (VmaHeader, 1);
  g_autoptr (GArray) starts = g_array_new (FALSE, FALSE, sizeof (guint32));
  BlobBuffer blobs = {
    .data = data + blob_offset,
    .offset = blob_offset,
    .size = blob_size,
    .starts = starts,
  };

  memcpy (header->uuid, data + VMA_HEADER_OFF_UUID, VMA_UUID_SIZE);
  header->ctime = (gint64) vma_get_be64 (data + VMA_HEADER_OFF_CTIME);
  header->size = header_size;
  header->devices = g_ptr_array_new_with_free_func ((GDestroyNotify) vma_device_free);
  header->configs = g_ptr_array_new_with_free_func ((GDestroyNotify) vma_config_free);

  if (!blob_buffer_walk (&blobs, error) || !parse_configs (header, data, &blobs, error)
      || !parse_devices (header, data, &blobs, error))
    return NULL;
  return g_steal_pointer (&header);
}

void
vma_header_free (VmaHeader *header)
{
  g_clear_pointer (&header->devices, g_ptr_array_unref);
  g_clear_pointer (&header->configs, g_ptr_array_unref);
  g_free (header);
}
