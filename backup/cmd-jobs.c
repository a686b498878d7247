/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmabackup query, cancel, forget, set-speed: what can be said to backups from outside.
 */
#include "backup/commands.h"
#include "backup/running.h"
#include "tool/message.h"
#include "tool/options.h"
#include "tool/size.h"

#include <stdio.h>
#include <string.h>

static void
print_job (JsonObject *job)
{
  const char *status = vma_json_string (job, "status");
  const char *error = vma_json_string (job, "error");
  const char *target = vma_json_string (job, "target");
  guint64 total = (guint64) MAX (vma_json_int (job, "total", 0), 0);
  guint64 done = (guint64) MAX (vma_json_int (job, "transferred", 0), 0);
  g_autofree char *size = tool_format_size (total);

  printf ("%-16s %-10s %3.0f%% of %-9s %s", vma_json_string (job, "id"),
          status != NULL ? status : "?", tool_percent (done, total), size,
          target != NULL ? target : "-");
  if (error != NULL)
    printf (": %s", error);
  putchar ('\n');
}

int
backup_query (int argc, char **argv)
{
  gboolean as_json = FALSE;
  const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "Print JSON", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = { "[ID]",
                            "Shows the backups of this user that run, and those that have ended\n"
                            "and that the service still remembers.",
                            entries, 0, 1 };
  int status;
  g_auto (GStrv) rest = tool_parse (&usage, argc, argv, &status);
  g_autoptr (GError) error = NULL;

  if (rest == NULL)
    return status;
  g_autoptr (JsonNode) all = vma_running_list (&error);
  if (all == NULL) {
    tool_error ("%s", error->message);
    return TOOL_FAILED;
  }
  JsonArray *array = vma_json_node_array (all);
  g_autoptr (JsonNode) shown = vma_json_list (NULL, NULL);
  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonObject *job = vma_json_element (array, i);
    if (rest[0] != NULL && strcmp (rest[0], vma_json_string (job, "id")) != 0)
      continue;
    json_array_add_element (json_node_get_array (shown),
                            json_node_copy (json_array_get_element (array, i)));
    if (!as_json)
      print_job (job);
  }
  if (as_json) {
    g_autofree char *text = json_to_string (shown, TRUE);
    puts (text);
  }
  if (rest[0] == NULL || vma_json_length (vma_json_node_array (shown)) > 0)
    return TOOL_OK;
  tool_error ("no backup '%s'", rest[0]);
  return TOOL_FAILED;
}

static int
tell (const char *id, const char *command, JsonNode *arguments)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonNode) reply = vma_running_tell (id, command, arguments, &error);

  if (reply != NULL)
    return TOOL_OK;
  tool_error ("%s", error->message);
  return TOOL_FAILED;
}

static int
tell_plain (int argc, char **argv, const char *command, const char *about)
{
  const GOptionEntry entries[] = { { NULL, 0, 0, 0, NULL, NULL, NULL } };
  const ToolUsage usage = { "ID", about, entries, 1, 1 };
  int status;
  g_auto (GStrv) rest = tool_parse (&usage, argc, argv, &status);

  return rest != NULL ? tell (rest[0], command, vma_json_make ("id:s", rest[0], NULL)) : status;
}

int
backup_cancel (int argc, char **argv)
{
  return tell_plain (argc, argv, "backup-cancel",
                     "Stops a backup.  The guest keeps running, and no archive is left.");
}

int
backup_forget (int argc, char **argv)
{
  return tell_plain (argc, argv, "backup-forget",
                     "Drops a backup that has ended from the list of the service.");
}

int
backup_set_speed (int argc, char **argv)
{
  const GOptionEntry entries[] = { { NULL, 0, 0, 0, NULL, NULL, NULL } };
  const ToolUsage usage = { "ID SIZE",
                            "Limits the background copy of a backup to so many bytes a second and\n"
                            "disk; 0 is no limit.",
                            entries, 2, 2 };
  int status;
  g_auto (GStrv) rest = tool_parse (&usage, argc, argv, &status);
  guint64 speed;

  if (rest == NULL)
    return status;
  if (!tool_parse_size (rest[1], &speed) || speed > G_MAXINT64)
    return tool_usage_error (argv[0], "'%s' is no size", rest[1]);
  return tell (rest[0], "backup-set-speed",
               vma_json_make ("id:s", rest[0], "speed:i", (gint64) speed, NULL));
}
