/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SIGINT, SIGTERM and SIGHUP cancel what mount.vmafs is about; it then ends with the status for
 * that.
 *
 * A thread waits for the signals.  Nothing needs to be cleaned up beyond what the kernel does by
 * itself when descriptors are closed (see stack.h).
 */
#pragma once

#include <gio/gio.h>
#include <signal.h>

/* Starts the thread.  Once, before any other thread is there. */
GCancellable *helper_interrupt_start (void);

/* The signals' mask as it was before, for programs that are started. */
const sigset_t *helper_interrupt_old_mask (void);
