/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/job-impl.h"

#include "index/lock.h"
#include "vma/error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static VmaJobDisk *
state_of_job (VmaJob *job, const char *id, const VmaDisk **disk)
{
  for (guint i = 0; id != NULL && i < vma_job_n_disks (job); i++) {
    g_autofree char *name = vma_graph_name (&job->graph, "job", i);
    if (strcmp (name, id) == 0) {
      *disk = vma_job_disk (job, i);
      return &job->states[i];
    }
  }
  return NULL;
}

/* Reads of a snapshot that is broken are refused; QEMU has no other sign of it. */
static gboolean
copy_failed (const VmaDisk *disk, const char *why, GError **error)
{
  if (strstr (why, g_strerror (EACCES)) != NULL)
    return vma_fail (
        error, VMA_ERROR_IO,
        "%s: the point in time was lost: a write of the guest could not be saved in time "
        "(--scratch, or a longer --cbw-timeout, may help)",
        disk->name);
  return vma_fail (error, VMA_ERROR_IO, "%s: the background copy failed: %s", disk->name, why);
}

/* One entry of query-jobs. */
static gboolean
look_at_copy (VmaJob *job, JsonObject *one, GError **error)
{
  const VmaDisk *disk = NULL;
  const char *id = vma_json_string (one, "id");
  VmaJobDisk *state = state_of_job (job, id, &disk);
  const char *why = vma_json_string (one, "error");

  if (state == NULL)
    return TRUE;
  if (g_strcmp0 (vma_json_string (one, "status"), "pending") == 0)
    return vma_qmp_run (job->graph.qmp, "job-finalize", vma_json_make ("id:s", id, NULL), error);
  if (g_strcmp0 (vma_json_string (one, "status"), "concluded") != 0)
    return TRUE;
  if (why != NULL)
    return copy_failed (disk, why, error);
  if (vma_json_int (one, "current-progress", 0) != vma_json_int (one, "total-progress", -1))
    return vma_fail (error, VMA_ERROR_IO, "%s: somebody else cancelled the background copy",
                     disk->name);
  state->done = TRUE;
  return vma_qmp_run (job->graph.qmp, "job-dismiss", vma_json_make ("id:s", id, NULL), error);
}

static gboolean
all_done (VmaJob *job)
{
  for (guint i = 0; i < vma_job_n_disks (job); i++)
    if (!job->states[i].done)
      return FALSE;
  return TRUE;
}

static gboolean
look_at_copies (VmaJob *job, GError **error)
{
  guint seen = 0, wanted = 0;
  g_autoptr (JsonNode) list
      = vma_qmp_execute (job->graph.qmp, "query-jobs", NULL, VMA_QMP_SECONDS, error);

  if (list == NULL)
    return FALSE;
  for (guint i = 0; i < vma_job_n_disks (job); i++)
    wanted += !job->states[i].done;
  JsonArray *array = vma_json_node_array (list);
  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonObject *one = vma_json_element (array, i);
    const VmaDisk *disk;
    VmaJobDisk *state = state_of_job (job, vma_json_string (one, "id"), &disk);
    seen += state != NULL && !state->done;
    if (!look_at_copy (job, one, error))
      return FALSE;
  }
  if (seen < wanted)
    return vma_fail (error, VMA_ERROR_IO,
                     "a background copy has gone from QEMU (vmabackup clean?)");
  return TRUE;
}

static gboolean
apply_speed (VmaJob *job, GError **error)
{
  guint64 speed = atomic_exchange (&job->new_speed, VMA_JOB_NO_SPEED);

  if (speed == VMA_JOB_NO_SPEED)
    return TRUE;
  for (guint i = 0; i < vma_job_n_disks (job); i++) {
    g_autofree char *id = vma_graph_name (&job->graph, "job", i);
    if (job->states[i].copying && !job->states[i].done
        && !vma_qmp_run (job->graph.qmp, "block-job-set-speed",
                         vma_json_make ("device:s", id, "speed:i", (gint64) speed, NULL), error))
      return FALSE;
  }
  VMA_LOCK (&job->lock);
  job->speed = speed;
  return TRUE;
}

/*
 * Another QEMU may write to the images from the moment on when the guest is there, and no filter of
 * ours sees it.
 */
