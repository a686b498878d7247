/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scope-bound pthread mutex.
 *
 * pthread's own and not GMutex, because ThreadSanitizer knows what the former orders.
 */
#pragma once

#include <pthread.h>

typedef pthread_mutex_t *VmaLockGuard;

static inline VmaLockGuard
vma_lock_guard (pthread_mutex_t *mutex)
{
  pthread_mutex_lock (mutex);
  return mutex;
}

static inline void
vma_lock_guard_end (VmaLockGuard *guard)
{
  pthread_mutex_unlock (*guard);
}

/* Holds `mutex` until the end of the enclosing block. */
#define VMA_LOCK(mutex)                                                                            \
  __attribute__ ((cleanup (vma_lock_guard_end), unused)) VmaLockGuard vma_lock_held               \
      = vma_lock_guard (mutex)
