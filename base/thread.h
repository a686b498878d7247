/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads and signals: signals are for the main thread, or for one that waits for them.
 *
 * Owns nothing.  Any thread may start others.
 */
#pragma once

#include <pthread.h>
#include <signal.h>

/* pthread_create() of a thread that gets no signals: 0, or an errno value. */
int vma_thread_start (pthread_t *thread, void *(*run) (void *), void *data);

/*
 * From now on SIGINT, SIGTERM and SIGHUP (unless that is ignored, as nohup has it) go to a thread of their own, `run`,
 * which waits for them; it is not joined.  *signals is what they are, and *old_mask (may be NULL) the mask as it was
 * before, for programs that are started.  Where there is no thread to be had, signals kill, as they always did.
 * Once, before there are other threads.
 */
void vma_thread_take_signals (sigset_t *signals, sigset_t *old_mask, void *(*run) (void *));
