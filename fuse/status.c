/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/mounted.h"

#include "fuse/parked.h"

#include <json-glib/json-glib.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

static const char *
state_name (VmaIndexState state)
{
  switch (state) {
  case VMA_INDEX_COMPLETE:
    return "complete";
  case VMA_INDEX_FAILED:
    return "failed";
  default:
    return "building";
  }
}

static void
add_string (JsonBuilder *json, const char *name, const char *value)
{
  json_builder_set_member_name (json, name);
  /* Paths are bytes; JSON is UTF-8. */
  g_autofree char *valid = g_utf8_make_valid (value, -1);
  json_builder_add_string_value (json, valid);
}

static void
add_number (JsonBuilder *json, const char *name, guint64 value)
{
  json_builder_set_member_name (json, name);
  json_builder_add_int_value (json, (gint64) value);
}

static void
add_bool (JsonBuilder *json, const char *name, gboolean value)
{
  json_builder_set_member_name (json, name);
  json_builder_add_boolean_value (json, value);
}

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
  add_string (json, "state", state_name (state));
  add_bool (json, "loaded", vma_archive_index_was_loaded (archive));
  add_number (json, "position", position);
  if (size != VMA_SIZE_UNKNOWN) {
    add_number (json, "size", size);
    json_builder_set_member_name (json, "percent");
    json_builder_add_double_value (
        json, state == VMA_INDEX_COMPLETE ? 100.0 : 100.0 * (double) position / (double) size);
  }
  add_number (json, "extents", counts.extents);
  add_number (json, "memory", vma_index_memory (index));
  if (vma_archive_index_path (archive) != NULL)
    add_string (json, "path", vma_archive_index_path (archive));
  g_autoptr (GError) failure = vma_index_dup_failure (index);
  if (failure != NULL)
    add_string (json, "failure", failure->message);
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
    add_string (json, "file", usage.file);
  add_number (json, "blocks", usage.blocks);
  add_number (json, "allocated", usage.allocated);
  add_number (json, "written", usage.written);
  add_number (json, "syncs", usage.syncs);
  add_bool (json, "failed", usage.failed);
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
    add_string (json, "file", vma_names_device (vma_archive_names (archive), device->id));
    add_string (json, "device", device->name);
    add_number (json, "device-id", device->id);
    add_number (json, "size", device->size);
    add_number (json, "data-clusters", counts.data);
    add_number (json, "zero-clusters", counts.zero);
    add_number (json, "bad-clusters", counts.bad);
    if (vma_index_state (index) != VMA_INDEX_BUILDING)
      add_number (json, "missing-clusters", vma_index_missing (index, device->id));
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
}

GBytes *
vma_mounted_status (VmaMounted *mounted)
{
  g_autoptr (JsonBuilder) json = json_builder_new ();
  g_autoptr (JsonGenerator) generator = json_generator_new ();
  char uuid[UUID_STR_LEN];

  uuid_unparse_lower (vma_archive_header (mounted->archive)->uuid, uuid);
  json_builder_begin_object (json);
  add_string (json, "archive", mounted->source);
  add_string (json, "kind", vma_source_kind (vma_archive_source (mounted->archive)));
  add_string (json, "uuid", uuid);
  add_number (json, "ctime", (guint64) vma_archive_header (mounted->archive)->ctime);
  add_string (json, "version", VMAFS_VERSION);
  add_number (json, "pid", (guint64) getpid ());
  add_bool (json, "salvage", vma_archive_is_salvaging (mounted->archive));
  add_index (json, mounted->archive);

  json_builder_set_member_name (json, "reads");
  json_builder_begin_object (json);
  add_number (json, "count", atomic_load (&mounted->reads));
  add_number (json, "bytes", atomic_load (&mounted->read_bytes));
  add_number (json, "waiting", vma_parked_count (mounted->parked));
  json_builder_end_object (json);

  if (mounted->overlay != NULL)
    add_overlay (json, mounted->overlay);

  json_builder_set_member_name (json, "errors");
  json_builder_begin_object (json);
  add_number (json, "reads", vma_read_errors_count (mounted->errors));
  add_number (json, "damage", vma_index_damage_count (vma_archive_index (mounted->archive)));
  json_builder_end_object (json);
  add_disks (json, mounted->archive);
  json_builder_end_object (json);

  g_autoptr (JsonNode) root = json_builder_get_root (json);
  json_generator_set_root (generator, root);
  json_generator_set_pretty (generator, TRUE);
  g_autofree char *text = json_generator_to_data (generator, NULL);
  g_autofree char *lines = g_strconcat (text, "\n", NULL);
  return g_bytes_new (lines, strlen (lines));
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

GBytes *
vma_mounted_error_list (VmaMounted *mounted)
{
  VmaIndex *index = vma_archive_index (mounted->archive);
  const VmaHeader *header = vma_archive_header (mounted->archive);
  g_autoptr (GPtrArray) damage = vma_index_dup_damage (index);
  g_autoptr (GError) failure = vma_index_dup_failure (index);
  GString *text = g_string_new (NULL);

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
  return g_string_free_to_bytes (text);
}
