/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool parts: the partitions and file systems on the disks of an archive.
 */
#include "base/json-put.h"
#include "guest/guest.h"
#include "image/find.h"
#include "tool/command.h"
#include "tool/confine.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/size.h"
#include "vma/error.h"

#include <stdio.h>

typedef struct {
  const VmaGuest *guest;
  const VmaGuestVolume *root; /* NULL: none that could be it */
  const char *rule;
} Parts;

static const char *
disk_name (const Parts *parts, VmaImage *image)
{
  return vma_names_device (vma_archive_names (parts->guest->archive),
                           vma_image_device (image)->id);
}

/* --- text -------------------------------------------------------------------------------------- */

static const char *
content (const VmaGuestVolume *v)
{
  if (v->fs_type != NULL)
    return v->fs_type;
  return v->kind == VMA_GUEST_PARTITION && !v->is_window && v->problem == NULL ? "extended" : "-";
}

static void
print_volume (const VmaGuestVolume *v)
{
  g_autofree char *size = tool_format_size (v->length);
  g_autoptr (GString) line = g_string_new (NULL);
  const char *label = v->fs_label != NULL ? v->fs_label : v->part_label;

  g_string_printf (line, "  %-12s %10s  %-12s", v->name, size, content (v));
  if (v->fs_uuid != NULL)
    g_string_append_printf (line, " %s", v->fs_uuid);
  if (label != NULL)
    g_string_append_printf (line, " \"%s\"", label);
  if (v->vg != NULL && v->kind != VMA_GUEST_LV)
    g_string_append_printf (line, " VG %s", v->vg);
  printf ("%s\n", g_strchomp (line->str));
  if (v->problem != NULL)
    printf ("    %s\n", v->problem);
}

static void
print_text (const Parts *parts)
{
  for (guint d = 0; d < parts->guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (parts->guest->disks, d);
    g_autofree char *size = tool_format_size (vma_image_device (disk->image)->size);

    printf ("%s: %s, %s", disk_name (parts, disk->image), size,
            disk->table != NULL ? disk->table : "no partition table");
    if (disk->sector_size != 512)
      printf (", sectors of %u bytes", disk->sector_size);
    printf ("\n");
    if (disk->problem != NULL)
      printf ("  %s\n", disk->problem);
    for (guint i = 0; i < disk->volumes->len; i++)
      print_volume (g_ptr_array_index (disk->volumes, i));
  }
  if (parts->root != NULL)
    printf ("root: %s/%s (%s)\n", disk_name (parts, parts->root->image), parts->root->name,
            parts->rule);
}

/* --- JSON -------------------------------------------------------------------------------------- */

static void
volume_json (JsonBuilder *json, const VmaGuestVolume *v)
{
  static const char *const kinds[] = { "whole", "partition", "lv" };

  json_builder_begin_object (json);
  vma_json_put_string (json, "name", v->name);
  vma_json_put_string (json, "kind", kinds[v->kind]);
  if (v->kind == VMA_GUEST_PARTITION)
    vma_json_put_int (json, "number", v->number);
  if (v->is_window)
    vma_json_put_int (json, "offset", v->offset);
  vma_json_put_int (json, "size", v->length);
  vma_json_put_string (json, "part_type", v->type);
  vma_json_put_string (json, "part_label", v->part_label);
  vma_json_put_string (json, "part_uuid", v->part_uuid);
  vma_json_put_string (json, "type", v->fs_type);
  vma_json_put_string (json, "usage", v->fs_usage);
  vma_json_put_string (json, "version", v->fs_version);
  vma_json_put_string (json, "label", v->fs_label);
  vma_json_put_string (json, "uuid", v->fs_uuid);
  vma_json_put_string (json, "vg", v->vg);
  vma_json_put_string (json, "mount_options", vma_guest_mount_options (v));
  vma_json_put_string (json, "problem", v->problem);
  json_builder_end_object (json);
}

