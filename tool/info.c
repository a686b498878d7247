/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool info: what an archive is made of.  A damaged one is told about as far as it can be read.
 */
#include "base/json-put.h"
#include "image/image.h"
#include "tool/command.h"
#include "tool/confine.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/size.h"

#include <stdio.h>

/* One disk, in bytes unless the name says otherwise. */
typedef struct {
  const VmaDevice *device;
  const char *file;
  guint64 size;
  guint64 data, zero, missing; /* of it, in whole clusters */
  guint64 stored;              /* in the archive */
  guint64 clusters, in_order;
} Disk;

typedef struct {
  VmaArchive *archive;
  const VmaHeader *header;
  VmaIndex *index;
  VmaIndexCounts counts;
  guint64 listed, in_order; /* clusters of all disks */
  guint64 stored;
  guint damaged;
  guint n;
  Disk disks[VMA_MAX_DEVICES];
} Info;

static gboolean
collect (Info *info, VmaArchive *archive, GError **error)
{
  info->archive = archive;
  info->header = vma_archive_header (archive);
  info->index = vma_archive_index (archive);
  info->damaged = vma_index_damage_count (info->index);
  vma_index_get_counts (info->index, &info->counts);

  for (guint i = 0; i < info->header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (info->header->devices, i);
    Disk *disk = &info->disks[info->n++];
    VmaDeviceCounts counts;

    vma_index_get_device_counts (info->index, device->id, &counts);
    disk->device = device;
    disk->file = vma_names_device (vma_archive_names (archive), device->id);
    if (!vma_image_size (vma_archive_image (archive, device->id), &disk->size, NULL, error))
      return FALSE;
    disk->data = counts.data * VMA_CLUSTER_SIZE;
    disk->zero = counts.zero * VMA_CLUSTER_SIZE;
    disk->missing = (counts.bad + vma_index_missing (info->index, device->id)) * VMA_CLUSTER_SIZE;
    disk->stored = counts.blocks * VMA_BLOCK_SIZE;
    disk->clusters = counts.data + counts.zero;
    disk->in_order = counts.in_order;
    info->listed += disk->clusters;
    info->in_order += disk->in_order;
    info->stored += disk->stored;
  }
  return TRUE;
}

/* --- text -------------------------------------------------------------------------------------- */

static void
print_bytes (const char *label, guint64 bytes)
{
  g_autofree char *size = tool_format_size (bytes);

  printf ("%-13s%" G_GUINT64_FORMAT " bytes (%s)\n", label, bytes, size);
}

static void
print_disk (const Disk *disk)
{
  g_autofree char *size = tool_format_size (disk->size);
  guint64 all = disk->data + disk->zero + disk->missing;

  printf ("disk:        %s, id %u, %" G_GUINT64_FORMAT " bytes (%s)\n", disk->file,
          disk->device->id, disk->size, size);
  printf ("             clusters: %.3g%% data, %.3g%% zero, %.3g%% missing; %.3g%% in order\n",
          tool_percent (disk->data, all), tool_percent (disk->zero, all),
          tool_percent (disk->missing, all), tool_percent (disk->in_order, disk->clusters));
  g_autofree char *stored = tool_format_size (disk->stored);
  printf ("             stored: %" G_GUINT64_FORMAT " bytes (%s), %.3g%% of the disk\n",
          disk->stored, stored, tool_percent (disk->stored, disk->size));
}

static void
print_saved_index (VmaArchive *archive)
{
  const char *path = vma_archive_index_path (archive);
  gboolean there = path != NULL && g_file_test (path, G_FILE_TEST_EXISTS);

  printf ("saved index: %s%s\n", path != NULL ? path : "none",
          path == NULL ? "" : there ? "" : " (not there)");
}

static void
print_text (const Info *info)
{
  const GPtrArray *configs = info->header->configs;
  g_autofree char *uuid = tool_uuid_text (info->header->uuid);
  g_autofree char *when = tool_archive_ctime (info->archive);
  guint64 size = vma_source_size (vma_archive_source (info->archive));
  g_autofree char *memory = tool_format_size (vma_index_memory (info->index));

  printf ("archive:     %s (%s)\n", vma_archive_path (info->archive),
          vma_source_kind (vma_archive_source (info->archive)));
  printf ("uuid:        %s\ncreated:     %s\n", uuid, when);
  print_bytes ("size:", size != VMA_SIZE_UNKNOWN ? size : info->counts.end);
  printf ("header:      %u bytes\n", info->header->size);
  printf ("extents:     %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT " of them without data\n",
          info->counts.extents, info->counts.bare_extents);
  printf ("order:       %.4g%% of %" G_GUINT64_FORMAT " clusters follow their predecessor\n",
          tool_percent (info->in_order, info->listed), info->listed);
  print_bytes ("stored:", info->stored);
  for (guint i = 0; i < configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs, i);
    printf ("config:      %s, %" G_GSIZE_FORMAT " bytes\n",
            vma_names_config (vma_archive_names (info->archive), i),
            g_bytes_get_size (config->data));
  }
  for (guint i = 0; i < info->n; i++)
    print_disk (&info->disks[i]);
  printf ("index:       %s of memory, %.3g bytes a cluster\n", memory,
          info->listed > 0 ? (double) vma_index_memory (info->index) / (double) info->listed : 0);
  print_saved_index (info->archive);
  if (info->damaged > 0)
    printf ("damage:      in %u places (" TOOL_ADVICE_LIST ")\n", info->damaged);
}

