/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/graph.h"

#include "backup/names.h"
#include "vma/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Requests of a background copy that are under way. */
#define MAX_WORKERS 2
/* Bytes of each, where the speed is limited. */
#define LIMITED_CHUNK (128 * 1024)

static const VmaDisk *
disk_at (const VmaGraph *graph, guint disk)
{
  return g_ptr_array_index (graph->disks, disk);
}

char *
vma_graph_name (const VmaGraph *graph, const char *role, guint disk)
{
  return vma_node_name (graph->prefix, role, disk);
}

gboolean
vma_graph_add_file (VmaGraph *graph, const char *role, guint disk, const char *path, GError **error)
{
  g_autofree char *name = vma_graph_name (graph, role, disk);

  return vma_qmp_run (
      graph->qmp, "blockdev-add",
      vma_json_make ("driver:s", "file", "node-name:s", name, "filename:s", path, NULL), error);
}

gboolean
vma_graph_switch (VmaQmp *qmp, const char *qdev, const char *parent, const char *node,
                  GError **error)
{
  g_autoptr (GError) refused = NULL;

  if (qdev == NULL)
    return vma_qmp_run (
        qmp, "blockdev-reopen",
        vma_json_make ("options:o",
                       vma_json_list (vma_json_make ("driver:s", "raw", "node-name:s", parent,
                                                     "file:s", node, NULL),
                                      NULL),
                       NULL),
        error);
  if (vma_qmp_run (qmp, "qom-set",
                   vma_json_make ("path:s", qdev, "property:s", "drive", "value:s", node, NULL),
                   &refused)
      || g_error_matches (refused, VMA_QMP_ERROR, VMA_QMP_NOT_FOUND))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&refused));
  return FALSE;
}

gboolean
vma_graph_insert (VmaGraph *graph, guint index, const char *bitmap, GError **error)
{
  const VmaDisk *disk = disk_at (graph, index);
  g_autofree char *filter = vma_graph_name (graph, "cbw", index);
  g_autofree char *snapshot = vma_graph_name (graph, "snap", index);
  g_autofree char *cow = vma_graph_name (graph, "cow", index);
  JsonNode *restrict_to
      = bitmap != NULL ? vma_json_make ("node:s", disk->node, "name:s", bitmap, NULL) : NULL;

  return vma_qmp_run (graph->qmp, "blockdev-add",
                      vma_json_make ("driver:s", "copy-before-write", "node-name:s", filter,
                                     "file:s", disk->node, "target:s", cow, "discard:s", "unmap",
                                     "on-cbw-error:s", "break-snapshot", "cbw-timeout:i",
                                     (gint64) graph->cbw_timeout, "bitmap:o", restrict_to, NULL),
                      error)
         && vma_graph_switch (graph->qmp, disk->qdev, disk->parent, filter, error)
         && vma_qmp_run (graph->qmp, "blockdev-add",
                         vma_json_make ("driver:s", "snapshot-access", "node-name:s", snapshot,
                                        "file:s", filter, "discard:s", "unmap", NULL),
                         error);
}

JsonNode *
vma_graph_copy (VmaGraph *graph, guint disk, const char *sync, const char *bitmap, guint64 speed,
                gboolean hold)
{
  g_autofree char *job = vma_graph_name (graph, "job", disk);
  g_autofree char *snapshot = vma_graph_name (graph, "snap", disk);
  g_autofree char *raw = vma_graph_name (graph, "raw", disk);
  JsonNode *arguments = vma_json_make (
      "job-id:s", job, "device:s", snapshot, "target:s", raw, "auto-dismiss:b", FALSE,
      "auto-finalize:b", !hold, "sync:s", bitmap != NULL ? "bitmap" : sync, "bitmap:s", bitmap,
      "bitmap-mode:s", bitmap != NULL ? "never" : NULL, "speed:i", (gint64) speed, NULL);

  /* What was copied need not be copied before writes any more. */
  if (graph->features.discard_source)
    json_object_set_boolean_member (json_node_get_object (arguments), "discard-source", TRUE);
  /* Each brings 1 MiB at a time, and what they have in flight is what a guest's write may have to wait
   * behind.  More are not faster either.  And the 64 threads that do QEMU's I/O serve the guest too: if
   * our process is stopped, requests that hang in it must not have all of them. */
  if (graph->features.few_workers) {
    JsonObject *limits = json_object_new ();
    json_object_set_int_member (limits, "max-workers", MAX_WORKERS);
    /* Who limits the speed wants the guest to feel less of it. */
    if (speed > 0)
      json_object_set_int_member (limits, "max-chunk", LIMITED_CHUNK);
    json_object_set_object_member (json_node_get_object (arguments), "x-perf", limits);
  }
  return vma_json_make ("type:s", "blockdev-backup", "data:o", arguments, NULL);
}

