/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/job-impl.h"

#include "backup/bitmap.h"
#include "backup/clean.h"
#include "backup/names.h"
#include "image/archive.h"
#include "index/lock.h"
#include "vma/error.h"

#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uuid/uuid.h>

#define OPEN_SECONDS 10
#define RECONNECT_SECONDS 10
#define MAX_REQUEST_SECONDS 20

gboolean
vma_job_fail_cancelled (GError **error)
{
  return vma_fail (error, VMA_ERROR_CANCELLED, "cancelled");
}

void
vma_job_note (VmaJob *job, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  job->tell (job->tell_data, NULL, text);
}

const VmaDisk *
vma_job_disk (VmaJob *job, guint i)
{
  return g_ptr_array_index (job->graph.disks, i);
}

guint
vma_job_n_disks (VmaJob *job)
{
  return job->graph.disks != NULL ? job->graph.disks->len : 0;
}

/* --- QEMU ------------------------------------------------------------------------------------ */

gboolean
vma_job_qemu_has_ended (VmaJob *job, int milliseconds)
{
  struct pollfd end = { job->qemu, POLLIN, 0 }; /* no descriptor: only the wait */

  return poll (&end, 1, milliseconds) == 1 && end.revents == POLLIN;
}

gboolean
vma_job_reconnect (VmaJob *job)
{
  g_autoptr (GError) error = NULL;
  gint64 until = g_get_monotonic_time () + RECONNECT_SECONDS * G_USEC_PER_SEC;

  if (g_str_has_prefix (job->options.qmp, "fd:"))
    return FALSE;
  do {
    g_clear_error (&error);
    VmaQmp *qmp = vma_qmp_open (job->options.qmp, "QEMU", 2, &error);
    if (qmp != NULL) {
      vma_qmp_free (job->graph.qmp);
      job->graph.qmp = qmp;
      return TRUE;
    }
    /* Nobody listens: QEMU has gone, unless it is just busy. */
  } while (!vma_job_qemu_has_ended (job, 200) && g_get_monotonic_time () < until
           && (error->code != VMA_QMP_CONNECT || access (job->options.qmp, F_OK) == 0));
  return FALSE;
}

gboolean
vma_job_guest_is_running (VmaJob *job, gboolean *running, GError **error)
{
  *running = FALSE;
  if (!job->graph.features.has_devices)
    return TRUE;
  g_autoptr (JsonNode) status
      = vma_qmp_execute (job->graph.qmp, "query-status", NULL, VMA_QMP_SECONDS, error);
  *running = vma_json_bool (vma_json_node_object (status), "running");
  return status != NULL;
}

/* --- before anything is touched -------------------------------------------------------------- */

/* A job of this id must have left nothing. */
static gboolean
check_id (VmaJob *job, GError **error)
{
  g_auto (GStrv) there = vma_clean_list (job->graph.qmp, error);

  if (there == NULL)
    return FALSE;
  if (g_strv_contains ((const char *const *) there, job->graph.prefix))
    return vma_fail (error, VMA_ERROR_INVALID,
                     "QEMU has nodes of a job '%s' already (if it does not run any more: vmabackup "
                     "clean)",
                     job->options.id);
  return TRUE;
}

static gboolean
base_uuid (VmaJob *job, guint8 uuid[VMA_UUID_SIZE], GError **error)
{
  g_autoptr (VmaArchive) base = vma_archive_open (job->options.base, NULL, error);

  if (base == NULL)
    return FALSE;
  memcpy (uuid, vma_archive_header (base)->uuid, VMA_UUID_SIZE);
  return TRUE;
}

