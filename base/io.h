/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole reads and writes at a place of a file: over short ones and interruptions.
 *
 * Owns nothing.  Any folder may call; any thread.
 */
#pragma once

#include <glib.h>

/*
 * Bytes read.  Where they are fewer than `size`, *errnum (may be NULL) says why: an errno value, or 0 at the
 * end of the file.
 */
gsize vma_io_pread (int fd, void *buffer, gsize size, guint64 offset, int *errnum);

/* The same from where the descriptor stands. */
gsize vma_io_read (int fd, void *buffer, gsize size, int *errnum);

/* Bytes written; *errnum (may be NULL) says why they are fewer than `size`. */
gsize vma_io_pwrite (int fd, const void *buffer, gsize size, guint64 offset, int *errnum);

/* Whether all of it was there to be read, or could be written. */
gboolean vma_io_pread_all (int fd, void *buffer, gsize size, guint64 offset);
gboolean vma_io_pwrite_all (int fd, const void *buffer, gsize size, guint64 offset); /* sets errno */
