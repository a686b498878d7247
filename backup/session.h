/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mount of our own and the threads that serve it.
 *
 * libfuse has a loop of its own; ours can add threads when those that are there are stuck in a
 * medium that hangs, and can be left behind with such threads.
 *
 * Takes the signal SIGRTMIN+5 of the process, to wake its own threads.
 *
 * Owns the FUSE session and its threads: as many as are busy at a time, up to a bound.
 *
 * Locking: mount, stop and free by one thread; relieve by any but those that serve the session.
 */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <glib.h>

typedef struct VmaSession VmaSession;

/* Who sets max_write in its init() must not ask for more. */
#define VMA_SESSION_MAX_WRITE (1024u * 1024u)

/* `options` as of mount -o.  `data` is what fuse_req_userdata() gives. */
VmaSession *vma_session_mount (const struct fuse_lowlevel_ops *ops, gpointer data,
                               const char *mountpoint, const char *options, guint max_threads,
                               GError **error);

/* n threads more, beyond the bound. */
void vma_session_relieve (VmaSession *session, guint n);

/*
 * Unmounts, lazily where it must, and ends the threads.  FALSE where one is stuck for more than
 * some seconds: then it may come back at any time, and nothing that it uses may be freed.
 */
gboolean vma_session_stop (VmaSession *session);

/* Behind a stop() that was TRUE. */
void vma_session_free (VmaSession *session);
