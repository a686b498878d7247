/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image/delta.h"

#include "vma/error.h"

#include <string.h>
#include <uuid/uuid.h>

gboolean
vma_delta_base_uuid (const VmaHeader *header, guint8 uuid[VMA_UUID_SIZE])
{
  for (guint i = 0; i < header->configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (header->configs, i);
    gsize size;
    const char *text = g_bytes_get_data (config->data, &size);

    if (strcmp (config->name, VMA_DELTA_CONFIG) != 0)
      continue;
    char copy[UUID_STR_LEN] = "";
    memcpy (copy, text, MIN (size, sizeof copy - 1));
    return uuid_parse (copy, uuid) == 0;
  }
  return FALSE;
}

char *
vma_delta_text (const guint8 uuid[VMA_UUID_SIZE])
{
  char text[UUID_STR_LEN];

  uuid_unparse_lower (uuid, text);
  return g_strdup_printf ("%s\n", text);
}

const VmaDevice *
vma_delta_device (VmaArchive *base, const VmaDevice *device)
{
  const VmaHeader *header = vma_archive_header (base);

  for (guint i = 0; i < header->devices->len && !device->is_vmstate; i++) {
    const VmaDevice *other = g_ptr_array_index (header->devices, i);
    if (!other->is_vmstate && strcmp (other->name, device->name) == 0)
      return other;
  }
  return NULL;
}

gboolean
vma_delta_match (const VmaHeader *header, VmaArchive *base, GError **error)
{
  guint8 wanted[VMA_UUID_SIZE];

  if (!vma_delta_base_uuid (header, wanted)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "this archive is whole: it has no base");
    return FALSE;
  }
  if (memcmp (wanted, vma_archive_header (base)->uuid, VMA_UUID_SIZE) != 0) {
    char text[UUID_STR_LEN];
    uuid_unparse_lower (wanted, text);
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s is not its base, which has the uuid %s",
                 vma_archive_path (base), text);
    return FALSE;
  }
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    const VmaDevice *other = vma_delta_device (base, device);

    if (other != NULL && other->size != device->size) {
      g_autofree char *name = vma_name_escape (device->name);
      g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                   "disk %s has %" G_GUINT64_FORMAT " bytes, and %" G_GUINT64_FORMAT " in its base",
                   name, device->size, other->size);
      return FALSE;
    }
  }
  return TRUE;
}