gboolean
vma_graph_start_copies (VmaGraph *graph, JsonNode *copies, GError **error)
{
  return vma_qmp_run (graph->qmp, "transaction", vma_json_make ("actions:o", copies, NULL), error);
}

/* --- reads through to QEMU ------------------------------------------------------------------- */

static int
listen_at (const char *path, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = -1;

  if (strlen (path) >= sizeof address.sun_path)
    errno = ENAMETOOLONG;
  else {
    memcpy (address.sun_path, path, strlen (path));
    fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  }
  if (fd >= 0 && bind (fd, (struct sockaddr *) &address, sizeof address) == 0
      && listen (fd, 16) == 0)
    return fd;
  vma_set_errno_error (error, errno, "%s: cannot listen", path);
  if (fd >= 0)
    close (fd);
  return -1;
}

/*
 * Starts QEMU's NBD server, unless one of ours runs already.  QEMU gets the listening socket as a
 * descriptor: it may be another user, or see other folders.
 */
static gboolean
start_server (VmaGraph *graph, const char *path, GError **error)
{
  g_autofree char *name = g_strdup_printf ("%snbd", graph->prefix);
  g_autofree char *temporary = g_strdup_printf ("%s.new", path);

  if (vma_socket_answers (path))
    return TRUE;
  unlink (temporary);
  int fd = listen_at (temporary, error);
  if (fd < 0)
    return FALSE;
  gboolean started = vma_qmp_pass_fd (graph->qmp, fd, name, error);
  close (fd);
  if (started) {
    JsonNode *address
        = vma_json_make ("type:s", "fd", "data:o", vma_json_make ("str:s", name, NULL), NULL);
    started = vma_qmp_run (graph->qmp, "nbd-server-start", vma_json_make ("addr:o", address, NULL),
                           error);
    if (!started)
      vma_qmp_run (graph->qmp, "closefd", vma_json_make ("fdname:s", name, NULL), NULL);
  }
  if (started && rename (temporary, path) == 0)
    return TRUE;
  unlink (temporary);
  return FALSE;
}

static gboolean
export_one (VmaGraph *graph, guint disk, const char *bitmap, GError **error)
{
  g_autofree char *id = vma_graph_name (graph, "exp", disk);
  g_autofree char *snapshot = vma_graph_name (graph, "snap", disk);

  const char *const list[] = { bitmap, NULL };
  JsonNode *bitmaps = bitmap != NULL ? vma_json_strings (list) : NULL;

  return vma_qmp_run (graph->qmp, "block-export-add",
                      vma_json_make ("type:s", "nbd", "id:s", id, "node-name:s", snapshot, "name:s",
                                     snapshot, "writable:b", FALSE, "bitmaps:o", bitmaps, NULL),
                      error);
}

/* QEMU before 8.0 aborts when an NBD client leaves the export of a disk in an iothread. */
static gboolean
has_iothreads (VmaGraph *graph)
{
  g_autoptr (JsonNode) threads
      = graph->features.has_devices
            ? vma_qmp_execute (graph->qmp, "query-iothreads", NULL, VMA_QMP_SECONDS, NULL)
            : NULL;

  return vma_json_length (vma_json_node_array (threads)) > 0;
}

char **
vma_graph_export (VmaGraph *graph, const char *const *bitmaps, char **note)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *dir = NULL;
  char **uris = g_new0 (char *, graph->disks->len + 1);

  if (graph->features.major < 8 && has_iothreads (graph)) {
    *note = g_strdup ("this QEMU cannot export disks that are in an iothread");
    return uris;
  }
  dir = vma_run_dir (&error);
  g_autofree char *path
      = dir != NULL ? vma_run_nbd_socket (dir, vma_qmp_peer (graph->qmp, NULL)) : NULL;
  g_autofree char *escaped = path != NULL ? g_uri_escape_string (path, "/", FALSE) : NULL;
  gboolean works = path != NULL && start_server (graph, path, &error);
  graph->nbd_socket = works ? g_strdup (path) : NULL;
  for (guint i = 0; works && i < graph->disks->len; i++) {
    g_autofree char *snapshot = vma_graph_name (graph, "snap", i);
    works = export_one (graph, i, bitmaps[i], &error);
    if (works)
      uris[i] = g_strdup_printf ("nbd+unix:///%s?socket=%s", snapshot, escaped);
  }
  if (!works)
    *note = g_strdup (error != NULL ? error->message : "no NBD server");
  return uris;
}
