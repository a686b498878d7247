/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmabackup clean: takes out of a QEMU what a backup that died has left there.
 */
#include "backup/clean.h"
#include "backup/commands.h"
#include "backup/names.h"
#include "backup/running.h"
#include "tool/message.h"
#include "tool/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SECONDS 10

/* The id of the backup that runs and has this prefix; NULL where there is none. */
static char *
running_with (JsonNode *running, const char *prefix)
{
  JsonArray *array = vma_json_node_array (running);

  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonObject *one = vma_json_element (array, i);
    const char *id = vma_json_string (one, "id");
    const char *status = vma_json_string (one, "status");
    if (id == NULL || (g_strcmp0 (status, "running") != 0 && g_strcmp0 (status, "starting") != 0))
      continue;
    g_autofree char *own = vma_node_prefix (id);
    if (strcmp (own, prefix) == 0)
      return g_strdup (id);
  }
  return NULL;
}

/* A folder of a backup, for QEMU's files: ".../vmabackup-XXXXXX". */
static gboolean
is_ours (const char *path, const char *type)
{
  const char *name = strrchr (path, '/');

  return strcmp (type, "fuse.vmabackup") == 0 && name != NULL
         && g_str_has_prefix (name, "/vmabackup-") && strlen (name) == strlen ("/vmabackup-XXXXXX");
}

/* Mounts whose process has gone. */
static void
remove_dead_mounts (void)
{
  g_autofree char *text = NULL;
  struct statfs found;

  if (!g_file_get_contents ("/proc/self/mounts", &text, NULL, NULL))
    return;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line != NULL; line++) {
    g_auto (GStrv) words = g_strsplit (*line, " ", 4);
    if (g_strv_length (words) < 4 || !is_ours (words[1], words[2])
        || statfs (words[1], &found) == 0 || (errno != ENOTCONN && errno != ECONNABORTED))
      continue;
    const char *const argv[] = { "fusermount3", "-u", "-z", "--", words[1], NULL };
    if (umount2 (words[1], MNT_DETACH) != 0)
      g_spawn_sync (NULL, (char **) argv, NULL,
                    G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                    NULL, NULL, NULL, NULL, NULL, NULL);
    rmdir (words[1]);
  }
}

static int
clean_all (VmaQmp *qmp, const char *address, GError **error)
{
  g_auto (GStrv) prefixes = vma_clean_list (qmp, error);
  g_autoptr (JsonNode) running = prefixes != NULL ? vma_running_list (NULL) : NULL;
  int status = TOOL_OK;
  guint all = 0;

  if (prefixes == NULL)
    return TOOL_FAILED;
  for (char **prefix = prefixes; *prefix != NULL; prefix++) {
    g_autofree char *id = running_with (running, *prefix);
    guint removed = 0;
    if (id != NULL) {
      tool_error ("%s: backup '%s' is running (vmabackup cancel %s)", address, id, id);
      status = TOOL_FAILED;
    } else if (!vma_clean (qmp, *prefix, TRUE, &removed, error))
      return TOOL_FAILED;
    all += removed;
  }
  if (status == TOOL_OK)
    printf ("%s: %u things removed\n", address, all);
  return status;
}

int
backup_clean (int argc, char **argv)
{
  g_autofree char *address = NULL;
  const GOptionEntry entries[] = {
    { "qmp", 0, 0, G_OPTION_ARG_FILENAME, &address, "QEMU's monitor (QMP), or fd:N", "SOCKET" },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = { "",
                            "Takes out of a QEMU what backups that died have left there, and puts\n"
                            "the disks back as they were.  Backups that run are left alone.",
                            entries, 0, 0 };
  int status;
  g_auto (GStrv) rest = tool_parse (&usage, argc, argv, &status);
  g_autoptr (GError) error = NULL;

  if (rest == NULL)
    return status;
  if (address == NULL)
    return tool_usage_error (argv[0], "--qmp is missing");
  remove_dead_mounts ();
  g_autoptr (VmaQmp) qmp = vma_qmp_open (address, "QEMU", SECONDS, &error);
  status = qmp != NULL ? clean_all (qmp, address, &error) : TOOL_FAILED;
  if (error != NULL)
    tool_error ("%s", error->message);
  return status;
}
