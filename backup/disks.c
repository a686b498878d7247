/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/disks.h"

#include "backup/names.h"
#include "vma/error.h"

#include <string.h>

void
vma_disk_free (VmaDisk *disk)
{
  g_free (disk->name);
  g_free (disk->qdev);
  g_free (disk->node);
  g_free (disk->parent);
  g_free (disk->file);
  g_free (disk);
}

/* The id in a device's path: "/machine/peripheral/vd0/virtio-backend" is vd0's. */
static char *
qdev_id (const char *qdev)
{
  static const char *const roots[] = { "/machine/peripheral/", "/machine/peripheral-anon/" };

  for (guint i = 0; i < G_N_ELEMENTS (roots); i++)
    if (g_str_has_prefix (qdev, roots[i])) {
      const char *id = qdev + strlen (roots[i]);
      g_autofree char *first = g_strndup (id, strcspn (id, "/"));
      return i == 0 ? g_steal_pointer (&first) : NULL;
    }
  return *qdev != '/' ? g_strdup (qdev) : NULL;
}

/* "scsi0" of Proxmox is "drive-scsi0" in its archives. */
static gboolean
is_proxmox_id (const char *id)
{
  static const char *const buses[] = { "scsi", "virtio", "ide", "sata", "efidisk", "tpmstate" };

  for (guint i = 0; i < G_N_ELEMENTS (buses); i++)
    if (g_str_has_prefix (id, buses[i])) {
      const char *digits = id + strlen (buses[i]);
      return *digits != '\0' && strspn (digits, "0123456789") == strlen (digits);
    }
  return FALSE;
}

static char *
archive_name (const char *device, const char *id, const char *node)
{
  if (device != NULL && *device != '\0')
    return g_strdup (device);
  if (g_str_has_prefix (node, "drive-"))
    return g_strdup (node);
  if (id != NULL)
    return is_proxmox_id (id) ? g_strconcat ("drive-", id, NULL) : g_strdup (id);
  return g_strdup (node);
}

/* Takes the names that fit out of `unused`; TRUE if there was one. */
static gboolean
take_named (GHashTable *unused, const char *const *wanted, const char *const names[4])
{
  gboolean found = FALSE;

  for (; wanted != NULL && *wanted != NULL; wanted++)
    for (guint i = 0; i < 4; i++)
      if (names[i] != NULL && strcmp (names[i], *wanted) == 0) {
        g_hash_table_remove (unused, *wanted);
        found = TRUE;
      }
  return found;
}

typedef struct {
  const char *const *devices, *const *exclude;
  GHashTable *unused; /* names that fitted nothing so far */
  GPtrArray *disks;
} Search;

/* Whether the disk with these names is meant. */
static gboolean
is_wanted (Search *search, const char *const names[4], gboolean by_default)
{
  gboolean named = take_named (search->unused, search->devices, names);
  gboolean excluded = take_named (search->unused, search->exclude, names);

  return (search->devices != NULL ? named : by_default) && !excluded;
}

static gboolean
add_disk (Search *search, VmaDisk *disk, GError **error)
{
  g_ptr_array_add (search->disks, disk);
  if (disk->size == 0)
    return vma_fail (error, VMA_ERROR_INVALID, "%s: the disk has no size", disk->name);
  for (guint i = 0; i + 1 < search->disks->len; i++)
    if (strcmp (((VmaDisk *) search->disks->pdata[i])->name, disk->name) == 0)
      return vma_fail (error, VMA_ERROR_INVALID,
                       "two disks are called '%s' (--exclude one of them)", disk->name);
  return TRUE;
}

