/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/mounted.h"

#include "base/json-put.h"
#include "fuse/parked.h"
#include "fuse/status-parts.h"

#include <unistd.h>
#include <uuid/uuid.h>

static void
add_index (JsonBuilder *json, VmaArchive *archive)
{
  VmaIndex *index = vma_archive_index (archive);
  VmaIndexState state = vma_index_state (index);
  guint64 size = vma_source_size (vma_archive_source (archive));
  guint64 position = vma_index_position (index);
  VmaIndexCounts counts;

  vma_index_get_counts (index, &counts);
  json_builder_set_member_name (json, "index");
  json_builder_begin_object (json);
  vma_json_put_string (json, "state", vma_status_index_state (archive));
  vma_json_put_bool (json, "loaded", vma_archive_index_was_loaded (archive));
  vma_json_put_int (json, "position", position);
  if (size != VMA_SIZE_UNKNOWN) {
    vma_json_put_int (json, "size", size);
    json_builder_set_member_name (json, "percent");
    json_builder_add_double_value (
        json, state == VMA_INDEX_COMPLETE ? 100.0 : 100.0 * (double) position / (double) size);
  }
  vma_json_put_int (json, "extents", counts.extents);
  vma_json_put_int (json, "memory", vma_index_memory (index));
  if (vma_archive_index_path (archive) != NULL)
    vma_json_put_string (json, "path", vma_archive_index_path (archive));
  g_autoptr (GError) failure = vma_index_dup_failure (index);
  if (failure != NULL)
    vma_json_put_string (json, "failure", failure->message);
  json_builder_end_object (json);
}

static void
add_overlay (JsonBuilder *json, VmaOverlay *overlay)
{
  VmaOverlayUsage usage;

  vma_overlay_get_usage (overlay, &usage);
  json_builder_set_member_name (json, "overlay");
  json_builder_begin_object (json);
  if (usage.file != NULL)
    vma_json_put_string (json, "file", usage.file);
  vma_json_put_int (json, "blocks", usage.blocks);
  vma_json_put_int (json, "allocated", usage.allocated);
  vma_json_put_int (json, "written", usage.written);
  vma_json_put_int (json, "syncs", usage.syncs);
  vma_json_put_bool (json, "failed", usage.failed);
  json_builder_end_object (json);
}

static void
add_disks (JsonBuilder *json, VmaArchive *archive)
{
  const VmaHeader *header = vma_archive_header (archive);
  VmaIndex *index = vma_archive_index (archive);

  json_builder_set_member_name (json, "disks");
  json_builder_begin_array (json);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    VmaDeviceCounts counts;

    vma_index_get_device_counts (index, device->id, &counts);
    json_builder_begin_object (json);
    vma_json_put_string (json, "file", vma_names_device (vma_archive_names (archive), device->id));
    vma_json_put_string (json, "device", device->name);
    vma_json_put_int (json, "device-id", device->id);
    vma_json_put_int (json, "size", device->size);
    vma_json_put_int (json, "data-clusters", counts.data);
    vma_json_put_int (json, "zero-clusters", counts.zero);
    vma_json_put_int (json, "bad-clusters", counts.bad);
    if (vma_index_state (index) != VMA_INDEX_BUILDING)
      vma_json_put_int (json, "missing-clusters", vma_index_missing (index, device->id));
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
}