/* Which bitmaps there are to use, and to begin.  Without a usable one a disk is copied in full. */
static gboolean
choose_bitmaps (VmaJob *job, GError **error)
{
  const VmaJobOptions *o = &job->options;
  guint8 uuid[VMA_UUID_SIZE];

  if (o->bitmap == NULL)
    return TRUE;
  if (o->base != NULL && !base_uuid (job, uuid, error))
    return FALSE;
  for (guint i = 0; i < vma_job_n_disks (job); i++) {
    const VmaDisk *disk = vma_job_disk (job, i);
    const char *why = NULL;
    job->states[i].next = vma_bitmap_name (o->bitmap, job->uuid);
    if (o->base == NULL)
      continue;
    g_autofree char *old = vma_bitmap_name (o->bitmap, uuid);
    vma_bitmap_repair (job->graph.qmp, disk->node);
    if (vma_bitmap_is_usable (job->graph.qmp, disk->node, old, &why))
      job->states[i].old = g_steal_pointer (&old);
    else
      vma_job_note (job, "%s: a full copy: no bitmap '%s' that goes with %s: %s", disk->name,
                    o->bitmap, o->base, why);
  }
  return TRUE;
}

static gboolean
prepare (VmaJob *job, GError **error)
{
  const VmaJobOptions *o = &job->options;
  VmaGraph *graph = &job->graph;

  graph->qmp = vma_qmp_open (o->qmp, "QEMU", OPEN_SECONDS, error);
  if (graph->qmp == NULL)
    return FALSE;
  job->qemu = (int) syscall (SYS_pidfd_open, vma_qmp_peer (graph->qmp, NULL), 0);
  if (!vma_features_check (graph->qmp, o->bitmap != NULL, &graph->features, error))
    return FALSE;
  g_autoptr (GPtrArray) disks
      = vma_disks_find (graph->qmp, &graph->features, o->devices, o->exclude, error);
  if (disks == NULL || !check_id (job, error))
    return FALSE;
  if (o->vmstate && !graph->features.has_devices)
    return vma_fail (error, VMA_ERROR_INVALID, "--vmstate: a qemu-storage-daemon has no memory");
  VMA_LOCK (&job->lock);
  graph->disks = g_steal_pointer (&disks);
  job->states = g_new0 (VmaJobDisk, graph->disks->len);
  return TRUE;
}

/* --- the target ------------------------------------------------------------------------------ */

static void
on_target_failed (gpointer data G_GNUC_UNUSED, const GError *error G_GNUC_UNUSED)
{
  /* The job looks by itself, several times a second. */
}

static VmaTarget *
new_target (VmaJob *job, uid_t qemu_user, GError **error)
{
  const VmaJobOptions *o = &job->options;
  g_autofree VmaTargetDisk *disks = g_new0 (VmaTargetDisk, vma_job_n_disks (job));
  g_autofree gboolean *changed_only = g_new0 (gboolean, vma_job_n_disks (job));
  VmaTargetOptions options = {
    .output = o->sync == VMA_SYNC_NONE ? NULL : o->output,
    .uuid = job->uuid,
    .compression = o->compression,
    .disks = disks,
    .n_disks = vma_job_n_disks (job),
    .configs = o->configs,
    .n_configs = o->n_configs,
    .vmstate = o->vmstate,
    .scratch = o->scratch,
    .scratch_size = o->scratch_size,
    .on_full = o->on_full,
    .view = o->mount != NULL,
    .delta = o->delta,
    .changed_only = changed_only,
    /* A hook write that is held up holds up all of QEMU when the next background copy starts. */
    .request_timeout = MIN (o->cbw_timeout, MAX_REQUEST_SECONDS),
    .allow_other = qemu_user != geteuid () && qemu_user != 0 && qemu_user != (uid_t) -1,
    .owner = qemu_user,
    .failed = on_target_failed,
    .data = job,
  };

  for (guint i = 0; i < vma_job_n_disks (job); i++) {
    disks[i] = (VmaTargetDisk){ vma_job_disk (job, i)->name, vma_job_disk (job, i)->size };
    changed_only[i] = job->states[i].old != NULL || o->sync == VMA_SYNC_TOP;
    if (changed_only[i])
      options.base = o->base;
  }
  return vma_target_new (&options, error);
}

