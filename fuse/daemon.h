/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going to the background: the parent stays until the child's mount answers, and passes on the
 * child's exit status if it never does.
 *
 * Main thread only, before any other thread is there.
 */
#pragma once

#include <glib.h>

typedef struct VmaDaemon VmaDaemon;

/*
 * With `background`, forks: the parent waits in here and exits; the child returns, still on the
 * terminal so that it can complain.  `ready_fd` (-1: none) is told too.
 */
VmaDaemon *vma_daemon_start (gboolean background, int ready_fd);

/* The mount answers: lets the parent go, and lets go of the terminal.  Once; any thread. */
void vma_daemon_ready (VmaDaemon *daemon);

void vma_daemon_free (VmaDaemon *daemon);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaDaemon, vma_daemon_free)
