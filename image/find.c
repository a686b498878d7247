/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image/find.h"

#include "vma/error.h"

#include <string.h>

static gboolean
is_called (const VmaDevice *device, const char *name)
{
  if (strcmp (name, device->name) == 0)
    return TRUE;
  return g_str_has_prefix (device->name, "drive-")
         && strcmp (name, device->name + strlen ("drive-")) == 0;
}

static char *
list_disks (VmaArchive *archive)
{
  const GPtrArray *devices = vma_archive_header (archive)->devices;
  GString *text = g_string_new (devices->len == 0 ? "there is none" : "there is");

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    g_string_append_printf (text, "%s %s", i > 0 ? "," : "",
                            vma_names_device (vma_archive_names (archive), device->id));
  }
  return g_string_free (text, FALSE);
}

const VmaDevice *
vma_archive_find_disk (VmaArchive *archive, const char *name, GError **error)
{
  const GPtrArray *devices = vma_archive_header (archive)->devices;
  const VmaDevice *found = NULL;
  guint n = 0;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    /* File names are the only ones that are unique for sure. */
    if (strcmp (name, vma_names_device (vma_archive_names (archive), device->id)) == 0)
      return device;
    if (is_called (device, name)) {
      found = device;
      n++;
    }
  }
  if (n == 1)
    return found;
  g_autofree char *disks = list_disks (archive);
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: %s '%s': %s", vma_archive_path (archive),
               n == 0 ? "no disk" : "more than one disk", name, disks);
  return NULL;
}
