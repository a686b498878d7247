/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/clean.h"

#include "backup/bitmap.h"
#include "backup/graph.h"
#include "backup/names.h"
#include "vma/error.h"

#include <string.h>

#define WAIT_SECONDS 60
#define STEP_MS 20

typedef struct {
  VmaQmp *qmp;
  const char *prefix;
  gboolean repair;
  guint removed;
  GError *error; /* the first */
} Cleaning;

static void
note_error (Cleaning *c, GError *error)
{
  if (c->error == NULL)
    c->error = error;
  else
    g_error_free (error);
}

/* Runs a command; the first failure is kept. */
static gboolean
run (Cleaning *c, const char *command, JsonNode *arguments)
{
  GError *error = NULL;

  if (vma_qmp_run (c->qmp, command, arguments, &error))
    return TRUE;
  note_error (c, error);
  return FALSE;
}

static JsonNode *
query (Cleaning *c, const char *command)
{
  GError *error = NULL;
  JsonNode *result = vma_qmp_execute (c->qmp, command, NULL, VMA_QMP_SECONDS, &error);

  if (result == NULL)
    note_error (c, error);
  return result;
}

/* Names of ours in a list of objects, by their member `key`. */
static char **
ours (JsonNode *list, const char *key, const char *prefix)
{
  GPtrArray *names = g_ptr_array_new ();
  JsonArray *array = vma_json_node_array (list);

  for (guint i = 0; i < vma_json_length (array); i++) {
    const char *name = vma_json_string (vma_json_element (array, i), key);
    if (name != NULL && g_str_has_prefix (name, prefix))
      g_ptr_array_add (names, g_strdup (name));
  }
  g_ptr_array_add (names, NULL);
  return (char **) g_ptr_array_free (names, FALSE);
}

static gboolean
has_role (const Cleaning *c, const char *name, const char *role)
{
  const char *dash = strrchr (name, '-');

  return dash != NULL && g_str_has_prefix (name, c->prefix) && g_str_has_prefix (dash + 1, role);
}

/* --- exports --------------------------------------------------------------------------------- */

static void
stop_server (Cleaning *c)
{
  g_autofree char *dir = vma_run_dir (NULL);
  g_autofree char *path
      = dir != NULL ? vma_run_nbd_socket (dir, vma_qmp_peer (c->qmp, NULL)) : NULL;

  /* A server that was not ours has no socket there. */
  if (path == NULL || !vma_socket_answers (path))
    return;
  vma_qmp_run (c->qmp, "nbd-server-stop", NULL, NULL);
  vma_socket_remove_stale (path);
}

static void
remove_exports (Cleaning *c)
{
  gint64 until = g_get_monotonic_time () + WAIT_SECONDS * G_USEC_PER_SEC;
  guint asked = 0;

  for (;;) {
    g_autoptr (JsonNode) list = query (c, "query-block-exports");
    g_auto (GStrv) ids = list != NULL ? ours (list, "id", c->prefix) : NULL;
    if (list == NULL)
      return;
    if (*ids == NULL) {
      if (vma_json_length (vma_json_node_array (list)) == 0)
        stop_server (c);
      return;
    }
    if (asked == 0)
      for (char **id = ids; *id != NULL; id++, asked++)
        if (run (c, "block-export-del", vma_json_make ("id:s", *id, "mode:s", "hard", NULL)))
          c->removed++;
    if (c->error != NULL || g_get_monotonic_time () > until)
      return;
    g_usleep (STEP_MS * 1000);
  }
}

/* --- jobs ------------------------------------------------------------------------------------ */

static void
end_job (Cleaning *c, const char *id, const char *status, gboolean first)
{
  /* It may be going by itself. */
  if (g_strcmp0 (status, "concluded") == 0) {
    if (vma_qmp_run (c->qmp, "job-dismiss", vma_json_make ("id:s", id, NULL), NULL))
      c->removed++;
  } else if (first)
    vma_qmp_run (c->qmp, "block-job-cancel", vma_json_make ("device:s", id, "force:b", TRUE, NULL),
                 NULL);
}

static void
remove_jobs (Cleaning *c)
{
  gint64 until = g_get_monotonic_time () + WAIT_SECONDS * G_USEC_PER_SEC;

  for (gboolean first = TRUE;; first = FALSE) {
    g_autoptr (JsonNode) list = query (c, "query-jobs");
    JsonArray *jobs = vma_json_node_array (list);
    gboolean any = FALSE;
    for (guint i = 0; i < vma_json_length (jobs); i++) {
      JsonObject *job = vma_json_element (jobs, i);
      const char *id = vma_json_string (job, "id");
      if (id == NULL || !g_str_has_prefix (id, c->prefix))
        continue;
      any = TRUE;
      end_job (c, id, vma_json_string (job, "status"), first);
    }
    if (!any)
      return;
    if (g_get_monotonic_time () > until) {
      note_error (c, g_error_new (VMA_QMP_ERROR, VMA_QMP_TIMEOUT, "a block job does not end"));
      return;
    }
    g_usleep (STEP_MS * 1000);
  }
}

