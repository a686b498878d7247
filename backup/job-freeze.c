/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/job-impl.h"

#include "backup/ahead.h"
#include "backup/bitmap.h"
#include "index/lock.h"
#include "vma/error.h"

gboolean
vma_job_add_files (VmaJob *job, GError **error)
{
  vma_guard_set_nodes (job->guard, TRUE);
  job->nodes_there = TRUE;
  for (guint i = 0; i < vma_job_n_disks (job); i++)
    if (!vma_graph_add_file (&job->graph, "cow", i, vma_target_cow_path (job->target, i), error)) {
      g_prefix_error (error, "%s: ", vma_job_disk (job, i)->name);
      return FALSE;
    }
  return TRUE;
}

static gboolean
insert_disk (VmaJob *job, guint i, GError **error)
{
  VmaJobDisk *state = &job->states[i];
  const char *node = vma_job_disk (job, i)->node;
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

gboolean
vma_job_start_copies (VmaJob *job, GError **error)
{
  const char *sync = job->options.sync == VMA_SYNC_TOP ? "top" : "full";

  if (job->options.sync == VMA_SYNC_NONE || (vma_job_n_disks (job) > 0 && job->states[0].copying))
    return TRUE;
  g_autoptr (JsonNode) copies = vma_json_list (NULL, NULL);
  for (guint i = 0; i < vma_job_n_disks (job); i++) {
    const char *bitmap = job->states[i].old != NULL ? VMA_BITMAP_OF_SNAPSHOT : NULL;
    if (!vma_graph_add_file (&job->graph, "raw", i, vma_target_raw_path (job->target, i), error)) {
      g_prefix_error (error, "%s: ", vma_job_disk (job, i)->name);
      return FALSE;
    }
    json_array_add_element (
        json_node_get_array (copies),
        vma_graph_copy (&job->graph, i, sync, bitmap, job->speed, has_long_pause (job)));
  }
  if (!vma_graph_start_copies (&job->graph, g_steal_pointer (&copies), error))
    return FALSE;
  for (guint i = 0; i < vma_job_n_disks (job); i++)
    job->states[i].copying = TRUE;
  return TRUE;
}

static gboolean
insert_all (VmaJob *job, GCancellable *cancellable, GError **error)
{
  for (guint i = 0; i < vma_job_n_disks (job); i++)
    if (!insert_disk (job, i, error)) {
      g_prefix_error (error, "%s: ", vma_job_disk (job, i)->name);
      return FALSE;
    }
  if (job->memory == NULL)
    return TRUE;
  /*
   * A migration that is no background snapshot ends with the images given away, which our nodes do
   * not allow; but below the filter of a running block job QEMU leaves them alone.
   */
  return (!has_long_pause (job) || vma_job_start_copies (job, error))
         && vma_memory_save (job->memory, cancellable, job->target, error);
}

static gboolean
let_go_on (VmaJob *job, GError **error)
{
  g_autoptr (GError) why = NULL;

  gboolean done = vma_qmp_run (job->graph.qmp, "cont", NULL, &why);
  if (!done && vma_qmp_is_closed (job->graph.qmp) && vma_job_reconnect (job)) {
    g_clear_error (&why);
    done = vma_qmp_run (job->graph.qmp, "cont", NULL, &why);
  }
  if (done) {
    vma_guard_set_paused (job->guard, FALSE);
    return TRUE;
  }
  vma_job_note (job, "the guest is paused, and could not be told to go on: %s (cont)",
                why->message);
  return vma_fail (error, VMA_ERROR_IO, "%s", why->message);
}

gboolean
vma_job_freeze (VmaJob *job, GCancellable *cancellable, GError **error)
{
  gboolean running;

  if (!vma_job_guest_is_running (job, &running, error))
    return FALSE;
  for (guint i = 0; running && i < vma_job_n_disks (job); i++)
    if (vma_job_disk (job, i)->file != NULL)
      vma_flush_ahead (vma_job_disk (job, i)->file);
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

/* With what is exported with a disk of which only the changes are read: NULL where that cannot be had. */
static const char *
show_bitmap (VmaJob *job, guint i)
{
  g_autofree char *snapshot = vma_graph_name (&job->graph, "snap", i);
  g_autoptr (GError) error = NULL;

  if (job->states[i].old == NULL)
    return NULL;
  if (!vma_bitmap_show (job->graph.qmp, snapshot, &error)) {
    vma_job_note (job, "%s: the view waits for the background copy: %s", vma_job_disk (job, i)->name,
                  error->message);
    return NULL;
  }
  vma_target_set_bitmap (job->target, i, VMA_BITMAP_SHOWN);
  return VMA_BITMAP_SHOWN;
}

/* Where the view reads what has not come yet. */
void
vma_job_begin (VmaJob *job)
{
  g_autofree char *why = NULL;
  g_auto (GStrv) uris = NULL;

  if (job->options.mount != NULL) {
    g_autofree const char **bitmaps = g_new0 (const char *, vma_job_n_disks (job) + 1);
    for (guint i = 0; i < vma_job_n_disks (job); i++)
      bitmaps[i] = show_bitmap (job, i);
    uris = vma_graph_export (&job->graph, bitmaps, &why);
  } else
    uris = g_new0 (char *, vma_job_n_disks (job) + 1);
  if (job->graph.nbd_socket != NULL)
    vma_guard_add_socket (job->guard, job->graph.nbd_socket);
  if (why != NULL)
    vma_job_note (job, "the view waits for the background copy, it cannot read from QEMU: %s", why);
  vma_target_begin (job->target, (const char *const *) uris);
}
