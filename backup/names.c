/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/names.h"

#include "vma/error.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* What fits into a node's name as it stands. */
#define SHORT_ID 16

gboolean
vma_id_is_valid (const char *id)
{
  gsize length = strlen (id);

  if (length == 0 || length > VMA_ID_MAX || !g_ascii_isalnum (*id) || strcmp (id, "serve") == 0)
    return FALSE;
  for (; *id != '\0'; id++)
    if (!g_ascii_isalnum (*id) && strchr ("-_.", *id) == NULL)
      return FALSE;
  return TRUE;
}

char *
vma_id_random (void)
{
  return g_strdup_printf ("%08x", g_random_int ());
}

char *
vma_node_prefix (const char *id)
{
  /* A '-' ends the prefix: one job's must not be the beginning of another's. */
  g_autofree char *plain = g_strdelimit (g_strdup (id), "-", '_');

  if (strlen (id) <= SHORT_ID)
    return g_strdup_printf (VMA_NODE_PREFIX "%s-", plain);
  return g_strdup_printf (VMA_NODE_PREFIX "%.7s_%08x-", plain, g_str_hash (id));
}

char *
vma_node_name (const char *prefix, const char *role, guint disk)
{
  return g_strdup_printf ("%s%s%u", prefix, role, disk);
}

/* The number or name of a node of the graph. */
static gint64
id_of (JsonObject *graph, const char *name)
{
  JsonArray *nodes = vma_json_array (graph, "nodes");

  for (guint i = 0; i < vma_json_length (nodes); i++) {
    JsonObject *node = vma_json_element (nodes, i);
    if (g_strcmp0 (vma_json_string (node, "type"), "block-driver") == 0
        && g_strcmp0 (vma_json_string (node, "name"), name) == 0)
      return vma_json_int (node, "id", -1);
  }
  return -1;
}

static char *
name_of (JsonObject *graph, gint64 id)
{
  JsonArray *nodes = vma_json_array (graph, "nodes");

  for (guint i = 0; i < vma_json_length (nodes); i++) {
    JsonObject *node = vma_json_element (nodes, i);
    if (vma_json_int (node, "id", -1) == id
        && g_strcmp0 (vma_json_string (node, "type"), "block-driver") == 0)
      return g_strdup (vma_json_string (node, "name"));
  }
  return NULL;
}

/* The first node at the end `to` of an edge `role` whose end `from` is `name`. */
static char *
follow (JsonObject *graph, const char *from, const char *name, const char *to, const char *role)
{
  JsonArray *edges = vma_json_array (graph, "edges");
  gint64 id = id_of (graph, name);

  for (guint i = 0; id >= 0 && i < vma_json_length (edges); i++) {
    JsonObject *edge = vma_json_element (edges, i);
    if (vma_json_int (edge, from, -1) != id
        || g_strcmp0 (vma_json_string (edge, "name"), role) != 0)
      continue;
    char *found = name_of (graph, vma_json_int (edge, to, -1));
    if (found != NULL)
      return found;
  }
  return NULL;
}

char *
vma_names_child (JsonObject *graph, const char *parent, const char *role)
{
  return follow (graph, "parent", parent, "child", role);
}

char *
vma_names_parent (JsonObject *graph, const char *child, const char *role)
{
  return follow (graph, "child", child, "parent", role);
}

char *
vma_run_dir (GError **error)
{
  const char *user = g_getenv ("XDG_RUNTIME_DIR");
  g_autofree char *dir = NULL;
  struct stat found;

  if (g_getenv ("VMABACKUP_RUN_DIR") != NULL)
    dir = g_strdup (g_getenv ("VMABACKUP_RUN_DIR"));
  else if (geteuid () == 0)
    dir = g_strdup ("/run/vmabackup");
  else if (user != NULL && *user == '/')
    dir = g_build_filename (user, "vmabackup", NULL);
  else
    dir = g_strdup_printf ("/tmp/vmabackup-%u", (guint) geteuid ());
  if (g_mkdir_with_parents (dir, 0700) != 0 || lstat (dir, &found) != 0) {
    vma_set_errno_error (error, errno, "cannot make the folder %s", dir);
    return NULL;
  }
  if (!S_ISDIR (found.st_mode) || found.st_uid != geteuid () || (found.st_mode & 022) != 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                 "%s: others may write to this folder, it cannot be used", dir);
    return NULL;
  }
  return g_steal_pointer (&dir);
}

char *
vma_run_socket (const char *dir, const char *id)
{
  return g_strdup_printf ("%s/%s.sock", dir, id);
}

char *
vma_run_nbd_socket (const char *dir, pid_t qemu)
{
  return g_strdup_printf ("%s/%d.nbd", dir, (int) qemu);
}

gboolean
vma_socket_answers (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  if (strlen (path) < sizeof address.sun_path)
    memcpy (address.sun_path, path, strlen (path));
  /* EAGAIN: too many others wait already. */
  gboolean answers
      = connect (fd, (struct sockaddr *) &address, sizeof address) == 0 || errno == EAGAIN;
  close (fd);
  return answers;
}

void
vma_socket_remove_stale (const char *path)
{
  if (!vma_socket_answers (path))
    unlink (path);
}