/* What only an archive has that could be opened. */
static void
add_archive (JsonBuilder *json, VmaMounted *mounted)
{
  char uuid[UUID_STR_LEN];

  uuid_unparse_lower (vma_archive_header (mounted->archive)->uuid, uuid);
  vma_json_put_string (json, "kind", vma_source_kind (vma_archive_source (mounted->archive)));
  vma_json_put_string (json, "uuid", uuid);
  vma_json_put_int (json, "ctime", (guint64) vma_archive_header (mounted->archive)->ctime);
  add_index (json, mounted->archive);
  VmaSums *sums = vma_archive_checksums (mounted->archive);
  if (sums != NULL) {
    json_builder_set_member_name (json, "checksums");
    json_builder_begin_object (json);
    vma_json_put_int (json, "bytes", vma_sums_size (sums));
    vma_json_put_int (json, "checked", vma_sums_checked (sums));
    json_builder_end_object (json);
  }

  json_builder_set_member_name (json, "reads");
  json_builder_begin_object (json);
  vma_json_put_int (json, "count", atomic_load (&mounted->reads));
  vma_json_put_int (json, "bytes", atomic_load (&mounted->read_bytes));
  vma_json_put_int (json, "waiting", vma_parked_count (mounted->parked));
  json_builder_end_object (json);

  if (mounted->overlay != NULL)
    add_overlay (json, mounted->overlay);

  json_builder_set_member_name (json, "errors");
  json_builder_begin_object (json);
  vma_json_put_int (json, "reads", vma_read_errors_count (mounted->errors));
  vma_json_put_int (json, "damage", vma_index_damage_count (vma_archive_index (mounted->archive)));
  json_builder_end_object (json);
  add_disks (json, mounted->archive);
}

GBytes *
vma_mounted_status (VmaMounted *mounted)
{
  g_autoptr (JsonBuilder) json = json_builder_new ();

  json_builder_begin_object (json);
  vma_json_put_string (json, "archive", mounted->source);
  vma_json_put_string (json, "version", VMAFS_VERSION);
  vma_json_put_int (json, "pid", (guint64) getpid ());
  vma_json_put_bool (json, "salvage", mounted->options->salvage);
  vma_status_sandbox (json, &mounted->options->confined);
  if (mounted->archive != NULL)
    add_archive (json, mounted);
  else
    vma_json_put_string (json, "failure", mounted->failure);
  json_builder_end_object (json);
  return vma_json_to_bytes (json);
}

/* Appends the stretches of a device that are missing or bad. */
static void
append_lost_ranges (GString *text, VmaArchive *archive, const VmaDevice *device)
{
  VmaIndex *index = vma_archive_index (archive);
  VmaMap *map = vma_index_map (index, device->id);
  VmaDeviceCounts counts;
  guint64 cluster = 0, end, clusters = device->clusters;

  vma_index_get_device_counts (index, device->id, &counts);
  if (counts.bad + vma_index_missing (index, device->id) == 0)
    return;
  if (device->is_vmstate)
    clusters = counts.next;
  while (cluster < clusters) {
    guint64 start = cluster;
    VmaEntry entry;

    while (cluster < clusters
           && ((entry = vma_map_get_run (map, cluster, &end)) == VMA_ENTRY_MISSING
               || entry == VMA_ENTRY_BAD))
      cluster = end;
    if (cluster > start)
      g_string_append_printf (
          text, "lost: %s: %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT "\n",
          vma_names_device (vma_archive_names (archive), device->id), start * VMA_CLUSTER_SIZE,
          device->is_vmstate ? cluster * VMA_CLUSTER_SIZE
                             : MIN (cluster * VMA_CLUSTER_SIZE, device->size));
    else
      cluster = end;
  }
}

static void
append_archive_errors (GString *text, VmaMounted *mounted)
{
  VmaIndex *index = vma_archive_index (mounted->archive);
  const VmaHeader *header = vma_archive_header (mounted->archive);
  g_autoptr (GPtrArray) damage = vma_index_dup_damage (index);
  g_autoptr (GError) failure = vma_index_dup_failure (index);

  if (failure != NULL)
    g_string_append_printf (text, "index: %s\n", failure->message);
  for (guint i = 0; i < damage->len; i++) {
    const VmaDamage *d = g_ptr_array_index (damage, i);
    g_string_append_printf (text, "archive: %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT ": %s\n",
                            d->start, d->end, d->reason);
  }
  if (vma_index_state (index) == VMA_INDEX_COMPLETE)
    for (guint i = 0; i < header->devices->len; i++)
      append_lost_ranges (text, mounted->archive, g_ptr_array_index (header->devices, i));
  vma_read_errors_append (mounted->errors, text);
}

GBytes *
vma_mounted_error_list (VmaMounted *mounted)
{
  GString *text = g_string_new (NULL);

  if (mounted->archive != NULL)
    append_archive_errors (text, mounted);
  else
    g_string_append_printf (text, "open: %s\n", mounted->failure);
  return g_string_free_to_bytes (text);
}
