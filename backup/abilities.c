/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/abilities.h"

#include "vma/error.h"

#include <string.h>

typedef struct {
  GHashTable *entities; /* name -> JsonObject, borrowed */
  GHashTable *commands; /* names */
} Schema;

static JsonObject *
entity (const Schema *schema, const char *name)
{
  return name != NULL ? g_hash_table_lookup (schema->entities, name) : NULL;
}

static JsonObject *
command (const Schema *schema, const char *name)
{
  JsonObject *found = entity (schema, name);

  return g_hash_table_contains (schema->commands, name)
                 && g_strcmp0 (vma_json_string (found, "meta-type"), "command") == 0
             ? found
             : NULL;
}

static JsonObject *
arguments_of (const Schema *schema, const char *name)
{
  return entity (schema, vma_json_string (command (schema, name), "arg-type"));
}

/* The type of a member of an object type. */
static const char *
member_type (JsonObject *type, const char *name)
{
  JsonArray *members = vma_json_array (type, "members");

  for (guint i = 0; i < vma_json_length (members); i++) {
    JsonObject *member = vma_json_element (members, i);
    if (g_strcmp0 (vma_json_string (member, "name"), name) == 0)
      return vma_json_string (member, "type");
  }
  return NULL;
}

/* The type that a union is for one value of its tag. */
static JsonObject *
variant (const Schema *schema, JsonObject *type, const char *name)
{
  JsonArray *variants = vma_json_array (type, "variants");

  for (guint i = 0; i < vma_json_length (variants); i++) {
    JsonObject *one = vma_json_element (variants, i);
    if (g_strcmp0 (vma_json_string (one, "case"), name) == 0)
      return entity (schema, vma_json_string (one, "type"));
  }
  return NULL;
}

/* Whether an enum, the type of a tag, has a value; QEMU >= 6 has objects for values too. */
static gboolean
enum_has (JsonObject *type, const char *value)
{
  JsonArray *values = vma_json_array (type, "values");

  for (guint i = 0; i < vma_json_length (values); i++) {
    JsonNode *node = json_array_get_element (values, i);
    if (JSON_NODE_HOLDS_VALUE (node) && g_strcmp0 (json_node_get_string (node), value) == 0)
      return TRUE;
  }
  return FALSE;
}

static gboolean
missing (GError **error, const char *kind, const char *name, const char *since)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "this QEMU is too old: it has no %s%s (QEMU %s or newer is needed)", kind, name,
               since);
  return FALSE;
}

static gboolean
check_commands (const Schema *schema, const VmaFeatures *features, gboolean bitmaps, GError **error)
{
  static const char *const always[] = { "blockdev-add",
                                        "blockdev-del",
                                        "blockdev-backup",
                                        "query-jobs",
                                        "job-cancel",
                                        "job-dismiss",
                                        "transaction",
                                        "query-named-block-nodes",
                                        "x-debug-query-block-graph",
                                        NULL };
  static const char *const with_devices[]
      = { "cont", "query-status", "qom-set", "query-block", NULL };
  static const char *const with_bitmaps[]
      = { "block-dirty-bitmap-add", "block-dirty-bitmap-merge", "block-dirty-bitmap-remove", NULL };
  const char *const *lists[]
      = { always, features->has_devices ? with_devices : NULL, bitmaps ? with_bitmaps : NULL };

  for (guint l = 0; l < G_N_ELEMENTS (lists); l++)
    for (guint i = 0; lists[l] != NULL && lists[l][i] != NULL; i++)
      if (command (schema, lists[l][i]) == NULL)
        return missing (error, "command ", lists[l][i], "7.2");
  if (!features->has_devices && command (schema, "blockdev-reopen") == NULL)
    return missing (error, "command ", "blockdev-reopen", "7.2");
  return TRUE;
}

static gboolean
check_drivers (const Schema *schema, gboolean bitmaps, GError **error)
{
  static const char *const options[] = { "on-cbw-error", "cbw-timeout", "bitmap" };
  JsonObject *add = arguments_of (schema, "blockdev-add");
  JsonObject *filter = variant (schema, add, "copy-before-write");

  if (filter == NULL)
    return missing (error, "block driver ", "copy-before-write", "7.2");
  for (guint i = 0; i < (bitmaps ? 3 : 2); i++)
    if (member_type (filter, options[i]) == NULL)
      return missing (error, "option of copy-before-write called ", options[i], "7.2");
  if (variant (schema, add, "snapshot-access") == NULL
      && !enum_has (entity (schema, member_type (add, "driver")), "snapshot-access"))
    return missing (error, "block driver ", "snapshot-access", "7.2");
  return TRUE;
}

/* The objects of an array by their names; both stay the array's. */
static GHashTable *
by_name (JsonArray *array)
{
  GHashTable *table = g_hash_table_new (g_str_hash, g_str_equal);

  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonObject *one = vma_json_element (array, i);
    const char *name = vma_json_string (one, "name");
    if (name != NULL)
      g_hash_table_insert (table, (gpointer) name, one);
  }
  return table;
}

gboolean
vma_features_from_schema (JsonArray *array, JsonArray *commands, gboolean bitmaps,
                          VmaFeatures *features, GError **error)
{
  g_autoptr (GHashTable) entities = by_name (array);
  g_autoptr (GHashTable) names = by_name (commands);
  Schema schema = { entities, names };

  features->has_devices = command (&schema, "stop") != NULL;
  features->discard_source
      = member_type (arguments_of (&schema, "blockdev-backup"), "discard-source") != NULL;
  features->few_workers = member_type (arguments_of (&schema, "blockdev-backup"), "x-perf") != NULL;
  JsonObject *migrate = arguments_of (&schema, "migrate");
  features->migrate_file = member_type (migrate, "channels") != NULL;
  return check_commands (&schema, features, bitmaps, error)
         && check_drivers (&schema, bitmaps, error);
}

gboolean
vma_features_check (VmaQmp *qmp, gboolean bitmaps, VmaFeatures *features, GError **error)
{
  g_autoptr (JsonNode) schema
      = vma_qmp_execute (qmp, "query-qmp-schema", NULL, VMA_QMP_SECONDS, error);

  g_autoptr (JsonNode) commands
      = schema != NULL ? vma_qmp_execute (qmp, "query-commands", NULL, VMA_QMP_SECONDS, error)
                       : NULL;

  if (commands == NULL
      || !vma_features_from_schema (vma_json_node_array (schema), vma_json_node_array (commands),
                                    bitmaps, features, error))
    return FALSE;
  features->major = vma_qmp_major (qmp);
  return TRUE;
}