/* One entry of query-block. */
static gboolean
look_at_block (Search *search, JsonObject *block, GError **error)
{
  JsonObject *inserted = vma_json_object (block, "inserted");
  const char *device = vma_json_string (block, "device");
  const char *qdev = vma_json_string (block, "qdev");
  const char *node = vma_json_string (inserted, "node-name");

  if (inserted == NULL || node == NULL)
    return TRUE;
  g_autofree char *id = qdev != NULL ? qdev_id (qdev) : NULL;
  g_autofree char *name = archive_name (device, id, node);
  const char *names[4] = { name, device != NULL && *device != '\0' ? device : NULL, id, node };
  if (!is_wanted (search, names, qdev != NULL && !vma_json_bool (inserted, "ro")))
    return TRUE;
  if (qdev == NULL)
    return vma_fail (error, VMA_ERROR_INVALID, "%s: no device of the guest has this disk", name);
  if (g_strcmp0 (vma_json_string (inserted, "drv"), "copy-before-write") == 0)
    return vma_fail (
        error, VMA_ERROR_INVALID,
        "%s: another live backup has this disk (if none runs any more: vmabackup clean)", name);
  gint64 size = vma_json_int (vma_json_object (inserted, "image"), "virtual-size", 0);
  VmaDisk *disk = g_new0 (VmaDisk, 1);
  disk->name = g_steal_pointer (&name);
  disk->qdev = g_strdup (qdev);
  disk->node = g_strdup (node);
  disk->file = g_strdup (vma_json_string (inserted, "file"));
  disk->size = size > 0 ? (guint64) size : 0;
  return add_disk (search, disk, error);
}

/* One entry of query-named-block-nodes, where there are no devices: raw nodes over another node. */
static gboolean
look_at_node (Search *search, JsonObject *node, JsonObject *graph, GError **error)
{
  const char *name = vma_json_string (node, "node-name");
  const char *names[4] = { name, NULL, NULL, NULL };

  if (name == NULL || g_strcmp0 (vma_json_string (node, "drv"), "raw") != 0
      || !is_wanted (search, names, FALSE))
    return TRUE;
  g_autofree char *below = vma_names_child (graph, name, "file");
  gint64 size = vma_json_int (vma_json_object (node, "image"), "virtual-size", 0);
  if (below == NULL)
    return vma_fail (error, VMA_ERROR_INVALID, "%s: nothing is known of the node below", name);
  if (g_str_has_prefix (below, VMA_NODE_PREFIX))
    return vma_fail (
        error, VMA_ERROR_INVALID,
        "%s: another live backup has this disk (if none runs any more: vmabackup clean)", name);
  VmaDisk *disk = g_new0 (VmaDisk, 1);
  disk->name = g_strdup (name);
  disk->node = g_steal_pointer (&below);
  disk->parent = g_strdup (name);
  disk->size = size > 0 ? (guint64) size : 0;
  return add_disk (search, disk, error);
}

static gboolean
look_at_all (Search *search, VmaQmp *qmp, const VmaFeatures *features, GError **error)
{
  g_autoptr (JsonNode) graph = NULL;
  const char *query = features->has_devices ? "query-block" : "query-named-block-nodes";
  g_autoptr (JsonNode) list = vma_qmp_execute (qmp, query, NULL, VMA_QMP_SECONDS, error);

  if (list != NULL && !features->has_devices)
    graph = vma_qmp_execute (qmp, "x-debug-query-block-graph", NULL, VMA_QMP_SECONDS, error);
  if (list == NULL || (!features->has_devices && graph == NULL))
    return FALSE;
  JsonArray *array = vma_json_node_array (list);
  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonObject *one = vma_json_element (array, i);
    if (one == NULL)
      continue;
    if (!(features->has_devices ? look_at_block (search, one, error)
                                : look_at_node (search, one, vma_json_node_object (graph), error)))
      return FALSE;
  }
  return TRUE;
}

GPtrArray *
vma_disks_find (VmaQmp *qmp, const VmaFeatures *features, const char *const *devices,
                const char *const *exclude, GError **error)
{
  g_autoptr (GHashTable) unused = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GPtrArray) disks = g_ptr_array_new_with_free_func ((GDestroyNotify) vma_disk_free);
  Search search = { devices, exclude, unused, disks };
  const char *const *lists[] = { devices, exclude };
  GHashTableIter iter;
  gpointer name;

  if (!features->has_devices && devices == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "a qemu-storage-daemon has no devices: name raw nodes with --devices");
    return NULL;
  }
  for (guint l = 0; l < G_N_ELEMENTS (lists); l++)
    for (guint i = 0; lists[l] != NULL && lists[l][i] != NULL; i++)
      g_hash_table_add (unused, (gpointer) lists[l][i]);
  if (!look_at_all (&search, qmp, features, error))
    return NULL;
  g_hash_table_iter_init (&iter, unused);
  if (g_hash_table_iter_next (&iter, &name, NULL)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "no disk is called '%s'",
                 (const char *) name);
    return NULL;
  }
  if (disks->len == 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "the guest has no disk to back up");
    return NULL;
  }
  return g_steal_pointer (&disks);
}
