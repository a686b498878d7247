/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD URIs as names of archives and disks.  Pure (but for the current folder); also where there is
 * no libnbd.
 */
#pragma once

#include <glib.h>

/* Whether this is an NBD URI and not a path. */
gboolean vma_nbd_is_uri (const char *path);

/* A copy of a path or URI for messages: without a password. */
char *vma_nbd_display (const char *path);

/* A copy of a path or URI that holds in any current folder; of a URI, the paths of a socket and of keys. */
char *vma_nbd_absolute (const char *path);
