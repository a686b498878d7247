/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread that syncs now and then, for those who never do: what is old is on the medium. */
#include "index/lock.h"
#include "base/thread.h"
#include "overlay/overlay-impl.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

struct VmaFlusher {
  VmaOverlay *overlay;
  guint seconds;
  pthread_t thread;
  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t stop;
  gboolean stopped;
};

/* FALSE when it is time to end. */
static gboolean
sleep_for (VmaFlusher *flusher)
{
  struct timespec until;
  int result = 0;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += flusher->seconds;
  VMA_LOCK (&flusher->lock);
  while (!flusher->stopped && result != ETIMEDOUT)
    result = pthread_cond_timedwait (&flusher->stop, &flusher->lock, &until);
  return !flusher->stopped;
}

static void *
flusher_thread (void *data)
{
  VmaFlusher *flusher = data;
  guint64 seen = 0;

  while (sleep_for (flusher)) {
    guint64 now = atomic_load (&flusher->overlay->changes);
    if (now == seen)
      continue;
    seen = now;
    /* A failure is kept, and told to the next who syncs. */
    vma_overlay_sync (flusher->overlay, NULL);
  }
  return NULL;
}

void
vma_overlay_start_flusher (VmaOverlay *overlay, guint seconds)
{
  pthread_condattr_t attributes;

  if (overlay->file == NULL || overlay->flusher != NULL)
    return;
  VmaFlusher *flusher = g_new0 (VmaFlusher, 1);
  flusher->overlay = overlay;
  flusher->seconds = seconds;
  pthread_mutex_init (&flusher->lock, NULL);
  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (&flusher->stop, &attributes);
  pthread_condattr_destroy (&attributes);

  int failed = vma_thread_start (&flusher->thread, flusher_thread, flusher);
  if (failed == 0)
    overlay->flusher = flusher;
  else
    vma_flusher_free (flusher, FALSE); /* then only who asks for it is synced */
}

void
vma_flusher_free (VmaFlusher *flusher, gboolean running)
{
  {
    VMA_LOCK (&flusher->lock);
    flusher->stopped = TRUE;
    pthread_cond_signal (&flusher->stop);
  }
  if (running)
    pthread_join (flusher->thread, NULL);
  pthread_cond_destroy (&flusher->stop);
  pthread_mutex_destroy (&flusher->lock);
  g_free (flusher);
}
