/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The progress bar on stderr: only where that is a terminal, and erased at the end.
 *
 * One bar at a time.  Any thread may set how far it is.
 */
#pragma once

#include <glib.h>

/* Starts a bar.  `total` bytes, 0 where nobody knows. */
void tool_progress_start (const char *what, guint64 total);

/* How far it is.  Cheap: draws at most ten times a second. */
void tool_progress_set (guint64 done);
void tool_progress_add (guint64 more);

/* What stands behind the bar, NULL: nothing. */
void tool_progress_remark (const char *text);

/* Takes the bar away for good. */
void tool_progress_end (void);

/* Takes it away for a line of text; it comes back by itself. */
void tool_progress_erase (void);