/* --- JSON -------------------------------------------------------------------------------------- */

static void
disk_json (JsonBuilder *json, const Disk *disk)
{
  json_builder_begin_object (json);
  vma_json_put_int (json, "id", disk->device->id);
  vma_json_put_string (json, "name", disk->device->name);
  vma_json_put_string (json, "file", disk->file);
  vma_json_put_bool (json, "vmstate", disk->device->is_vmstate);
  vma_json_put_int (json, "size", disk->size);
  vma_json_put_int (json, "data", disk->data);
  vma_json_put_int (json, "zero", disk->zero);
  vma_json_put_int (json, "missing", disk->missing);
  vma_json_put_int (json, "stored", disk->stored);
  vma_json_put_int (json, "clusters", disk->clusters);
  vma_json_put_int (json, "in_order", disk->in_order);
  json_builder_end_object (json);
}

static void
index_json (JsonBuilder *json, const Info *info)
{
  const char *path = vma_archive_index_path (info->archive);

  vma_json_put_object (json, "index");
  vma_json_put_int (json, "memory", vma_index_memory (info->index));
  vma_json_put_bool (json, "loaded", vma_archive_index_was_loaded (info->archive));
  vma_json_put_string (json, "path", path);
  vma_json_put_bool (json, "saved", path != NULL && g_file_test (path, G_FILE_TEST_EXISTS));
  json_builder_end_object (json);
}

static void
print_json (const Info *info)
{
  g_autoptr (JsonBuilder) json = json_builder_new ();
  const GPtrArray *configs = info->header->configs;
  g_autofree char *uuid = tool_uuid_text (info->header->uuid);
  guint64 size = vma_source_size (vma_archive_source (info->archive));

  json_builder_begin_object (json);
  vma_json_put_string (json, "archive", vma_archive_path (info->archive));
  vma_json_put_string (json, "kind", vma_source_kind (vma_archive_source (info->archive)));
  vma_json_put_string (json, "uuid", uuid);
  json_builder_set_member_name (json, "ctime");
  json_builder_add_int_value (json, info->header->ctime);
  vma_json_put_int (json, "size", size != VMA_SIZE_UNKNOWN ? size : info->counts.end);
  vma_json_put_int (json, "header_size", info->header->size);
  vma_json_put_int (json, "extents", info->counts.extents);
  vma_json_put_int (json, "bare_extents", info->counts.bare_extents);
  vma_json_put_int (json, "clusters", info->listed);
  vma_json_put_int (json, "in_order", info->in_order);
  vma_json_put_int (json, "stored", info->stored);
  vma_json_put_int (json, "damaged_places", info->damaged);
  vma_json_put_array (json, "configs");
  for (guint i = 0; i < configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs, i);
    json_builder_begin_object (json);
    vma_json_put_string (json, "name", config->name);
    vma_json_put_string (json, "file", vma_names_config (vma_archive_names (info->archive), i));
    vma_json_put_int (json, "size", g_bytes_get_size (config->data));
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
  vma_json_put_array (json, "disks");
  for (guint i = 0; i < info->n; i++)
    disk_json (json, &info->disks[i]);
  json_builder_end_array (json);
  index_json (json, info);
  json_builder_end_object (json);
  vma_json_print (json);
}

static int
info (const char *path, const char *cache_option, gboolean as_json)
{
  g_autofree char *cache = tool_cache_dir (cache_option);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = tool_open (path, cache, TRUE, &error);
  g_autofree Info *all = g_new0 (Info, 1);

  if (archive == NULL)
    return tool_fail (error, NULL);
  if (vma_source_is_sequential (vma_archive_source (archive)))
    return tool_usage_error ("info", "needs a file, not a pipe");
  if (!tool_index_archive (archive, &error) || !collect (all, archive, &error))
    return tool_fail (error, NULL);
  if (as_json)
    print_json (all);
  else
    print_text (all);
  return TOOL_OK;
}

int
tool_info (int argc, char **argv)
{
  g_autofree char *cache = NULL;
  gboolean as_json = FALSE;
  const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "Print JSON", NULL },
    TOOL_INDEX_CACHE_OPTION (&cache),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE",
    .about = "Shows what an archive is made of: extents, in which order clusters stand, how much of\n"
             "each disk is data, zero or missing, and where the saved index is.",
    .entries = entries, .min = 1, .max = 1,
  };
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  tool_confine_to (arguments[0], cache);
  tool_interrupt_start ();
  return info (arguments[0], cache, as_json);
}