static gboolean
check_not_migrated (VmaJob *job, GError **error)
{
  gboolean maybe;

  if (!job->graph.features.has_devices)
    return TRUE;
  do {
    g_autoptr (JsonNode) status
        = vma_qmp_execute (job->graph.qmp, "query-status", NULL, VMA_QMP_SECONDS, NULL);
    const char *state = vma_json_string (vma_json_node_object (status), "status");
    if (g_strcmp0 (state, "postmigrate") == 0)
      return vma_fail (error, VMA_ERROR_IO, "the guest was migrated away");
    maybe = g_strcmp0 (state, "finish-migrate") == 0;
    if (maybe)
      g_usleep (VMA_JOB_TICK_MS * 1000); /* it may still come to nothing */
  } while (maybe);
  return TRUE;
}

/* An event of QEMU: whether the copies are to be looked at now. */
static gboolean
take_event (VmaJob *job, JsonObject *event, gboolean *look, GError **error)
{
  const char *name = vma_json_string (event, "event");
  JsonObject *data = vma_json_object (event, "data");

  const char *status = vma_json_string (data, "status");

  if (strcmp (name, "JOB_STATUS_CHANGE") == 0
      && (g_strcmp0 (status, "concluded") == 0 || g_strcmp0 (status, "pending") == 0))
    *look = TRUE;
  else if (strcmp (name, "SHUTDOWN") == 0 && job->options.sync != VMA_SYNC_NONE)
    vma_job_note (job, "the guest shuts down; the backup goes on as long as QEMU runs");
  else if (strcmp (name, "STOP") == 0)
    return check_not_migrated (job, error);
  return TRUE;
}

/* Whether the view that was asked for is still mounted. */
static gboolean
view_is_there (VmaJob *job)
{
  g_autofree char *parent = g_path_get_dirname (job->options.mount);
  struct stat inside, outside;

  /* stat() of the view is answered by ourselves, by another thread. */
  return stat (job->options.mount, &inside) == 0 && stat (parent, &outside) == 0
         && inside.st_dev != outside.st_dev;
}

static gboolean
is_over (VmaJob *job)
{
  return job->options.sync == VMA_SYNC_NONE ? !view_is_there (job) : all_done (job);
}

static gboolean
tick (VmaJob *job, gboolean *look, GCancellable *cancellable, GError **error)
{
  g_autoptr (JsonObject) event = vma_qmp_next_event (job->graph.qmp, VMA_JOB_TICK_MS);

  if (g_cancellable_is_cancelled (cancellable))
    return vma_job_fail_cancelled (error);
  if (vma_target_has_failed (job->target, error))
    return FALSE;
  if (event != NULL)
    return take_event (job, event, look, error);
  if (vma_qmp_is_closed (job->graph.qmp)) {
    if (!vma_job_reconnect (job))
      return vma_fail (error, VMA_ERROR_IO,
                       vma_job_qemu_has_ended (job, VMA_JOB_ENDING_MS) ? "QEMU has ended"
                                                                       : "QEMU's monitor is gone");
    vma_job_note (job, "connected to QEMU again");
    *look = TRUE;
  }
  return apply_speed (job, error);
}

static gboolean
look_at_qemu (VmaJob *job, GError **error)
{
  return (job->options.sync == VMA_SYNC_NONE || look_at_copies (job, error))
         && check_not_migrated (job, error);
}

gboolean
vma_job_watch (VmaJob *job, GCancellable *cancellable, GError **error)
{
  gint64 next_look = 0;

  while (!is_over (job)) {
    gboolean look = FALSE;
    if (!tick (job, &look, cancellable, error))
      return FALSE;
    gint64 now = g_get_monotonic_time ();
    if (look || now >= next_look) {
      g_autoptr (GError) why = NULL;
      if (!look_at_qemu (job, &why) && !vma_qmp_is_closed (job->graph.qmp)) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
      }
      next_look = now + G_USEC_PER_SEC;
    }
    job->tell (job->tell_data, "BACKUP_PROGRESS", NULL);
  }
  return check_not_migrated (job, error)
         && (job->memory == NULL || vma_memory_wait (job->memory, cancellable, job->target, error));
}