static gboolean
start_target (VmaJob *job, GError **error)
{
  uid_t uid = (uid_t) -1;

  vma_qmp_peer (job->graph.qmp, &uid);
  VmaTarget *target = new_target (job, uid, error);
  if (target == NULL)
    return FALSE;
  pthread_mutex_lock (&job->lock);
  job->target = target;
  job->described = TRUE;
  pthread_mutex_unlock (&job->lock);
  if (!vma_target_serve (target, error))
    return FALSE;
  vma_guard_add_mount (job->guard, vma_target_mountpoint (target), TRUE);
  if (job->options.mount == NULL)
    return TRUE;
  vma_guard_add_mount (job->guard, job->options.mount, FALSE);
  return vma_target_show (target, job->options.mount, error);
}

/* --- the end --------------------------------------------------------------------------------- */

static void
take_out_of_qemu (VmaJob *job)
{
  g_autoptr (GError) error = NULL;

  if (!job->nodes_there)
    return;
  for (guint i = 0; job->frozen && i < vma_job_n_disks (job); i++)
    vma_target_end_read_through (job->target, i);
  gboolean clean = vma_clean (job->graph.qmp, job->graph.prefix, FALSE, NULL, &error);
  if (!clean && vma_qmp_is_closed (job->graph.qmp)) {
    if (!vma_job_reconnect (job)) {
      if (job->graph.nbd_socket != NULL)
        vma_socket_remove_stale (job->graph.nbd_socket);
      if (!vma_job_qemu_has_ended (job, VMA_JOB_ENDING_MS)) /* else it took all of it along */
        vma_job_note (
            job,
            "QEMU cannot be reached; if it runs, it has nodes of this backup (remove them: "
            "vmabackup clean --qmp %s)",
            job->options.qmp);
      return;
    }
    g_clear_error (&error);
    clean = vma_clean (job->graph.qmp, job->graph.prefix, FALSE, NULL, &error);
  }
  if (clean) {
    job->nodes_there = FALSE;
    vma_guard_set_nodes (job->guard, FALSE);
  } else
    vma_job_note (
        job, "nodes of this backup are left in QEMU: %s (remove them: vmabackup clean --qmp %s)",
        error->message, job->options.qmp);
}

static void
settle_bitmaps (VmaJob *job, gboolean success)
{
  for (guint i = 0; i < vma_job_n_disks (job); i++) {
    VmaJobDisk *state = &job->states[i];
    const char *node = vma_job_disk (job, i)->node;
    g_autoptr (GError) error = NULL;
    if (!state->bitmap_runs)
      continue;
    if (success)
      vma_bitmap_keep (job->graph.qmp, node, job->options.bitmap, state->next);
    else if (!vma_bitmap_back (job->graph.qmp, node, state->old, state->next, &error)
             && !vma_qmp_is_closed (job->graph.qmp))
      vma_job_note (job, "%s: the next backup will be a full one: %s", vma_job_disk (job, i)->name,
                    error->message);
  }
}

static gboolean
complete (VmaJob *job, GCancellable *cancellable, GError **error)
{
  if (job->options.sync == VMA_SYNC_NONE)
    return TRUE;
  if (job->memory != NULL
      && !vma_target_add_vmstate (job->target, vma_memory_fd (job->memory), cancellable, error))
    return FALSE;
  return vma_target_complete (job->target, cancellable, error);
}

static gboolean
run_copies (VmaJob *job, GCancellable *cancellable, GError **error)
{
  if (!vma_job_add_files (job, error) || !vma_job_freeze (job, cancellable, error))
    return FALSE;
  job->frozen = TRUE;
  vma_job_begin (job);
  if (!vma_job_start_copies (job, error))
    return FALSE;
  pthread_mutex_lock (&job->lock);
  job->status = "running";
  pthread_mutex_unlock (&job->lock);
  job->tell (job->tell_data, "BACKUP_STARTED", NULL);
  return vma_job_watch (job, cancellable, error);
}

