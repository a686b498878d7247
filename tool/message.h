/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the program says on stderr: one line each, "vmatool: ...", and the end of its output.
 *
 * Any thread.
 */
#pragma once

#include <glib.h>

/* The name the program was called by, for all messages.  Once, before any other thread. */
void tool_set_name (const char *argv0);
const char *tool_name (void);

/* A line on stderr; a progress bar makes way.  Control characters become '?'. */
void tool_error (const char *format, ...) G_GNUC_PRINTF (1, 2);

/*
 * A library error as a line.  `salvage_advice` is added where salvage could help, i.e. where the archive
 * is damaged or something is missing from it; it may be NULL.  Returns TOOL_FAILED, or the status
 * of an interrupted program.
 */
int tool_fail (const GError *error, const char *salvage_advice);

/* Takes notes of the library: a VmaReport. */
void tool_report (gpointer data, const GError *what);

/* Flushes stdout: `status`, or TOOL_FAILED with a message where the output could not be written. */
int tool_close_stdout (int status);

/* What to try where ... */
#define TOOL_ADVICE_LIST "vmatool verify --salvage lists what can still be read"
#define TOOL_ADVICE_SALVAGE "--salvage reads the rest"
#define TOOL_ADVICE_MOUNT "mount with vmafs -o salvage to read the rest"
