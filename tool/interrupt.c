/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/interrupt.h"

#include "base/thread.h"
#include "index/lock.h"
#include "tool/message.h"

#include <unistd.h>

/* How long the program may take to end by itself. */
static guint grace_seconds = 1;

static GCancellable *cancellable;
static sigset_t signals;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static void (*cleanup) (gpointer data);
static gpointer cleanup_data;
static gboolean finished;
static int received; /* a signal's number */

/* Notes the signal; FALSE if it is too late for it. */
static gboolean
note_signal (int number)
{
  VMA_LOCK (&lock);
  if (finished)
    return FALSE;
  received = number;
  return TRUE;
}

static void *
wait_for_signals (void *data G_GNUC_UNUSED)
{
  const struct timespec grace = { .tv_sec = (time_t) grace_seconds };
  int number;

  do
    if (sigwait (&signals, &number) != 0)
      return NULL;
  while (!note_signal (number));
  g_cancellable_cancel (cancellable);
  sigtimedwait (&signals, NULL, &grace);

  pthread_mutex_lock (&lock); /* for good: nobody shall do anything any more */
  if (cleanup != NULL)
    cleanup (cleanup_data);
  tool_error ("interrupted");
  _exit (128 + number);
}

void
tool_interrupt_set_grace (guint seconds)
{
  grace_seconds = seconds;
}

void
tool_interrupt_start (void)
{
  cancellable = g_cancellable_new ();
  vma_thread_take_signals (&signals, NULL, wait_for_signals);
}

GCancellable *
tool_cancellable (void)
{
  return cancellable;
}

void
tool_interrupt_set_cleanup (void (*function) (gpointer data), gpointer data)
{
  VMA_LOCK (&lock);
  cleanup = function;
  cleanup_data = data;
}

gboolean
tool_interrupt_finish (void)
{
  VMA_LOCK (&lock);
  finished = received == 0;
  return finished;
}

int
tool_interrupt_exit_status (int status)
{
  VMA_LOCK (&lock);
  return received != 0 ? 128 + received : status;
}
