/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/vmstate.h"

#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Device state and the headers of pages come on top of the pages themselves. */
#define MARGIN (64ull << 20)
#define START_SECONDS 60
#define FAST (G_GUINT64_CONSTANT (1) << 40)

struct VmaMemory {
  VmaGraph *graph;
  int fd;
  gboolean live, started, finished;
  char *why_not;
  gint64 old_bandwidth; /* < 0: was not changed */
  gint64 fdset;         /* < 0: none */
};

static int
open_file (const char *near, guint64 size, GError **error)
{
  struct stat found;
  g_autofree char *dir = NULL;

  if (near != NULL && strcmp (near, "-") != 0 && !g_str_has_prefix (near, "fd:")
      && !g_str_has_prefix (near, "exec:"))
    dir = g_path_get_dirname (near);
  if (dir == NULL || stat (dir, &found) != 0) {
    g_free (dir);
    dir = g_strdup ("/var/tmp");
  }
  int fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    g_autofree char *path = g_build_filename (dir, ".vmabackup-memory-XXXXXX", NULL);
    fd = g_mkstemp_full (path, O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
      unlink (path);
  }
  /* Its size stays 0: the end of what QEMU writes shall be the end of the file. */
  if (fd >= 0 && fallocate (fd, FALLOC_FL_KEEP_SIZE, 0, (off_t) size) == 0)
    return fd;
  vma_set_errno_error (error, errno, "no room for %" G_GUINT64_FORMAT " bytes of memory in %s",
                       size, dir);
  if (fd >= 0)
    close (fd);
  return -1;
}

static gboolean
set_capability (VmaQmp *qmp, gboolean on, GError **error)
{
  JsonNode *capability = vma_json_make ("capability:s", "background-snapshot", "state:b", on, NULL);

  return vma_qmp_run (qmp, "migrate-set-capabilities",
                      vma_json_make ("capabilities:o", vma_json_list (capability, NULL), NULL),
                      error);
}

static void
set_bandwidth (VmaQmp *qmp, gint64 bandwidth)
{
  vma_qmp_run (qmp, "migrate-set-parameters", vma_json_make ("max-bandwidth:i", bandwidth, NULL),
               NULL);
}

/* Nothing else shall slow down a guest that is paused. */
static void
hurry (VmaMemory *memory)
{
  g_autoptr (JsonNode) parameters = vma_qmp_execute (memory->graph->qmp, "query-migrate-parameters",
                                                     NULL, VMA_QMP_SECONDS, NULL);

  memory->old_bandwidth = vma_json_int (vma_json_node_object (parameters), "max-bandwidth", -1);
  if (memory->old_bandwidth >= 0)
    set_bandwidth (memory->graph->qmp, (gint64) FAST);
}

VmaMemory *
vma_memory_new (VmaGraph *graph, const char *near, GError **error)
{
  g_autoptr (GError) refused = NULL;
  g_autoptr (JsonNode) sizes
      = vma_qmp_execute (graph->qmp, "query-memory-size-summary", NULL, VMA_QMP_SECONDS, error);

  if (sizes == NULL)
    return NULL;
  JsonObject *size = vma_json_node_object (sizes);
  gint64 base = vma_json_int (size, "base-memory", 0);
  gint64 plugged = vma_json_int (size, "plugged-memory", 0);
  if (base <= 0 || plugged < 0 || base > G_MAXINT64 / 4 || plugged > G_MAXINT64 / 4) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "QEMU does not know the size of its memory");
    return NULL;
  }
  guint64 bytes = (guint64) base + (guint64) plugged;
  int fd = open_file (near, bytes + bytes / 256 + MARGIN, error);
  if (fd < 0)
    return NULL;
  VmaMemory *memory = g_new0 (VmaMemory, 1);
  memory->graph = graph;
  memory->fd = fd;
  memory->old_bandwidth = memory->fdset = -1;
  memory->live = set_capability (graph->qmp, TRUE, &refused);
  if (!memory->live) {
    memory->why_not = g_strdup (refused->message);
    hurry (memory);
  }
  return memory;
}

gboolean
vma_memory_is_live (VmaMemory *memory)
{
  return memory->live;
}

const char *
vma_memory_why_not_live (VmaMemory *memory)
{
  return memory->why_not;
}

int
vma_memory_fd (VmaMemory *memory)
{
  lseek (memory->fd, 0, SEEK_SET);
  return memory->fd;
}

/* Newer QEMUs write to files by file:, and take fd: for sockets only. */
static char *
pass_file (VmaMemory *memory, GError **error)
{
  VmaGraph *graph = memory->graph;
  g_autofree char *name = g_strdup_printf ("%smemory", graph->prefix);

  if (!graph->features.migrate_file)
    return vma_qmp_pass_fd (graph->qmp, memory->fd, name, error) ? g_strdup_printf ("fd:%s", name)
                                                                 : NULL;
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", memory->fd);
  int writer = open (path, O_WRONLY | O_CLOEXEC);
  if (writer < 0) {
    vma_set_errno_error (error, errno, "%s", path);
    return NULL;
  }
  g_autoptr (JsonNode) set = vma_qmp_add_fd (graph->qmp, writer, error);
  close (writer);
  memory->fdset = vma_json_int (vma_json_node_object (set), "fdset-id", -1);
  return set != NULL ? g_strdup_printf ("file:/dev/fdset/%d", (int) memory->fdset) : NULL;
}

