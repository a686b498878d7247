/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts vmafs, which shows an archive's images.
 *
 * Either on a directory, or, detached, nowhere: the helper makes the FUSE mount itself (fsopen(2))
 * and keeps it as a descriptor.  A detached mount lasts as long as somebody holds the descriptor,
 * or a file below it.  Then the kernel ends the connection, and vmafs with it; so nothing is left
 * however the holder ends, and nothing has to be tidied up by anyone.
 *
 * Main thread.
 */
#pragma once

#include <gio/gio.h>

/* Mounts on `dir`.  vmafs says itself what is wrong; the error then has no message. */
gboolean driver_mount (const char *archive, const char *dir, const char *options,
                       GCancellable *cancellable, GError **error);

/* The descriptor of a detached mount whose vmafs answers, or -1. */
int driver_mount_detached (const char *archive, const char *options, gboolean writable,
                           GCancellable *cancellable, GError **error);

/*
 * The process behind a mount, from its .vmafs/status; 0: unknown.  `uuid` (may be NULL) gets that
 * of the archive, or NULL.
 */
pid_t driver_pid (int mount_fd, char **uuid);

/* A pidfd of this process if it is a vmafs that has not ended, else -1. */
int driver_pidfd (pid_t pid);
