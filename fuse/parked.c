/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/parked.h"

#include "base/thread.h"
#include "index/lock.h"

#include <errno.h>
#include <signal.h>

/* Threads that answer: several, because answering may read from a slow disk. */
#define THREADS 4
/* Reads from a server that are under way together. */
#define THREADS_REMOTE 48
/* How often a waiting thread looks around without being told to. */
#define POLL_MS 100

typedef struct {
  VmaRequest request;
  VmaParked *parked;
  atomic_bool interrupted;
} Waiting;

struct VmaParked {
  VmaArchive *archive;
  gboolean remote;
  pthread_mutex_t lock; /* of all below */
  pthread_cond_t arrived;
  GQueue waiting; /* Waiting *, in order of arrival */
  gboolean stopped;
  guint n_threads, n_idle;
  pthread_t threads[THREADS_REMOTE];
};

VmaParked *
vma_parked_new (VmaArchive *archive)
{
  VmaParked *parked = g_new0 (VmaParked, 1);

  parked->archive = archive;
  parked->remote = archive != NULL && vma_source_is_remote (vma_archive_source (archive));
  pthread_mutex_init (&parked->lock, NULL);
  pthread_cond_init (&parked->arrived, NULL);
  g_queue_init (&parked->waiting);
  return parked;
}

/* Takes the first request off the list that can be answered.  The caller holds the lock. */
static Waiting *
take_ready (VmaParked *parked)
{
  for (GList *at = parked->waiting.head; at != NULL; at = at->next) {
    Waiting *waiting = at->data;
    if (parked->stopped || atomic_load (&waiting->interrupted)
        || waiting->request.is_ready (&waiting->request)) {
      g_queue_delete_link (&parked->waiting, at);
      return waiting;
    }
  }
  return NULL;
}

static void
finish (Waiting *waiting, gboolean stopped)
{
  gboolean over = stopped || atomic_load (&waiting->interrupted);

  /* Returns only when no interrupt is being delivered to it. */
  if (over || waiting->request.cancellable == NULL)
    fuse_req_interrupt_func (waiting->request.req, NULL, NULL);
  if (over)
    fuse_reply_err (waiting->request.req, EINTR);
  else
    waiting->request.answer (&waiting->request);
  g_clear_object (&waiting->request.cancellable);
  vma_mounted_release (waiting->request.mounted);
  g_free ((char *) waiting->request.name);
  g_free ((char *) waiting->request.data);
  g_free (waiting);
}

static void *
parked_thread (void *data)
{
  VmaParked *parked = data;
  guint64 seen = 0;

  pthread_mutex_lock (&parked->lock);
  while (!parked->stopped || parked->waiting.length > 0) {
    Waiting *waiting = take_ready (parked);
    if (waiting != NULL) {
      gboolean stopped = parked->stopped;
      pthread_mutex_unlock (&parked->lock);
      finish (waiting, stopped);
      pthread_mutex_lock (&parked->lock);
    } else if (parked->waiting.length == 0) {
      parked->n_idle++;
      pthread_cond_wait (&parked->arrived, &parked->lock);
      parked->n_idle--;
    } else {
      pthread_mutex_unlock (&parked->lock);
      if (vma_index_wait (vma_archive_index (parked->archive), &seen, POLL_MS))
        g_usleep (1000); /* finished a moment ago: what waits is ready at the next look */
      pthread_mutex_lock (&parked->lock);
    }
  }
  pthread_mutex_unlock (&parked->lock);
  return NULL;
}

/* All that will be needed; for a server, one more if nobody is free.  The caller holds the lock. */
static void
start_threads (VmaParked *parked)
{
  guint wanted = THREADS;

  if (parked->remote)
    wanted = MIN (parked->n_threads + (parked->n_idle <= parked->waiting.length), THREADS_REMOTE);

  while (parked->n_threads < wanted
         && vma_thread_start (&parked->threads[parked->n_threads], parked_thread, parked) == 0)
    parked->n_threads++;
}

/* Called by libfuse when the reader was interrupted. */
static void
on_interrupt (fuse_req_t req G_GNUC_UNUSED, void *data)
{
  Waiting *waiting = data;

  atomic_store (&waiting->interrupted, TRUE);
  if (waiting->request.cancellable != NULL)
    g_cancellable_cancel (waiting->request.cancellable);
  vma_index_wake (vma_archive_index (waiting->parked->archive));
}

void
vma_parked_submit (VmaParked *parked, const VmaRequest *request)
{
  gboolean remote = parked->remote && request->reads_archive;

  if (!remote && !request->may_wait && request->is_ready (request)) {
    request->answer (request);
    return;
  }

  Waiting *waiting = g_new0 (Waiting, 1);
  waiting->request = *request;
  waiting->request.name = g_strdup (request->name);
  if (request->data != NULL) /* the kernel's buffer is used again when we return */
    waiting->request.data = g_memdup2 (request->data, request->size);
  waiting->request.cancellable = remote ? g_cancellable_new () : NULL;
  waiting->parked = parked;
  vma_mounted_hold (request->mounted);
  vma_archive_start_index (parked->archive); /* in a directory nobody has done so yet */
  /* Before it is on the list: from there another thread may answer and free it. */
  fuse_req_interrupt_func (request->req, on_interrupt, waiting);

  pthread_mutex_lock (&parked->lock);
  if (!parked->stopped && (parked->n_threads == 0 || parked->remote))
    start_threads (parked);
  gboolean refused = parked->stopped || parked->n_threads == 0;
  if (!refused) {
    g_queue_push_tail (&parked->waiting, waiting);
    pthread_cond_signal (&parked->arrived);
  }
  pthread_mutex_unlock (&parked->lock);
  if (remote) /* others may be waiting for the scan, and not for us */
    vma_index_wake (vma_archive_index (parked->archive));
  if (refused)
    finish (waiting, TRUE);
}

guint
vma_parked_count (VmaParked *parked)
{
  VMA_LOCK (&parked->lock);
  return parked->waiting.length;
}

void
vma_parked_stop (VmaParked *parked)
{
  guint n;

  {
    VMA_LOCK (&parked->lock);
    parked->stopped = TRUE;
    n = parked->n_threads;
    parked->n_threads = 0;
    pthread_cond_broadcast (&parked->arrived);
  }
  if (parked->remote)
    vma_source_interrupt (vma_archive_source (parked->archive));
  if (n > 0)
    vma_index_wake (vma_archive_index (parked->archive));
  for (guint i = 0; i < n; i++)
    pthread_join (parked->threads[i], NULL);
}

void
vma_parked_free (VmaParked *parked)
{
  vma_parked_stop (parked);
  pthread_cond_destroy (&parked->arrived);
  pthread_mutex_destroy (&parked->lock);
  g_free (parked);
}