/* *pages: how much of the memory went out so far; *done: all is there. */
static gboolean
look (VmaMemory *memory, gint64 *pages, gboolean *done, GError **error)
{
  g_autoptr (JsonNode) reply
      = vma_qmp_execute (memory->graph->qmp, "query-migrate", NULL, VMA_QMP_SECONDS, error);
  JsonObject *info = vma_json_node_object (reply);
  JsonObject *ram = vma_json_object (info, "ram");
  const char *status = vma_json_string (info, "status");

  if (reply == NULL)
    return FALSE;
  *pages = vma_json_int (ram, "normal", 0) + vma_json_int (ram, "duplicate", 0);
  *done = g_strcmp0 (status, "completed") == 0;
  if (g_strcmp0 (status, "failed") != 0 && g_strcmp0 (status, "cancelled") != 0)
    return TRUE;
  const char *why = vma_json_string (info, "error-desc");
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "the memory could not be saved: %s",
               why != NULL ? why : status);
  return FALSE;
}

/* One look; FALSE also where there is no use in going on. */
static gboolean
look_on (VmaMemory *memory, GCancellable *cancellable, VmaTarget *target, gint64 *pages,
         GError **error)
{
  if (g_cancellable_is_cancelled (cancellable))
    return vma_fail (error, VMA_ERROR_CANCELLED, "cancelled");
  return !vma_target_has_failed (target, error) && look (memory, pages, &memory->finished, error);
}

gboolean
vma_memory_save (VmaMemory *memory, GCancellable *cancellable, VmaTarget *target, GError **error)
{
  g_autofree char *uri = pass_file (memory, error);
  gint64 until = g_get_monotonic_time () + START_SECONDS * G_USEC_PER_SEC, pages = 0;

  if (uri == NULL
      || !vma_qmp_run (memory->graph->qmp, "migrate", vma_json_make ("uri:s", uri, NULL), error))
    return FALSE;
  memory->started = TRUE;
  while (look_on (memory, cancellable, target, &pages, error)) {
    if (memory->finished || (memory->live && pages > 0))
      return TRUE;
    if (memory->live && g_get_monotonic_time () > until)
      return vma_fail (error, VMA_ERROR_IO, "QEMU does not begin to save the memory");
    g_usleep (memory->live ? 500 : 20000);
  }
  return FALSE;
}

gboolean
vma_memory_wait (VmaMemory *memory, GCancellable *cancellable, VmaTarget *target, GError **error)
{
  gint64 pages;

  while (!memory->finished) {
    if (!look_on (memory, cancellable, target, &pages, error))
      return FALSE;
    if (!memory->finished)
      g_usleep (100 * 1000);
  }
  return TRUE;
}

/* Until QEMU has given it up. */
static void
cancel_migration (VmaQmp *qmp)
{
  static const char *const under_way[]
      = { "setup", "active", "device", "pre-switchover", "cancelling", "wait-unplug", NULL };
  gint64 until = g_get_monotonic_time () + START_SECONDS * G_USEC_PER_SEC;
  gboolean going;

  vma_qmp_run (qmp, "migrate_cancel", NULL, NULL);
  do {
    g_autoptr (JsonNode) reply
        = vma_qmp_execute (qmp, "query-migrate", NULL, VMA_QMP_SECONDS, NULL);
    const char *status = vma_json_string (vma_json_node_object (reply), "status");
    going = status != NULL && g_strv_contains (under_way, status);
    if (going)
      g_usleep (20 * 1000);
  } while (going && g_get_monotonic_time () < until);
}

void
vma_memory_abandon (VmaQmp *qmp, gint64 bandwidth)
{
  cancel_migration (qmp);
  set_capability (qmp, FALSE, NULL);
  if (bandwidth >= 0)
    set_bandwidth (qmp, bandwidth);
}

gint64
vma_memory_old_bandwidth (VmaMemory *memory)
{
  return memory->old_bandwidth;
}

void
vma_memory_end (VmaMemory *memory)
{
  VmaQmp *qmp = memory->graph->qmp;

  if (memory->started && !memory->finished)
    cancel_migration (qmp);
  if (memory->live)
    set_capability (qmp, FALSE, NULL);
  if (memory->old_bandwidth >= 0)
    set_bandwidth (qmp, memory->old_bandwidth);
  if (memory->fdset >= 0)
    vma_qmp_run (qmp, "remove-fd", vma_json_make ("fdset-id:i", memory->fdset, NULL), NULL);
  memory->live = memory->started = FALSE;
  memory->old_bandwidth = memory->fdset = -1;
}

void
vma_memory_free (VmaMemory *memory)
{
  close (memory->fd);
  g_free (memory->why_not);
  g_free (memory);
}
