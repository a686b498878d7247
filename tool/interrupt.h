/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SIGINT, SIGTERM and SIGHUP: the work is asked to stop, and what it has left lying about is removed.
 *
 * A thread waits for the signals.  It cancels the cancellable that all long work looks at; if the
 * program has not ended a moment later (it may sit in a read of an idle pipe, or in an fsync), or at a
 * second signal, the thread cleans up and ends the program itself.
 *
 * Exit status: 128 + the signal's number.
 */
#pragma once

#include <gio/gio.h>

/* Starts the thread.  To be called before any other thread is, once. */
void tool_interrupt_start (void);

/* How long the program may take to end by itself; before tool_interrupt_start().  Default 1. */
void tool_interrupt_set_grace (guint seconds);

/* NULL where tool_interrupt_start() was not called. */
GCancellable *tool_cancellable (void);

/*
 * What to do if the program must end in the middle; may be run from another thread, under a lock that
 * this function takes.  NULL: nothing.
 */
void tool_interrupt_set_cleanup (void (*cleanup) (gpointer data), gpointer data);

/*
 * The work is done: from now on signals are ignored.  FALSE where one has arrived already.  What comes
 * after is short and not to be interrupted.
 */
gboolean tool_interrupt_finish (void);

/* `status`, or 128 + the signal that has arrived. */
int tool_interrupt_exit_status (int status);
