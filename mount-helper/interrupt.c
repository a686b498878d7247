/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/interrupt.h"

#include "base/thread.h"

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
  cancellable = g_cancellable_new ();
  vma_thread_take_signals (&signals, &old_mask, wait_for_signals);
  return cancellable;
}

const sigset_t *
helper_interrupt_old_mask (void)
{
  return &old_mask;
}