/* --- nodes ----------------------------------------------------------------------------------- */

static void
remove_nodes (Cleaning *c, char **nodes, const char *role)
{
  for (; *nodes != NULL; nodes++)
    if (has_role (c, *nodes, role)
        && run (c, "blockdev-del", vma_json_make ("node-name:s", *nodes, NULL)))
      c->removed++;
}

/* The devices on a filter get back what it stands on. */
static void
switch_back (Cleaning *c, const char *filter, const char *node, JsonNode *blocks, JsonObject *graph)
{
  JsonArray *array = vma_json_node_array (blocks);
  g_autofree char *parent = vma_names_parent (graph, filter, "file");
  GError *error = NULL;

  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonObject *block = vma_json_element (array, i);
    const char *qdev = vma_json_string (block, "qdev");
    if (qdev == NULL
        || g_strcmp0 (vma_json_string (vma_json_object (block, "inserted"), "node-name"), filter)
               != 0)
      continue;
    if (!vma_graph_switch (c->qmp, qdev, NULL, node, &error))
      note_error (c, g_steal_pointer (&error));
  }
  if (parent != NULL && !g_str_has_prefix (parent, VMA_NODE_PREFIX)
      && !vma_graph_switch (c->qmp, NULL, parent, node, &error))
    note_error (c, error);
}

static void
remove_filters (Cleaning *c, char **nodes)
{
  g_autoptr (JsonNode) graph = query (c, "x-debug-query-block-graph");
  /* A qemu-storage-daemon has none. */
  g_autoptr (JsonNode) blocks
      = vma_qmp_execute (c->qmp, "query-block", NULL, VMA_QMP_SECONDS, NULL);
  JsonObject *edges = vma_json_node_object (graph);

  for (; *nodes != NULL; nodes++) {
    g_autofree char *below
        = has_role (c, *nodes, "cbw") ? vma_names_child (edges, *nodes, "file") : NULL;
    if (below == NULL)
      continue;
    switch_back (c, *nodes, below, blocks, edges);
    if (run (c, "blockdev-del", vma_json_make ("node-name:s", *nodes, NULL)))
      c->removed++;
    if (c->repair)
      vma_bitmap_repair (c->qmp, below);
  }
}

static JsonNode *
named_nodes (VmaQmp *qmp, GError **error)
{
  return vma_qmp_execute (qmp, "query-named-block-nodes", vma_json_make ("flat:b", TRUE, NULL),
                          VMA_QMP_SECONDS, error);
}

gboolean
vma_clean (VmaQmp *qmp, const char *prefix, gboolean repair, guint *removed, GError **error)
{
  Cleaning c = { .qmp = qmp, .prefix = prefix, .repair = repair };

  remove_exports (&c);
  remove_jobs (&c);
  g_autoptr (JsonNode) list = named_nodes (qmp, c.error == NULL ? &c.error : NULL);
  g_auto (GStrv) nodes = ours (list, "node-name", prefix);
  remove_nodes (&c, nodes, "snap");
  remove_filters (&c, nodes);
  remove_nodes (&c, nodes, "raw");
  remove_nodes (&c, nodes, "cow");
  if (removed != NULL)
    *removed = c.removed;
  if (c.error == NULL)
    return TRUE;
  g_propagate_error (error, c.error);
  return FALSE;
}

static void
add_prefixes (GHashTable *prefixes, JsonNode *list, const char *key)
{
  g_auto (GStrv) names = ours (list, key, VMA_NODE_PREFIX);

  for (char **name = names; *name != NULL; name++) {
    const char *dash = strrchr (*name, '-');
    if (dash - *name >= (gssize) strlen (VMA_NODE_PREFIX))
      g_hash_table_add (prefixes, g_strndup (*name, (gsize) (dash - *name) + 1));
  }
}

char **
vma_clean_list (VmaQmp *qmp, GError **error)
{
  g_autoptr (GHashTable) prefixes = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr (JsonNode) nodes = named_nodes (qmp, error);
  g_autoptr (JsonNode) jobs
      = nodes != NULL ? vma_qmp_execute (qmp, "query-jobs", NULL, VMA_QMP_SECONDS, error) : NULL;

  if (jobs == NULL)
    return NULL;
  add_prefixes (prefixes, nodes, "node-name");
  add_prefixes (prefixes, jobs, "id");
  GPtrArray *list = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer prefix;
  g_hash_table_iter_init (&iter, prefixes);
  while (g_hash_table_iter_next (&iter, &prefix, NULL))
    g_ptr_array_add (list, g_strdup (prefix));
  g_ptr_array_add (list, NULL);
  return (char **) g_ptr_array_free (list, FALSE);
}
