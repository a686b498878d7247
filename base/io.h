/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole reads and writes at a place of a file: over short ones and interruptions.
 *
 * Owns nothing.  Any folder may call; any thread.
 */
#pragma once

#include <glib.h>

/* Bytes read: fewer than `size` only at the end of the file.  -1 and errno. */
gssize vma_io_pread (int fd, void *buffer, gsize size, guint64 offset);

/* Whether all of it was there to be read. */
gboolean vma_io_pread_all (int fd, void *buffer, gsize size, guint64 offset);

/* FALSE and errno; then some of it may be written. */
gboolean vma_io_pwrite_all (int fd, const void *buffer, gsize size, guint64 offset);
