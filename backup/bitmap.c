/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/bitmap.h"

#include <string.h>
#include <uuid/uuid.h>

#define PREFIX "vmabackup:"

char *
vma_bitmap_name (const char *name, const guint8 uuid[VMA_UUID_SIZE])
{
  char text[UUID_STR_LEN];

  uuid_unparse_lower (uuid, text);
  return g_strdup_printf (PREFIX "%s:%s", name, text);
}

/* The bitmaps of a node; *list is to be freed. */
static JsonArray *
bitmaps_of (VmaQmp *qmp, const char *node, JsonNode **list)
{
  *list = vma_qmp_execute (qmp, "query-named-block-nodes", vma_json_make ("flat:b", TRUE, NULL),
                           VMA_QMP_SECONDS, NULL);
  JsonArray *nodes = vma_json_node_array (*list);
  for (guint i = 0; i < vma_json_length (nodes); i++) {
    JsonObject *one = vma_json_element (nodes, i);
    if (g_strcmp0 (vma_json_string (one, "node-name"), node) == 0)
      return vma_json_array (one, "dirty-bitmaps");
  }
  return NULL;
}

gboolean
vma_bitmap_is_usable (VmaQmp *qmp, const char *node, const char *bitmap, const char **why)
{
  g_autoptr (JsonNode) list = NULL;
  JsonArray *bitmaps = bitmaps_of (qmp, node, &list);

  *why = "there is none";
  for (guint i = 0; i < vma_json_length (bitmaps); i++) {
    JsonObject *one = vma_json_element (bitmaps, i);
    if (g_strcmp0 (vma_json_string (one, "name"), bitmap) != 0)
      continue;
    *why = vma_json_bool (one, "inconsistent") ? "it was not saved when QEMU ended"
           : vma_json_bool (one, "busy")       ? "it is in use"
           : !vma_json_bool (one, "recording") ? "it is stopped"
                                               : NULL;
    return *why == NULL;
  }
  return FALSE;
}

static JsonNode *
action (const char *type, JsonNode *data)
{
  return vma_json_make ("type:s", type, "data:o", data, NULL);
}

static JsonNode *
named (const char *node, const char *bitmap)
{
  return vma_json_make ("node:s", node, "name:s", bitmap, NULL);
}

static JsonNode *
merge (const char *node, const char *target, const char *source_node, const char *source)
{
  return vma_json_make ("node:s", node, "target:s", target, "bitmaps:o",
                        vma_json_list (named (source_node, source), NULL), NULL);
}

static gboolean
transaction (VmaQmp *qmp, JsonNode *actions, GError **error)
{
  return vma_qmp_run (qmp, "transaction", vma_json_make ("actions:o", actions, NULL), error);
}

gboolean
vma_bitmap_begin (VmaQmp *qmp, const char *node, const char *old, const char *next, GError **error)
{
  JsonNode *add = vma_json_make ("node:s", node, "name:s", next, "granularity:i",
                                 (gint64) VMA_CLUSTER_SIZE, NULL);

  if (old == NULL)
    return vma_qmp_run (qmp, "block-dirty-bitmap-add", add, error);
  return transaction (qmp,
                      vma_json_list (action ("block-dirty-bitmap-disable", named (node, old)),
                                     action ("block-dirty-bitmap-add", add), NULL),
                      error);
}

gboolean
vma_bitmap_give (VmaQmp *qmp, const char *node, const char *old, const char *snapshot,
                 GError **error)
{
  return vma_qmp_run (qmp, "block-dirty-bitmap-add",
                      vma_json_make ("node:s", snapshot, "name:s", VMA_BITMAP_OF_SNAPSHOT,
                                     "granularity:i", (gint64) VMA_CLUSTER_SIZE, "disabled:b", TRUE,
                                     NULL),
                      error)
         && vma_qmp_run (qmp, "block-dirty-bitmap-merge",
                         merge (snapshot, VMA_BITMAP_OF_SNAPSHOT, node, old), error);
}

gboolean
vma_bitmap_show (VmaQmp *qmp, const char *snapshot, GError **error)
{
  return vma_qmp_run (qmp, "block-dirty-bitmap-add",
                      vma_json_make ("node:s", snapshot, "name:s", VMA_BITMAP_SHOWN,
                                     "granularity:i", (gint64) VMA_CLUSTER_SIZE, "disabled:b", TRUE,
                                     NULL),
                      error)
         && vma_qmp_run (qmp, "block-dirty-bitmap-merge",
                         merge (snapshot, VMA_BITMAP_SHOWN, snapshot, VMA_BITMAP_OF_SNAPSHOT),
                         error);
}

/* Whether `bitmap` is "vmabackup:NAME:..., and how long that is up to the uuid. */
static gsize
group_length (const char *bitmap)
{
  const char *colon = strrchr (bitmap, ':');

  return g_str_has_prefix (bitmap, PREFIX) ? (gsize) (colon - bitmap) + 1 : 0;
}

void
vma_bitmap_keep (VmaQmp *qmp, const char *node, const char *name, const char *next)
{
  g_autoptr (JsonNode) list = NULL;
  g_autofree char *group = g_strdup_printf (PREFIX "%s:", name);
  JsonArray *bitmaps = bitmaps_of (qmp, node, &list);

  for (guint i = 0; i < vma_json_length (bitmaps); i++) {
    const char *one = vma_json_string (vma_json_element (bitmaps, i), "name");
    if (one != NULL && group_length (one) == strlen (group) && g_str_has_prefix (one, group)
        && strcmp (one, next) != 0)
      vma_qmp_run (qmp, "block-dirty-bitmap-remove", named (node, one), NULL);
  }
}

gboolean
vma_bitmap_back (VmaQmp *qmp, const char *node, const char *old, const char *next, GError **error)
{
  if (old == NULL)
    return vma_qmp_run (qmp, "block-dirty-bitmap-remove", named (node, next), error);
  return transaction (
      qmp,
      vma_json_list (action ("block-dirty-bitmap-enable", named (node, old)),
                     action ("block-dirty-bitmap-merge", merge (node, old, node, next)),
                     action ("block-dirty-bitmap-remove", named (node, next)), NULL),
      error);
}

/* The only other bitmap of the group that records; NULL where there is none, or more than one. */
static const char *
find_running (JsonArray *bitmaps, const char *stopped)
{
  gsize length = group_length (stopped);
  const char *found = NULL;

  for (guint i = 0; i < vma_json_length (bitmaps); i++) {
    JsonObject *one = vma_json_element (bitmaps, i);
    const char *name = vma_json_string (one, "name");
    if (name == NULL || group_length (name) != length || strncmp (name, stopped, length) != 0
        || !vma_json_bool (one, "recording"))
      continue;
    if (found != NULL)
      return NULL;
    found = name;
  }
  return found;
}

void
vma_bitmap_repair (VmaQmp *qmp, const char *node)
{
  g_autoptr (JsonNode) list = NULL;
  JsonArray *bitmaps = bitmaps_of (qmp, node, &list);

  for (guint i = 0; i < vma_json_length (bitmaps); i++) {
    JsonObject *one = vma_json_element (bitmaps, i);
    const char *name = vma_json_string (one, "name");
    const char *running = NULL;
    if (name == NULL || group_length (name) == 0 || vma_json_bool (one, "recording")
        || vma_json_bool (one, "busy") || vma_json_bool (one, "inconsistent"))
      continue;
    running = find_running (bitmaps, name);
    if (running != NULL)
      vma_bitmap_back (qmp, node, name, running, NULL);
  }
}
