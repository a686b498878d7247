/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where an archive is written to: a new file, a pipe, an inherited descriptor, a command.
 *
 *   PATH       a file that must not exist; it has no name (or a hidden temporary one) until it is
 *              complete and on disk
 *   -          standard output
 *   fd:N       descriptor N; a regular file is written from its beginning
 *   exec:CMD   the standard input of `sh -c CMD`, whose failure is ours
 *
 * Owns the descriptor and the child process.  write_at() may be called by any number of threads;
 * everything else by one at a time.
 */
#pragma once

#include <glib.h>
#include <sys/uio.h>

typedef struct VmaOutput VmaOutput;

VmaOutput *vma_output_open (const char *target, GError **error);

/* Whether write_at() works; else only append() does. */
gboolean vma_output_is_seekable (const VmaOutput *output);

/* Writes all of it.  `iov` is used up.  Errors are VMA_ERROR_IO and name the target. */
gboolean vma_output_write_at (VmaOutput *output, struct iovec *iov, int n, guint64 offset,
                              GError **error);
gboolean vma_output_append (VmaOutput *output, const void *data, gsize size, GError **error);

/* Reads back from a seekable output what was written.  Any thread. */
gboolean vma_output_read_at (VmaOutput *output, void *buffer, gsize size, guint64 offset,
                             GError **error);

/* Everything was written: makes it last, and gives it its name; waits for the command. */
gboolean vma_output_finish (VmaOutput *output, GError **error);

/*
 * Stops a command, and makes writes that are interrupted fail.  Any thread; without effect after
 * finish().
 */
void vma_output_cancel (VmaOutput *output);

/* Without finish(): takes back what was written, as far as that can be done. */
void vma_output_free (VmaOutput *output);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaOutput, vma_output_free)
