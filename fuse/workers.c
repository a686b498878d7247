/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/workers.h"

#include "base/thread.h"
#include "index/lock.h"

#include <signal.h>

typedef struct {
  void (*run) (gpointer data);
  gpointer data;
} Job;

struct VmaWorkers {
  pthread_mutex_t lock; /* of all below */
  pthread_cond_t pushed;
  GQueue jobs; /* Job *, owned */
  guint idle;  /* threads that wait for a job */
  gboolean stopped;
  guint max_threads, n_threads;
  pthread_t threads[];
};

VmaWorkers *
vma_workers_new (guint max_threads)
{
  VmaWorkers *workers = g_malloc0 (sizeof *workers + max_threads * sizeof workers->threads[0]);

  workers->max_threads = max_threads;
  pthread_mutex_init (&workers->lock, NULL);
  pthread_cond_init (&workers->pushed, NULL);
  g_queue_init (&workers->jobs);
  return workers;
}

static void *
worker_thread (void *data)
{
  VmaWorkers *workers = data;

  pthread_mutex_lock (&workers->lock);
  while (!workers->stopped) {
    Job *job = g_queue_pop_head (&workers->jobs);
    if (job != NULL) {
      pthread_mutex_unlock (&workers->lock);
      job->run (job->data);
      g_free (job);
      pthread_mutex_lock (&workers->lock);
    } else {
      workers->idle++;
      pthread_cond_wait (&workers->pushed, &workers->lock);
      workers->idle--;
    }
  }
  pthread_mutex_unlock (&workers->lock);
  return NULL;
}

/* The caller holds the lock. */
static int
add_thread (VmaWorkers *workers)
{
  int failed = vma_thread_start (&workers->threads[workers->n_threads], worker_thread, workers);

  if (failed == 0)
    workers->n_threads++;
  return failed;
}

int
vma_workers_start (VmaWorkers *workers)
{
  VMA_LOCK (&workers->lock);
  return add_thread (workers);
}

void
vma_workers_push (VmaWorkers *workers, void (*run) (gpointer data), gpointer data)
{
  Job *job = g_new (Job, 1);

  *job = (Job){ run, data };
  VMA_LOCK (&workers->lock);
  g_queue_push_tail (&workers->jobs, job);
  pthread_cond_signal (&workers->pushed);
  if (workers->jobs.length > workers->idle && workers->n_threads < workers->max_threads
      && !workers->stopped)
    add_thread (workers); /* else one of those that are there does it, later */
}

void
vma_workers_stop (VmaWorkers *workers)
{
  guint n;

  {
    VMA_LOCK (&workers->lock);
    workers->stopped = TRUE;
    n = workers->n_threads;
    workers->n_threads = 0;
    pthread_cond_broadcast (&workers->pushed);
  }
  for (guint i = 0; i < n; i++)
    pthread_join (workers->threads[i], NULL);
}

void
vma_workers_free (VmaWorkers *workers)
{
  vma_workers_stop (workers);
  g_queue_clear_full (&workers->jobs, g_free);
  pthread_cond_destroy (&workers->pushed);
  pthread_mutex_destroy (&workers->lock);
  g_free (workers);
}