static void
disk_json (JsonBuilder *json, const Parts *parts, const VmaGuestDisk *disk)
{
  json_builder_begin_object (json);
  vma_json_put_string (json, "file", disk_name (parts, disk->image));
  vma_json_put_string (json, "name", vma_image_device (disk->image)->name);
  vma_json_put_int (json, "size", vma_image_device (disk->image)->size);
  vma_json_put_string (json, "table", disk->table);
  vma_json_put_string (json, "table_uuid", disk->table_uuid);
  vma_json_put_int (json, "sector_size", disk->sector_size);
  vma_json_put_string (json, "problem", disk->problem);
  vma_json_put_array (json, "volumes");
  for (guint i = 0; i < disk->volumes->len; i++)
    volume_json (json, g_ptr_array_index (disk->volumes, i));
  json_builder_end_array (json);
  json_builder_end_object (json);
}

static void
print_json (const Parts *parts)
{
  g_autoptr (JsonBuilder) json = json_builder_new ();

  json_builder_begin_object (json);
  vma_json_put_string (json, "archive", vma_archive_path (parts->guest->archive));
  vma_json_put_array (json, "disks");
  for (guint d = 0; d < parts->guest->disks->len; d++)
    disk_json (json, parts, g_ptr_array_index (parts->guest->disks, d));
  json_builder_end_array (json);
  if (parts->root != NULL) {
    vma_json_put_object (json, "root");
    vma_json_put_string (json, "disk", disk_name (parts, parts->root->image));
    vma_json_put_string (json, "volume", parts->root->name);
    vma_json_put_string (json, "rule", parts->rule);
    json_builder_end_object (json);
  }
  json_builder_end_object (json);
  vma_json_print (json);
}

/* --- the command ------------------------------------------------------------------------------- */

/* What could not be read fails the command, once all else was shown. */
static int
status_of (const VmaGuest *guest)
{
  for (guint d = 0; d < guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);
    if (disk->problem != NULL) {
      tool_error ("%s", disk->problem);
      return TOOL_FAILED;
    }
  }
  return TOOL_OK;
}

static int
show (VmaArchive *archive, const char *disk, gboolean as_json)
{
  const VmaGuestWanted root = { .part = "root" };
  g_autoptr (GError) error = NULL;
  VmaImage *only = NULL;

  if (disk != NULL) {
    const VmaDevice *device = vma_archive_find_disk (archive, disk, &error);
    if (device == NULL)
      return tool_fail (error, NULL);
    only = vma_archive_image (archive, device->id);
  }
  if (!tool_index_archive (archive, &error))
    return tool_fail (error, TOOL_ADVICE_SALVAGE);
  g_autoptr (VmaGuest) guest = vma_guest_probe (archive, only, tool_cancellable (), &error);
  if (guest == NULL)
    return tool_fail (error, NULL);
  Parts parts = { .guest = guest };
  parts.root = vma_guest_find (guest, &root, &parts.rule, tool_cancellable (), &error);
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED))
    return tool_fail (error, NULL);
  if (as_json)
    print_json (&parts);
  else
    print_text (&parts);
  return status_of (guest);
}

int
tool_parts (int argc, char **argv)
{
  g_autofree char *cache_option = NULL;
  gboolean as_json = FALSE, salvage = FALSE;
  const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "Print JSON", NULL },
    { "salvage", 0, 0, G_OPTION_ARG_NONE, &salvage, "Read what can be read of a damaged archive",
      NULL },
    TOOL_INDEX_CACHE_OPTION (&cache_option),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE [DISK]",
    .about = "Shows the partitions, logical volumes and file systems on the disks of an archive,\n"
             "and which of them the guest has as its root.",
    .entries = entries, .min = 1, .max = 2,
  };
  g_autoptr (GError) error = NULL;
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  tool_confine_to (arguments[0], cache_option);
  tool_interrupt_start ();
  g_autofree char *cache = tool_cache_dir (cache_option);
  g_autoptr (VmaArchive) archive = tool_open (arguments[0], cache, salvage, &error);
  if (archive == NULL)
    return tool_fail (error, NULL);
  if (vma_source_is_sequential (vma_archive_source (archive)))
    return tool_usage_error ("parts", "needs a file, not a pipe");
  return show (archive, arguments[1], as_json);
}
