/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/worker.h"

#include "base/thread.h"

#include <pthread.h>

struct VmaZstdWorker {
  VmaZstdAnalysis *analysis;
  gboolean threaded;
  pthread_t thread;

  pthread_mutex_t lock;
  pthread_cond_t work; /* something was queued, or `stop` */
  pthread_cond_t room; /* something was taken out */

  /* Guarded by `lock`; records between `done` and `submitted` belong to the thread. */
  guint64 submitted;
  guint64 done;
  gboolean wanted; /* the thread should not wait for more than there is */
  gboolean stop;
  GQueue ready; /* of VmaCheckpoint */
  GError *error;

  VmaZstdRecord records[VMA_ZSTD_QUEUE];
};

static void
checkpoint_free (gpointer data)
{
  VmaCheckpoint *checkpoint = data;

  g_clear_pointer (&checkpoint->state, g_bytes_unref);
  g_free (checkpoint);
}

static void
emit (gpointer data, VmaCheckpoint *checkpoint)
{
  VmaZstdWorker *worker = data;

  pthread_mutex_lock (&worker->lock);
  g_queue_push_tail (&worker->ready, g_memdup2 (checkpoint, sizeof *checkpoint));
  pthread_mutex_unlock (&worker->lock);
}

/* Looks at one record, without the lock. */
static void
look (VmaZstdWorker *worker, VmaZstdRecord *record)
{
  g_autoptr (GError) error = NULL;

  if (record->begins)
    vma_zstd_analysis_frame (worker->analysis, record->frame_in, record->out, &record->frame);
  if (vma_zstd_analysis_block (worker->analysis, record, &error))
    return;
  pthread_mutex_lock (&worker->lock);
  if (worker->error == NULL)
    worker->error = g_steal_pointer (&error);
  pthread_mutex_unlock (&worker->lock);
}

static void *
run (void *data)
{
  VmaZstdWorker *worker = data;

  pthread_mutex_lock (&worker->lock);
  while (!worker->stop) {
    if (worker->done == worker->submitted) {
      worker->wanted = FALSE;
      pthread_cond_wait (&worker->work, &worker->lock);
      continue;
    }
    VmaZstdRecord *record = &worker->records[worker->done % VMA_ZSTD_QUEUE];
    gboolean failed = worker->error != NULL;
    pthread_mutex_unlock (&worker->lock);
    if (!failed)
      look (worker, record);
    pthread_mutex_lock (&worker->lock);
    worker->done++;
    /* Whoever waits for room waits for a good piece of it. */
    if (worker->submitted - worker->done <= VMA_ZSTD_QUEUE / 2)
      pthread_cond_signal (&worker->room);
  }
  pthread_mutex_unlock (&worker->lock);
  return NULL;
}

VmaZstdWorker *
vma_zstd_worker_new (const VmaCodecLimits *limits, const VmaZstdRing *ring, gboolean threaded,
                     gboolean thorough)
{
  VmaZstdWorker *worker = g_new0 (VmaZstdWorker, 1);

  g_queue_init (&worker->ready);
  worker->analysis = vma_zstd_analysis_new (limits, ring, thorough, emit, worker);
  pthread_mutex_init (&worker->lock, NULL);
  pthread_cond_init (&worker->work, NULL);
  pthread_cond_init (&worker->room, NULL);
  worker->threaded = threaded && vma_thread_start (&worker->thread, run, worker) == 0;
  return worker;
}

void
vma_zstd_worker_free (VmaZstdWorker *worker)
{
  if (worker == NULL)
    return;
  if (worker->threaded) {
    pthread_mutex_lock (&worker->lock);
    worker->stop = TRUE;
    pthread_cond_signal (&worker->work);
    pthread_mutex_unlock (&worker->lock);
    pthread_join (worker->thread, NULL);
  }
  vma_zstd_analysis_free (worker->analysis);
  g_queue_clear_full (&worker->ready, checkpoint_free);
  g_clear_error (&worker->error);
  for (guint i = 0; i < VMA_ZSTD_QUEUE; i++)
    vma_zstd_record_clear (&worker->records[i]);
  pthread_cond_destroy (&worker->room);
  pthread_cond_destroy (&worker->work);
  pthread_mutex_destroy (&worker->lock);
  g_free (worker);
}

void
vma_zstd_worker_flush (VmaZstdWorker *worker)
{
  if (!worker->threaded)
    return;
  pthread_mutex_lock (&worker->lock);
  while (worker->done != worker->submitted) {
    pthread_cond_signal (&worker->work);
    pthread_cond_wait (&worker->room, &worker->lock);
  }
  pthread_mutex_unlock (&worker->lock);
}

void
vma_zstd_worker_resume (VmaZstdWorker *worker, guint64 out, const VmaZstdCheckpoint *state)
{
  vma_zstd_worker_flush (worker);
  vma_zstd_analysis_resume (worker->analysis, out, state);
}

VmaZstdRecord *
vma_zstd_worker_record (VmaZstdWorker *worker)
{
  guint64 next = worker->submitted;

  if (worker->threaded) {
    pthread_mutex_lock (&worker->lock);
    while (next - worker->done == VMA_ZSTD_QUEUE) {
      pthread_cond_signal (&worker->work);
      pthread_cond_wait (&worker->room, &worker->lock);
    }
    pthread_mutex_unlock (&worker->lock);
  }
  return &worker->records[next % VMA_ZSTD_QUEUE];
}

void
vma_zstd_worker_submit (VmaZstdWorker *worker)
{
  if (!worker->threaded) {
    VmaZstdRecord *record = &worker->records[worker->submitted % VMA_ZSTD_QUEUE];
    if (worker->error == NULL)
      look (worker, record);
    worker->submitted++;
    worker->done++;
    return;
  }
  pthread_mutex_lock (&worker->lock);
  worker->submitted++;
  /* Waking a thread costs more than most blocks do: not for each. */
  if (worker->submitted - worker->done >= VMA_ZSTD_QUEUE / 2 && !worker->wanted) {
    worker->wanted = TRUE;
    pthread_cond_signal (&worker->work);
  }
  pthread_mutex_unlock (&worker->lock);
}

void
vma_zstd_worker_cut (VmaZstdWorker *worker)
{
  vma_zstd_worker_flush (worker);
  vma_zstd_analysis_cut (worker->analysis);
}

gboolean
vma_zstd_worker_drain (VmaZstdWorker *worker, const VmaPassSink *sink, GError **error)
{
  GQueue ready = G_QUEUE_INIT;
  GError *failure = NULL;
  gboolean ok = TRUE;

  pthread_mutex_lock (&worker->lock);
  for (gpointer item; (item = g_queue_pop_head (&worker->ready)) != NULL;)
    g_queue_push_tail (&ready, item);
  if (worker->error != NULL)
    failure = g_error_copy (worker->error);
  pthread_mutex_unlock (&worker->lock);

  for (VmaCheckpoint *checkpoint; ok && (checkpoint = g_queue_pop_head (&ready)) != NULL;) {
    ok = sink->checkpoint (sink->data, checkpoint, error);
    checkpoint_free (checkpoint);
  }
  g_queue_clear_full (&ready, checkpoint_free);
  if (ok && failure != NULL) {
    g_propagate_error (error, g_steal_pointer (&failure));
    ok = FALSE;
  }
  g_clear_error (&failure);
  return ok;
}

guint
vma_zstd_worker_given_up (VmaZstdWorker *worker)
{
  vma_zstd_worker_flush (worker);
  return vma_zstd_analysis_given_up (worker->analysis);
}
