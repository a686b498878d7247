/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/interrupt.h"

#include <pthread.h>

static sigset_t signals, old_mask;
static GCancellable *cancellable;

static void *
wait_for_signals (void *data G_GNUC_UNUSED)
{
  int number;

  while (sigwait (&signals, &number) == 0)
    g_cancellable_cancel (cancellable);
  return NULL;
}

GCancellable *
helper_interrupt_start (void)
{
  struct sigaction hangup;
  pthread_t thread;

  cancellable = g_cancellable_new ();
  sigemptyset (&signals);
  sigaddset (&signals, SIGINT);
  sigaddset (&signals, SIGTERM);
  if (sigaction (SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
    sigaddset (&signals, SIGHUP); /* else it was started with nohup */
  pthread_sigmask (SIG_BLOCK, &signals, &old_mask);
  if (pthread_create (&thread, NULL, wait_for_signals, NULL) != 0)
    pthread_sigmask (SIG_SETMASK, &old_mask, NULL); /* a signal then kills, as it always did */
  else
    pthread_detach (thread);
  return cancellable;
}

const sigset_t *
helper_interrupt_old_mask (void)
{
  return &old_mask;
}
