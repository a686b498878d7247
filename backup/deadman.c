/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/deadman.h"

#include "base/thread.h"
#include "index/lock.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define LOOK_MS 200

struct VmaDeadman {
  VmaDeadmanOptions options;
  gboolean has_thread;
  pthread_t thread;

  pthread_mutex_t lock; /* of all below, and of VmaPending.answered */
  pthread_cond_t changed;
  GQueue pending;    /* VmaPending, oldest first */
  gboolean sleeping; /* the thread waits for the first request */
  gboolean ending, answer_all;
  guint64 progress; /* as it was last seen, */
  gint64 moved;     /* and when it changed */
};

/* Answers in place of the thread that is at it.  The caller holds the lock, so that leave() waits.
 */
static void
answer (VmaPending *pending)
{
  pending->answered = TRUE;
  if (pending->early)
    return;
  if (pending->reads)
    fuse_reply_err (pending->req, EIO);
  else if (pending->written > 0)
    fuse_reply_write (pending->req, pending->written);
  else
    fuse_reply_err (pending->req, 0);
}

/* Whether a request waits for too long.  The caller holds the lock. */
static gboolean
is_too_late (VmaDeadman *deadman, gint64 now)
{
  const gint64 limit = (gint64) deadman->options.seconds * G_USEC_PER_SEC;

  for (GList *at = deadman->pending.head; at != NULL; at = at->next) {
    const VmaPending *pending = at->data;

    if (pending->answered || now - pending->since < limit)
      continue;
    /* What no guest waits for may take its time, if only something moves. */
    if ((pending->hook && !pending->early) || now - deadman->moved >= limit)
      return TRUE;
  }
  return FALSE;
}

/* Answers what came before `before`.  The caller holds the lock. */
static guint
answer_pending (VmaDeadman *deadman, gint64 before)
{
  guint n = 0;

  for (GList *at = deadman->pending.head; at != NULL; at = at->next) {
    VmaPending *pending = at->data;
    if (!pending->answered && pending->since <= before) {
      answer (pending);
      n++;
    }
  }
  return n;
}

static void
wait_some (VmaDeadman *deadman)
{
  struct timespec until;

  if (deadman->pending.length == 0) {
    deadman->sleeping = TRUE;
    pthread_cond_wait (&deadman->changed, &deadman->lock);
    deadman->sleeping = FALSE;
    /* Nothing had to move while nobody wanted anything. */
    deadman->moved = g_get_monotonic_time ();
    return;
  }
  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_nsec += LOOK_MS * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  pthread_cond_timedwait (&deadman->changed, &deadman->lock, &until);
}

static void *
watch (void *data)
{
  VmaDeadman *deadman = data;
  const VmaDeadmanOptions *options = &deadman->options;
  gboolean first = TRUE;

  pthread_mutex_lock (&deadman->lock);
  deadman->moved = g_get_monotonic_time ();
  while (!deadman->ending) {
    if (!deadman->answer_all)
      wait_some (deadman);
    guint64 progress = options->progress (options->data);
    gint64 now = g_get_monotonic_time ();
    if (progress != deadman->progress) {
      deadman->progress = progress;
      deadman->moved = now;
    }
    if (!deadman->answer_all && is_too_late (deadman, now)) {
      pthread_mutex_unlock (&deadman->lock);
      options->too_late (options->data, options->seconds);
      pthread_mutex_lock (&deadman->lock);
      deadman->answer_all = TRUE;
    }
    if (deadman->answer_all) {
      /* What came just before the failure may get stuck after it; nothing that comes later does. */
      guint n = answer_pending (deadman, first ? now : now - LOOK_MS * 1000);
      first = FALSE;
      pthread_mutex_unlock (&deadman->lock);
      if (n > 0)
        options->answered (options->data, n);
      pthread_mutex_lock (&deadman->lock);
      if (!deadman->ending)
        wait_some (deadman);
    }
  }
  pthread_mutex_unlock (&deadman->lock);
  return NULL;
}

VmaDeadman *
vma_deadman_new (const VmaDeadmanOptions *options)
{
  VmaDeadman *deadman = g_new0 (VmaDeadman, 1);

  deadman->options = *options;
  pthread_mutex_init (&deadman->lock, NULL);
  pthread_cond_init (&deadman->changed, NULL);
  g_queue_init (&deadman->pending);
  deadman->has_thread = vma_thread_start (&deadman->thread, watch, deadman) == 0;
  if (!deadman->has_thread)
    g_clear_pointer (&deadman, vma_deadman_free);
  return deadman;
}

void
vma_deadman_free (VmaDeadman *deadman)
{
  {
    VMA_LOCK (&deadman->lock);
    deadman->ending = TRUE;
    pthread_cond_broadcast (&deadman->changed);
  }
  if (deadman->has_thread)
    pthread_join (deadman->thread, NULL);
  pthread_cond_destroy (&deadman->changed);
  pthread_mutex_destroy (&deadman->lock);
  g_free (deadman);
}

void
vma_deadman_enter (VmaDeadman *deadman, VmaPending *pending)
{
  pending->since = g_get_monotonic_time ();
  pending->answered = pending->early = FALSE;
  pending->link = (GList){ .data = pending };
  VMA_LOCK (&deadman->lock);
  if (deadman->sleeping)
    pthread_cond_signal (&deadman->changed);
  g_queue_push_tail_link (&deadman->pending, &pending->link);
}

gboolean
vma_deadman_answer_early (VmaDeadman *deadman, VmaPending *pending)
{
  VMA_LOCK (&deadman->lock);
  if (pending->answered)
    return FALSE;
  pending->early = TRUE;
  return TRUE;
}

gboolean
vma_deadman_leave (VmaDeadman *deadman, VmaPending *pending)
{
  VMA_LOCK (&deadman->lock);
  g_queue_unlink (&deadman->pending, &pending->link);
  return !pending->answered && !pending->early;
}

void
vma_deadman_answer_all (VmaDeadman *deadman)
{
  VMA_LOCK (&deadman->lock);
  deadman->answer_all = TRUE;
  pthread_cond_signal (&deadman->changed);
}
