/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/job.h"

#include "backup/bitmap.h"
#include "backup/clean.h"
#include "backup/graph.h"
#include "backup/vmstate.h"
#include "backup/names.h"
#include "image/archive.h"
#include "index/lock.h"
#include "vma/error.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uuid/uuid.h>

#define OPEN_SECONDS 10
#define RECONNECT_SECONDS 10
#define MAX_REQUEST_SECONDS 20
#define ENDING_MS 1000
#define TICK_MS 200
#define NO_SPEED G_MAXUINT64

/* What we know of a disk besides VmaDisk. */
typedef struct {
  char *old, *next; /* bitmaps; NULL: none */
  gboolean bitmap_runs; /* `next` is there */
  gboolean copying, done;
  guint64 done_at;
} DiskState;

struct VmaJob {
  VmaJobOptions options;
  VmaGuard *guard;
  VmaJobTell tell;
  gpointer tell_data;
  guint8 uuid[VMA_UUID_SIZE];
  VmaGraph graph; /* graph.qmp is ours */
  DiskState *states;
  VmaTarget *target;
  VmaMemory *memory;
  gboolean nodes_there;
  gboolean frozen; /* there is a point in time */
  int qemu;        /* pidfd of QEMU's process, or -1 */

  _Atomic guint64 new_speed; /* NO_SPEED: none */

  pthread_mutex_t lock; /* of what follows, and of `target` and `graph.disks` while others look */
  const char *status;
  char *error;
  gint64 start_ns, end_ns, pause_ns;
  guint64 speed;
  gboolean described; /* disks and target may be asked */
};

static gboolean
fail_cancelled (GError **error)
{
  return vma_fail (error, VMA_ERROR_CANCELLED, "cancelled");
}

static void note (VmaJob *job, const char *format, ...) G_GNUC_PRINTF (2, 3);

static void
note (VmaJob *job, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  job->tell (job->tell_data, NULL, text);
}

static const VmaDisk *
disk_at (VmaJob *job, guint i)
{
  return g_ptr_array_index (job->graph.disks, i);
}

static guint
n_disks (VmaJob *job)
{
  return job->graph.disks != NULL ? job->graph.disks->len : 0;
}

/* --- before anything is touched ---------------------------------------------------------------- */

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
  for (guint i = 0; i < n_disks (job); i++) {
    const VmaDisk *disk = disk_at (job, i);
    const char *why = NULL;
    job->states[i].next = vma_bitmap_name (o->bitmap, job->uuid);
    if (o->base == NULL)
      continue;
    g_autofree char *old = vma_bitmap_name (o->bitmap, uuid);
    vma_bitmap_repair (job->graph.qmp, disk->node);
    if (vma_bitmap_is_usable (job->graph.qmp, disk->node, old, &why))
      job->states[i].old = g_steal_pointer (&old);
    else
      note (job, "%s: a full copy: no bitmap '%s' that goes with %s: %s", disk->name, o->bitmap,
            o->base, why);
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
  job->states = g_new0 (DiskState, graph->disks->len);
  return TRUE;
}

/* --- the target -------------------------------------------------------------------------------- */

static void
on_target_failed (gpointer data G_GNUC_UNUSED, const GError *error G_GNUC_UNUSED)
{
  /* The job looks by itself, several times a second. */
}

