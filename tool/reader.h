/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads stretches of an archive only to see that they can be read.
 *
 * With jobs, threads read different stretches at once; they are the reader's own.  The functions are
 * for one thread, the scanner's.
 */
#pragma once

#include "image/archive.h"

typedef struct ToolReader ToolReader;

/* Bytes of the archive that cannot be read. */
typedef struct {
  guint64 start, end;
} ToolRange;

/*
 * `jobs` 0: everything is read inside tool_reader_add(), as a pipe needs it.  `keep_going`: what cannot be
 * read is noted, and is no error.
 */
ToolReader *tool_reader_new (VmaArchive *archive, guint jobs, gboolean keep_going);
void tool_reader_free (ToolReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ToolReader, tool_reader_free)

/* To read [start, end), which lies behind all that was added before. */
gboolean tool_reader_add (ToolReader *reader, guint64 start, guint64 end, GError **error);

/* Waits until all is read.  FALSE with the first error, the archive's path in front. */
gboolean tool_reader_finish (ToolReader *reader, GError **error);

/* What could not be read: ToolRange, ascending, not overlapping.  After the finish. */
const GArray *tool_reader_unreadable (const ToolReader *reader);
