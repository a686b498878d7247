/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/running.h"

#include "backup/names.h"
#include "vma/error.h"

#include <string.h>
#include <unistd.h>

#define SECONDS 5
#define SUFFIX ".sock"

/* Adds the entries of one socket whose id is not there yet. */
static void
add_from (JsonNode *all, GHashTable *seen, const char *path)
{
  g_autoptr (VmaQmp) control = vma_qmp_open (path, "vmabackup", SECONDS, NULL);
  g_autoptr (JsonNode) list
      = control != NULL ? vma_qmp_execute (control, "query-backups", NULL, SECONDS, NULL) : NULL;
  JsonArray *array = vma_json_node_array (list);

  for (guint i = 0; i < vma_json_length (array); i++) {
    const char *id = vma_json_string (vma_json_element (array, i), "id");
    if (id != NULL && g_hash_table_add (seen, g_strdup (id)))
      json_array_add_element (json_node_get_array (all),
                              json_node_copy (json_array_get_element (array, i)));
  }
}

JsonNode *
vma_running_list (GError **error)
{
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *dir = vma_run_dir (error);
  g_autoptr (GDir) folder = dir != NULL ? g_dir_open (dir, 0, error) : NULL;
  const char *name;

  if (folder == NULL)
    return NULL;
  JsonNode *all = vma_json_list (NULL, NULL);
  while ((name = g_dir_read_name (folder)) != NULL) {
    g_autofree char *path = g_build_filename (dir, name, NULL);
    if (g_str_has_suffix (name, SUFFIX) && strcmp (name, VMA_SERVICE_ID SUFFIX) != 0)
      add_from (all, seen, path);
  }
  /* The service knows those that have ended too, and of the others less than they themselves. */
  g_autofree char *service = vma_run_socket (dir, VMA_SERVICE_ID);
  if (access (service, F_OK) == 0)
    add_from (all, seen, service);
  return all;
}

/* `arguments` is taken. */
static JsonNode *
tell_socket (const char *id, const char *command, JsonNode *arguments, GError **error)
{
  g_autofree char *dir = vma_run_dir (error);
  g_autofree char *path = dir != NULL ? vma_run_socket (dir, id) : NULL;
  g_autoptr (VmaQmp) control
      = path != NULL ? vma_qmp_open (path, "vmabackup", SECONDS, error) : NULL;

  if (control != NULL)
    return vma_qmp_execute (control, command, arguments, SECONDS, error);
  json_node_unref (arguments);
  return NULL;
}

static gboolean
is_not_there (const GError *error)
{
  return g_error_matches (error, VMA_QMP_ERROR, VMA_QMP_CONNECT);
}

JsonNode *
vma_running_tell_own (const char *id, const char *command, JsonNode *arguments, GError **error)
{
  return tell_socket (id, command, arguments, error);
}

JsonNode *
vma_running_tell (const char *id, const char *command, JsonNode *arguments, GError **error)
{
  g_autoptr (JsonNode) taken = arguments;
  JsonNode *reply = NULL;
  g_autoptr (GError) why = NULL;

  if (!vma_id_is_valid (id)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "'%s' is no name of a backup", id);
    return NULL;
  }
  /* Only the service has a memory. */
  if (strcmp (command, "backup-forget") != 0)
    reply = tell_socket (id, command, json_node_copy (taken), &why);
  if (reply == NULL && (why == NULL || is_not_there (why))) {
    g_clear_error (&why);
    reply = tell_socket (VMA_SERVICE_ID, command, json_node_copy (taken), &why);
  }
  if (is_not_there (why))
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "no backup '%s'", id);
  else if (reply == NULL)
    g_propagate_error (error, g_steal_pointer (&why));
  return reply;
}
