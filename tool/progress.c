/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/progress.h"

#include "index/lock.h"
#include "tool/size.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define INTERVAL_US (100 * 1000)
#define BAR_WIDTH 24

static atomic_bool active;
static _Atomic guint64 position;
static _Atomic gint64 next_draw;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static const char *what;
static guint64 total;
static gint64 started;
static gboolean drawn;
static char *remark;

void
tool_progress_start (const char *text, guint64 total_bytes)
{
  if (!isatty (STDERR_FILENO))
    return;
  VMA_LOCK (&lock);
  what = text;
  total = total_bytes;
  started = g_get_monotonic_time ();
  atomic_store (&position, 0);
  /* What is done in a blink needs no bar. */
  atomic_store (&next_draw, started + 5 * INTERVAL_US);
  atomic_store (&active, TRUE);
}

/* The caller holds the lock. */
static void
erase (void)
{
  if (drawn)
    fputs ("\r\033[K", stderr);
  drawn = FALSE;
}

static void
draw (gint64 now)
{
  double seconds = (double) (now - started) / G_USEC_PER_SEC;
  guint64 done = atomic_load (&position);
  double rate = (double) done / MAX (seconds, 1e-6);
  g_autofree char *size = tool_format_size (done);
  g_autofree char *speed = tool_format_size ((guint64) rate);

  erase ();
  if (total > 0) {
    double share = MIN (1, (double) done / (double) total);
    int filled = (int) (share * BAR_WIDTH);
    fprintf (stderr, "%s [%.*s%*s] %3d%% %s, %s/s", what, filled, "########################",
             BAR_WIDTH - filled, "", (int) (share * 100), size, speed);
    if (rate > 0) {
      guint64 left = (guint64) ((double) (total - MIN (total, done)) / rate);
      fprintf (stderr, ", %" G_GUINT64_FORMAT ":%02u left", left / 60, (guint) (left % 60));
    }
  } else
    fprintf (stderr, "%s %s, %s/s", what, size, speed);
  if (remark != NULL)
    fprintf (stderr, ", %s", remark);
  fflush (stderr);
  drawn = TRUE;
}

static void
draw_if_due (void)
{
  gint64 now = g_get_monotonic_time ();

  if (now < atomic_load_explicit (&next_draw, memory_order_relaxed))
    return;
  VMA_LOCK (&lock);
  if (!atomic_load (&active) || now < atomic_load (&next_draw))
    return;
  draw (now);
  atomic_store (&next_draw, now + INTERVAL_US);
}

void
tool_progress_set (guint64 done)
{
  if (!atomic_load_explicit (&active, memory_order_relaxed))
    return;
  atomic_store_explicit (&position, done, memory_order_relaxed);
  draw_if_due ();
}

void
tool_progress_add (guint64 more)
{
  if (!atomic_load_explicit (&active, memory_order_relaxed))
    return;
  atomic_fetch_add_explicit (&position, more, memory_order_relaxed);
  draw_if_due ();
}

void
tool_progress_remark (const char *text)
{
  VMA_LOCK (&lock);
  g_free (remark);
  remark = g_strdup (text);
}

void
tool_progress_erase (void)
{
  VMA_LOCK (&lock);
  erase ();
  fflush (stderr);
}

void
tool_progress_end (void)
{
  atomic_store (&active, FALSE);
  tool_progress_erase ();
  tool_progress_remark (NULL);
}
