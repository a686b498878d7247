/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/thread.h"

#include <stddef.h>

int
vma_thread_start (pthread_t *thread, void *(*run) (void *), void *data)
{
  sigset_t all, old;

  /* The mask is inherited. */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  int failed = pthread_create (thread, NULL, run, data);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return failed;
}

void
vma_thread_take_signals (sigset_t *signals, sigset_t *old_mask, void *(*run) (void *))
{
  struct sigaction hangup;
  pthread_t thread;
  sigset_t old;

  sigemptyset (signals);
  sigaddset (signals, SIGINT);
  sigaddset (signals, SIGTERM);
  if (sigaction (SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
    sigaddset (signals, SIGHUP);
  pthread_sigmask (SIG_BLOCK, signals, &old);
  if (old_mask != NULL)
    *old_mask = old;
  if (pthread_create (&thread, NULL, run, NULL) != 0)
    pthread_sigmask (SIG_SETMASK, &old, NULL);
  else
    pthread_detach (thread);
}
