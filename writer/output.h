/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where an archive is written to: a new file, a pipe, an inherited descriptor, a command.
 *
 *   PATH       a file that must not exist; it has no name (or a hidden temporary one) until it is
 *              complete and on disk.  An existing FIFO or character device is opened as it is
 *   -          standard output
 *   fd:N       descriptor N.  A regular file open for reading and writing, at its beginning, is
 *              emptied and written at any place; all else takes bytes in order
 *   exec:CMD   the standard input of `sh -c CMD`, whose failure is ours
 *
 * Owns the descriptor and the child process.  write_at(), read_at() and cancel() may be called by any
 * number of threads; everything else by one at a time.
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

/*
 * The medium may begin with what stands there: it will have to be waited for at the end, and until then
 * it would be idle.
 */
void vma_output_start_writeback (VmaOutput *output, guint64 offset, guint64 size);

/* Reads back from a seekable output what was written.  Any thread. */
gboolean vma_output_read_at (VmaOutput *output, void *buffer, gsize size, guint64 offset,
                             GError **error);

/* Everything was written: makes it last; waits for the command.  May take long. */
gboolean vma_output_sync (VmaOutput *output, GError **error);

/* After sync(): gives it its name. */
gboolean vma_output_finish (VmaOutput *output, GError **error);

/*
 * Stops a command (kills it, if `at_once`), removes a temporary file, and makes all that is still to be
 * written fail.  Any thread, at any time before free(); without effect after finish().
 */
void vma_output_cancel (VmaOutput *output, gboolean at_once);

/* Without finish(): takes back what was written, as far as that can be done. */
void vma_output_free (VmaOutput *output);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaOutput, vma_output_free)
