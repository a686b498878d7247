/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines from a socket or pipe, of bounded length, with descriptors that come along (SCM_RIGHTS).
 *
 * One thread reads; another may end it by closing the other end of `stop`, a pipe.
 */
#pragma once

#include <glib.h>

typedef struct VmaLineReader VmaLineReader;

/* `stop` may be -1.  Neither descriptor is closed. */
VmaLineReader *vma_line_reader_new (int fd, int stop, gsize max);
void vma_line_reader_free (VmaLineReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaLineReader, vma_line_reader_free)

/*
 * The next line that is not empty, without its end; valid until the next call.  NULL without an
 * error at the end or when stopped; with VMA_ERROR_INVALID where a line is too long, VMA_ERROR_IO.
 *
 * `passed` gets the last descriptor that came with the line or before it, -1 where there is none;
 * it is the caller's.  NULL: descriptors are closed.
 */
const char *vma_line_reader_next (VmaLineReader *reader, gsize *size, int *passed, GError **error);
