/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether something can be mounted on a directory, and if not, what to do.  Any thread.
 */
#pragma once

#include <glib.h>

/* A FUSE connection that somebody has mounted already is such a path. */
#define VMA_MOUNTPOINT_FD "/dev/fd/"

/*
 * FALSE with an error in words for the user.  "/dev/fd/N" passes.
 */
gboolean vma_mountpoint_check (const char *path, GError **error);
