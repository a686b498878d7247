/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/precheck.h"

#include "base/thread.h"
#include "vma/extent.h"

#include <pthread.h>

typedef struct {
  const guint8 *data;
  gsize first, end; /* headers */
  gboolean *good;
} Share;

struct VmaPrecheck {
  pthread_t thread;
  gboolean running;

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  Share share; /* the helper's work; none where first == end */
  gboolean stop;
};

static void
check_share (const Share *share)
{
  for (gsize i = share->first; i < share->end; i++)
    share->good[i] = vma_extent_checksum_is_right (share->data + i * VMA_EXTENT_HEADER_SIZE);
}

static void *
helper_thread (void *data)
{
  VmaPrecheck *precheck = data;

  pthread_mutex_lock (&precheck->lock);
  while (!precheck->stop) {
    Share share = precheck->share;
    if (share.first == share.end) {
      pthread_cond_wait (&precheck->changed, &precheck->lock);
      continue;
    }
    pthread_mutex_unlock (&precheck->lock);
    check_share (&share);
    pthread_mutex_lock (&precheck->lock);
    precheck->share.first = precheck->share.end;
    pthread_cond_broadcast (&precheck->changed);
  }
  pthread_mutex_unlock (&precheck->lock);
  return NULL;
}

VmaPrecheck *
vma_precheck_new (void)
{
  VmaPrecheck *precheck = g_new0 (VmaPrecheck, 1);

  pthread_mutex_init (&precheck->lock, NULL);
  pthread_cond_init (&precheck->changed, NULL);
  return precheck;
}

void
vma_precheck_free (VmaPrecheck *precheck)
{
  if (precheck->running) {
    pthread_mutex_lock (&precheck->lock);
    precheck->stop = TRUE;
    pthread_cond_broadcast (&precheck->changed);
    pthread_mutex_unlock (&precheck->lock);
    pthread_join (precheck->thread, NULL);
  }
  pthread_cond_destroy (&precheck->changed);
  pthread_mutex_destroy (&precheck->lock);
  g_free (precheck);
}

static void
start_helper (VmaPrecheck *precheck)
{
  precheck->running = vma_thread_start (&precheck->thread, helper_thread, precheck) == 0;
}

void
vma_precheck_run (VmaPrecheck *precheck, const guint8 *data, gsize size, gboolean *good)
{
  gsize headers = size / VMA_EXTENT_HEADER_SIZE;
  Share mine = { .data = data, .end = headers, .good = good };

  if (!precheck->running)
    start_helper (precheck);
  if (precheck->running) {
    mine.end = headers / 2;
    pthread_mutex_lock (&precheck->lock);
    precheck->share = (Share){ .data = data, .first = mine.end, .end = headers, .good = good };
    pthread_cond_broadcast (&precheck->changed);
    pthread_mutex_unlock (&precheck->lock);
  }
  check_share (&mine);
  if (precheck->running) {
    pthread_mutex_lock (&precheck->lock);
    while (precheck->share.first != precheck->share.end)
      pthread_cond_wait (&precheck->changed, &precheck->lock);
    pthread_mutex_unlock (&precheck->lock);
  }
}
