/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second process that outlives a backup which dies.
 *
 * A guest whose backup process is gone, or stopped, must not be left waiting for it.  The guard is
 * forked before there are threads, hears a heartbeat, and if that ends: kills what is left of the
 * backup, takes its mounts away, removes its nodes from QEMU, lets the guest go on if it was paused
 * by us, and says so in one line.
 *
 * Locking: tell functions may be called by any thread.
 */
#pragma once

#include <glib.h>

typedef struct VmaGuard VmaGuard;

/* `qmp` and `id` as of the job.  To be called before any thread is started.  NULL with an error. */
VmaGuard *vma_guard_start (const char *qmp, const char *id, GError **error);

/* Starts the heartbeat, a thread. */
void vma_guard_start_heart (VmaGuard *guard);

/* What there will be to take away: a mount point (with `remove` also the folder), a socket. */
void vma_guard_add_mount (VmaGuard *guard, const char *path, gboolean remove);
void vma_guard_add_socket (VmaGuard *guard, const char *path);
/* Something of ours is, or is not any more, in QEMU. */
void vma_guard_set_nodes (VmaGuard *guard, gboolean there);
/* The guest is paused by us, for a moment. */
void vma_guard_set_paused (VmaGuard *guard, gboolean paused);

/* Memory is being saved, or not any more; see vma_memory_abandon(). */
void vma_guard_set_memory (VmaGuard *guard, gboolean saving, gint64 bandwidth);

/* Nothing is left to guard.  Frees. */
void vma_guard_end (VmaGuard *guard);