static VmaTarget *
new_target (VmaJob *job, uid_t qemu_user, GError **error)
{
  const VmaJobOptions *o = &job->options;
  g_autofree VmaTargetDisk *disks = g_new0 (VmaTargetDisk, n_disks (job));
  g_autofree gboolean *changed_only = g_new0 (gboolean, n_disks (job));
  VmaTargetOptions options = {
    .output = o->sync == VMA_SYNC_NONE ? NULL : o->output,
    .uuid = job->uuid,
    .compression = o->compression,
    .disks = disks,
    .n_disks = n_disks (job),
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

  for (guint i = 0; i < n_disks (job); i++) {
    disks[i] = (VmaTargetDisk) { disk_at (job, i)->name, disk_at (job, i)->size };
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

/* --- the point in time ------------------------------------------------------------------------- */

static gboolean
add_files (VmaJob *job, GError **error)
{
  vma_guard_set_nodes (job->guard, TRUE);
  job->nodes_there = TRUE;
  for (guint i = 0; i < n_disks (job); i++)
    if (!vma_graph_add_file (&job->graph, "cow", i, vma_target_cow_path (job->target, i), error)) {
      g_prefix_error (error, "%s: ", disk_at (job, i)->name);
      return FALSE;
    }
  return TRUE;
}

static gboolean
insert_disk (VmaJob *job, guint i, GError **error)
{
  DiskState *state = &job->states[i];
  const char *node = disk_at (job, i)->node;
  VmaQmp *qmp = job->graph.qmp;

  if (state->next != NULL) {
    if (!vma_bitmap_begin (qmp, node, state->old, state->next, error))
      return FALSE;
    state->bitmap_runs = TRUE;
  }
  if (!vma_graph_insert (&job->graph, i, state->old, error))
    return FALSE;
  if (state->old == NULL)
    return TRUE;
  g_autofree char *snapshot = vma_graph_name (&job->graph, "snap", i);
  return vma_bitmap_give (qmp, node, state->old, snapshot, error);
}

/* Whether the memory is saved while the guest is paused. */
static gboolean
has_long_pause (VmaJob *job)
{
  return job->memory != NULL && !vma_memory_is_live (job->memory);
}

/* Unless that was done. */
static gboolean
start_copies (VmaJob *job, GError **error)
{
  const char *sync = job->options.sync == VMA_SYNC_TOP ? "top" : "full";

  if (job->options.sync == VMA_SYNC_NONE || (n_disks (job) > 0 && job->states[0].copying))
    return TRUE;
  g_autoptr (JsonNode) copies = vma_json_list (NULL, NULL);
  for (guint i = 0; i < n_disks (job); i++) {
    const char *bitmap = job->states[i].old != NULL ? VMA_BITMAP_OF_SNAPSHOT : NULL;
    if (!vma_graph_add_file (&job->graph, "raw", i, vma_target_raw_path (job->target, i), error)) {
      g_prefix_error (error, "%s: ", disk_at (job, i)->name);
      return FALSE;
    }
    json_array_add_element (json_node_get_array (copies),
                            vma_graph_copy (&job->graph, i, sync, bitmap, job->speed,
                                            has_long_pause (job)));
  }
  if (!vma_graph_start_copies (&job->graph, g_steal_pointer (&copies), error))
    return FALSE;
  for (guint i = 0; i < n_disks (job); i++)
    job->states[i].copying = TRUE;
  return TRUE;
}

static gboolean
insert_all (VmaJob *job, GCancellable *cancellable, GError **error)
{
  for (guint i = 0; i < n_disks (job); i++)
    if (!insert_disk (job, i, error)) {
      g_prefix_error (error, "%s: ", disk_at (job, i)->name);
      return FALSE;
    }
  if (job->memory == NULL)
    return TRUE;
  /*
   * A migration that is no background snapshot ends with the images given away, which our nodes do not
   * allow; but below the filter of a running block job QEMU leaves them alone.
   */
  return (!has_long_pause (job) || start_copies (job, error))
         && vma_memory_save (job->memory, cancellable, job->target, error);
}

static gboolean
is_running (VmaJob *job, gboolean *running, GError **error)
{
  *running = FALSE;
  if (!job->graph.features.has_devices)
    return TRUE;
  g_autoptr (JsonNode) status
      = vma_qmp_execute (job->graph.qmp, "query-status", NULL, VMA_QMP_SECONDS, error);
  *running = vma_json_bool (vma_json_node_object (status), "running");
  return status != NULL;
}

/* Whether that is sure; one that is just ending is given so long. */
static gboolean
qemu_has_ended (VmaJob *job, int milliseconds)
{
  struct pollfd end = { job->qemu, POLLIN, 0 }; /* no descriptor: only the wait */

  return poll (&end, 1, milliseconds) == 1 && end.revents == POLLIN;
}

/* The connection was lost at a bad moment. */
static gboolean
reconnect (VmaJob *job)
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
  } while (!qemu_has_ended (job, 200) && g_get_monotonic_time () < until
           && (error->code != VMA_QMP_CONNECT || access (job->options.qmp, F_OK) == 0));
  return FALSE;
}

static gboolean
let_go_on (VmaJob *job, GError **error)
{
  g_autoptr (GError) why = NULL;

  gboolean done = vma_qmp_run (job->graph.qmp, "cont", NULL, &why);
  if (!done && vma_qmp_is_closed (job->graph.qmp) && reconnect (job)) {
    g_clear_error (&why);
    done = vma_qmp_run (job->graph.qmp, "cont", NULL, &why);
  }
  if (done) {
    vma_guard_set_paused (job->guard, FALSE);
    return TRUE;
  }
  note (job, "the guest is paused, and could not be told to go on: %s (cont)", why->message);
  return vma_fail (error, VMA_ERROR_IO, "%s", why->message);
}

static gboolean
freeze (VmaJob *job, GCancellable *cancellable, GError **error)
{
  gboolean running;

  if (!is_running (job, &running, error))
    return FALSE;
  gint64 stopped = g_get_monotonic_time ();
  if (running) {
    vma_guard_set_paused (job->guard, TRUE);
    if (!vma_qmp_run (job->graph.qmp, "stop", NULL, error)) {
      let_go_on (job, NULL); /* who knows whether it was stopped */
      return FALSE;
    }
  }
  gboolean done = insert_all (job, cancellable, error);
  gint64 now = g_get_real_time () * 1000;
  if (running && !let_go_on (job, done ? error : NULL))
    done = FALSE;
  VMA_LOCK (&job->lock);
  job->pause_ns = running ? (g_get_monotonic_time () - stopped) * 1000 : 0;
  job->start_ns = now;
  return done;
}

/* Where the view reads what has not come yet. */
static void
begin (VmaJob *job)
{
  g_autofree char *why = NULL;
  g_auto (GStrv) uris = NULL;

  if (job->options.mount != NULL)
    uris = vma_graph_export (&job->graph, &why);
  else
    uris = g_new0 (char *, n_disks (job) + 1);
  if (job->graph.nbd_socket != NULL)
    vma_guard_add_socket (job->guard, job->graph.nbd_socket);
  if (why != NULL)
    note (job, "the view waits for the background copy, it cannot read from QEMU: %s", why);
  vma_target_begin (job->target, (const char *const *) uris);
}

/* --- while it runs ----------------------------------------------------------------------------- */

static DiskState *
state_of_job (VmaJob *job, const char *id, const VmaDisk **disk)
{
  for (guint i = 0; id != NULL && i < n_disks (job); i++) {
    g_autofree char *name = vma_graph_name (&job->graph, "job", i);
    if (strcmp (name, id) == 0) {
      *disk = disk_at (job, i);
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
    return vma_fail (error, VMA_ERROR_IO,
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
  DiskState *state = state_of_job (job, id, &disk);
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
  for (guint i = 0; i < n_disks (job); i++)
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
  for (guint i = 0; i < n_disks (job); i++)
    wanted += !job->states[i].done;
  JsonArray *array = vma_json_node_array (list);
  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonObject *one = vma_json_element (array, i);
    const VmaDisk *disk;
    DiskState *state = state_of_job (job, vma_json_string (one, "id"), &disk);
    seen += state != NULL && !state->done;
    if (!look_at_copy (job, one, error))
      return FALSE;
  }
  if (seen < wanted)
    return vma_fail (error, VMA_ERROR_IO, "a background copy has gone from QEMU (vmabackup clean?)");
  return TRUE;
}

static gboolean
apply_speed (VmaJob *job, GError **error)
{
  guint64 speed = atomic_exchange (&job->new_speed, NO_SPEED);

  if (speed == NO_SPEED)
    return TRUE;
  for (guint i = 0; i < n_disks (job); i++) {
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
  const char *state;

  if (!job->graph.features.has_devices)
    return TRUE;
  do {
    g_autoptr (JsonNode) status
        = vma_qmp_execute (job->graph.qmp, "query-status", NULL, VMA_QMP_SECONDS, NULL);
    state = g_intern_string (vma_json_string (vma_json_node_object (status), "status"));
    if (g_strcmp0 (state, "finish-migrate") == 0)
      g_usleep (TICK_MS * 1000); /* it may still come to nothing */
  } while (g_strcmp0 (state, "finish-migrate") == 0);
  if (g_strcmp0 (state, "postmigrate") == 0)
    return vma_fail (error, VMA_ERROR_IO, "the guest was migrated away");
  return TRUE;
}

/* An event of QEMU: whether the copies are to be looked at now. */
static gboolean
take_event (VmaJob *job, JsonObject *event, gboolean *look, GError **error)
{
  const char *name = vma_json_string (event, "event");
  JsonObject *data = vma_json_object (event, "data");

  if (strcmp (name, "JOB_STATUS_CHANGE") == 0
      && g_strcmp0 (vma_json_string (data, "status"), "concluded") == 0)
    *look = TRUE;
  else if (strcmp (name, "SHUTDOWN") == 0 && job->options.sync != VMA_SYNC_NONE)
    note (job, "the guest shuts down; the backup goes on as long as QEMU runs");
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
  g_autoptr (JsonObject) event = vma_qmp_next_event (job->graph.qmp, TICK_MS);

  if (g_cancellable_is_cancelled (cancellable))
    return fail_cancelled (error);
  if (vma_target_has_failed (job->target, error))
    return FALSE;
  if (event != NULL)
    return take_event (job, event, look, error);
  if (vma_qmp_is_closed (job->graph.qmp)) {
    if (!reconnect (job))
      return vma_fail (error, VMA_ERROR_IO,
                       qemu_has_ended (job, ENDING_MS) ? "QEMU has ended" : "QEMU's monitor is gone");
    note (job, "connected to QEMU again");
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

static gboolean
watch (VmaJob *job, GCancellable *cancellable, GError **error)
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
         && (job->memory == NULL
             || vma_memory_wait (job->memory, cancellable, job->target, error));
}

/* --- the end ----------------------------------------------------------------------------------- */

static void
take_out_of_qemu (VmaJob *job)
{
  g_autoptr (GError) error = NULL;

  if (!job->nodes_there)
    return;
  for (guint i = 0; job->frozen && i < n_disks (job); i++)
    vma_target_end_read_through (job->target, i);
  gboolean clean = vma_clean (job->graph.qmp, job->graph.prefix, FALSE, NULL, &error);
  if (!clean && vma_qmp_is_closed (job->graph.qmp)) {
    if (!reconnect (job)) {
      if (job->graph.nbd_socket != NULL)
        vma_socket_remove_stale (job->graph.nbd_socket);
      if (!qemu_has_ended (job, ENDING_MS)) /* else it took all of it along */
        note (job, "QEMU cannot be reached; if it runs, it has nodes of this backup (remove them: "
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
    note (job, "nodes of this backup are left in QEMU: %s (remove them: vmabackup clean --qmp %s)",
          error->message, job->options.qmp);
}

static void
settle_bitmaps (VmaJob *job, gboolean success)
{
  for (guint i = 0; i < n_disks (job); i++) {
    DiskState *state = &job->states[i];
    const char *node = disk_at (job, i)->node;
    g_autoptr (GError) error = NULL;
    if (!state->bitmap_runs)
      continue;
    if (success)
      vma_bitmap_keep (job->graph.qmp, node, job->options.bitmap, state->next);
    else if (!vma_bitmap_back (job->graph.qmp, node, state->old, state->next, &error)
             && !vma_qmp_is_closed (job->graph.qmp))
      note (job, "%s: the next backup will be a full one: %s", disk_at (job, i)->name,
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
  if (!add_files (job, error) || !freeze (job, cancellable, error))
    return FALSE;
  job->frozen = TRUE;
  begin (job);
  if (!start_copies (job, error))
    return FALSE;
  pthread_mutex_lock (&job->lock);
  job->status = "running";
  pthread_mutex_unlock (&job->lock);
  job->tell (job->tell_data, "BACKUP_STARTED", NULL);
  return watch (job, cancellable, error);
}

static gboolean
run_with_target (VmaJob *job, GCancellable *cancellable, GError **error)
{
  const char *dir = job->options.scratch != NULL ? job->options.scratch : job->options.output;

  if (job->options.vmstate) {
    gboolean running;
    if (!is_running (job, &running, error))
      return FALSE;
    if (!running) /* QEMU would leave it running, or as if migrated away */
      return vma_fail (error, VMA_ERROR_INVALID,
                       "--vmstate: the guest is paused (let it go on first)");
    job->memory = vma_memory_new (&job->graph, dir, error);
    if (job->memory == NULL)
      return FALSE;
    vma_guard_set_memory (job->guard, TRUE, vma_memory_old_bandwidth (job->memory));
    if (!vma_memory_is_live (job->memory))
      note (job, "the guest will pause while its memory is saved: %s",
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
  job->status = done ? "concluded"
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
    fail_cancelled (&why);
  }
  set_end (job, done, why);
  if (!done)
    g_propagate_error (error, why);
  return done;
}

/* --- what others ask --------------------------------------------------------------------------- */

void
vma_job_set_speed (VmaJob *job, guint64 speed)
{
  atomic_store (&job->new_speed, speed);
}

static void
add_progress (VmaTargetProgress *sum, const VmaTargetProgress *one)
{
  sum->total += one->total;
  sum->transferred += one->transferred;
  sum->zero += one->zero;
  sum->cow_bytes += one->cow_bytes;
  sum->cow_requests += one->cow_requests;
  sum->cow_ns += one->cow_ns;
  sum->cow_max_ns = MAX (sum->cow_max_ns, one->cow_max_ns);
  sum->read_through_bytes += one->read_through_bytes;
}

void
vma_job_get_progress (VmaJob *job, VmaTargetProgress *sum)
{
  *sum = (VmaTargetProgress) { 0 };
  VMA_LOCK (&job->lock);
  for (guint i = 0; job->described && i < n_disks (job); i++) {
    VmaTargetProgress one;
    vma_target_get_progress (job->target, i, &one);
    add_progress (sum, &one);
  }
}

static JsonNode *
describe_progress (const char *device, const VmaTargetProgress *p)
{
  guint64 mean = p->cow_requests > 0 ? p->cow_ns / p->cow_requests : 0;

  return vma_json_make ("device:s", device, "total:i", (gint64) p->total, "transferred:i",
                        (gint64) p->transferred, "zero:i", (gint64) p->zero, "cow-bytes:i",
                        (gint64) p->cow_bytes, "cow-requests:i", (gint64) p->cow_requests,
                        "cow-mean-ns:i", (gint64) mean, "cow-max-ns:i", (gint64) p->cow_max_ns,
                        "read-through:i", (gint64) p->read_through_bytes, NULL);
}

JsonNode *
vma_job_describe (VmaJob *job)
{
  char uuid[UUID_STR_LEN];
  VmaTargetProgress sum = { 0 };
  JsonNode *devices = vma_json_list (NULL, NULL);

  VMA_LOCK (&job->lock);
  uuid_unparse_lower (job->uuid, uuid);
  for (guint i = 0; job->described && i < n_disks (job); i++) {
    VmaTargetProgress one;
    vma_target_get_progress (job->target, i, &one);
    add_progress (&sum, &one);
    json_array_add_element (json_node_get_array (devices),
                            describe_progress (disk_at (job, i)->name, &one));
  }
  JsonNode *node = vma_json_make (
      "id:s", job->options.id, "uuid:s", uuid, "status:s", job->status, "error:s", job->error,
      "target:s", job->options.shown_output, "total:i", (gint64) sum.total, "transferred:i",
      (gint64) sum.transferred, "zero:i", (gint64) sum.zero, "speed:i", (gint64) job->speed,
      "start-time:i", job->start_ns, "end-time:i", job->end_ns, "pause-ns:i", job->pause_ns,
      "devices:o", devices, NULL);
  if (job->described)
    json_object_set_int_member (json_node_get_object (node), "scratch",
                                (gint64) vma_target_scratch_bytes (job->target));
  if (job->options.mount != NULL)
    json_object_set_string_member (json_node_get_object (node), "mount", job->options.shown_mount);
  return node;
}

/* --- life -------------------------------------------------------------------------------------- */

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
  job->new_speed = NO_SPEED;
  job->graph.prefix = vma_node_prefix (options->id);
  job->graph.cbw_timeout = options->cbw_timeout;
  uuid_generate (job->uuid);
  pthread_mutex_init (&job->lock, NULL);
  return job;
}

void
vma_job_free (VmaJob *job)
{
  guint n = n_disks (job);

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