static gboolean
run_with_target (VmaJob *job, GCancellable *cancellable, GError **error)
{
  const char *dir = job->options.scratch != NULL ? job->options.scratch : job->options.output;

  if (job->options.vmstate) {
    gboolean running;
    if (!vma_job_guest_is_running (job, &running, error))
      return FALSE;
    if (!running) /* QEMU would leave it running, or as if migrated away */
      return vma_fail (error, VMA_ERROR_INVALID,
                       "--vmstate: the guest is paused (let it go on first)");
    job->memory = vma_memory_new (&job->graph, dir, error);
    if (job->memory == NULL)
      return FALSE;
    vma_guard_set_memory (job->guard, TRUE, vma_memory_old_bandwidth (job->memory));
    if (!vma_memory_is_live (job->memory))
      vma_job_note (job, "the guest will pause while its memory is saved: %s",
                    vma_memory_why_not_live (job->memory));
  }
  GError *why = NULL;
  gboolean done = run_copies (job, cancellable, &why);
  if (!done)
    vma_target_fail (job->target, why); /* from here on no request of QEMU waits for anything */
  if (job->memory != NULL) {
    vma_memory_end (job->memory);
    vma_guard_set_memory (job->guard, FALSE, -1);
  }
  take_out_of_qemu (job);
  if (done)
    done = complete (job, cancellable, &why);
  settle_bitmaps (job, done);
  if (!done)
    g_propagate_error (error, why);
  return done;
}

static void
set_end (VmaJob *job, gboolean done, const GError *error)
{
  VMA_LOCK (&job->lock);
  job->status = done                                                      ? "concluded"
                : g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED) ? "cancelled"
                                                                          : "failed";
  job->error = done ? NULL : g_strdup (error->message);
  job->end_ns = g_get_real_time () * 1000;
}

gboolean
vma_job_run (VmaJob *job, GCancellable *cancellable, GError **error)
{
  GError *why = NULL;
  gboolean done = prepare (job, &why) && choose_bitmaps (job, &why) && start_target (job, &why);

  done = done && run_with_target (job, cancellable, &why);
  if (!done && g_cancellable_is_cancelled (cancellable)
      && !g_error_matches (why, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    g_clear_error (&why);
    vma_job_fail_cancelled (&why);
  }
  set_end (job, done, why);
  if (!done)
    g_propagate_error (error, why);
  return done;
}

/* --- life ------------------------------------------------------------------------------------ */

VmaJob *
vma_job_new (const VmaJobOptions *options, VmaGuard *guard, VmaJobTell tell, gpointer data)
{
  VmaJob *job = g_new0 (VmaJob, 1);

  job->options = *options;
  job->guard = guard;
  job->tell = tell;
  job->tell_data = data;
  job->status = "starting";
  job->speed = options->speed;
  job->qemu = -1;
  job->new_speed = VMA_JOB_NO_SPEED;
  job->graph.prefix = vma_node_prefix (options->id);
  job->graph.cbw_timeout = options->cbw_timeout;
  uuid_generate (job->uuid);
  pthread_mutex_init (&job->lock, NULL);
  return job;
}

void
vma_job_free (VmaJob *job)
{
  guint n = vma_job_n_disks (job);

  g_clear_pointer (&job->memory, vma_memory_free);
  g_clear_pointer (&job->target, vma_target_free);
  for (guint i = 0; i < n; i++) {
    g_free (job->states[i].old);
    g_free (job->states[i].next);
  }
  g_free (job->states);
  g_clear_pointer (&job->graph.disks, g_ptr_array_unref);
  g_clear_pointer (&job->graph.qmp, vma_qmp_free);
  if (job->qemu >= 0)
    close (job->qemu);
  g_free (job->graph.prefix);
  g_free (job->graph.nbd_socket);
  g_free (job->error);
  pthread_mutex_destroy (&job->lock);
  g_free (job);
}
