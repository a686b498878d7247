/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of a subcommand.
 *
 * Strings are taken as bytes (use G_OPTION_ARG_FILENAME): names need not be UTF-8.
 */
#pragma once

#include <glib.h>

typedef struct {
  const char *arguments;       /* "ARCHIVE [DISK]" */
  const char *about;           /* what it does; lines of at most 80 columns */
  const GOptionEntry *entries; /* NULL-terminated */
  guint min, max;              /* how many arguments */
} ToolUsage;

/* As `max`: any number. */
#define TOOL_ANY G_MAXUINT

/*
 * Parses argv, whose first is the command's name.  Returns the arguments that are no options, to be
 * freed with g_strfreev().  NULL where the program shall end with *status (after --help, or a mistake,
 * which was reported).
 */
char **tool_parse (const ToolUsage *usage, int argc, char **argv, int *status);

/* Reports a mistake in the command line; TOOL_USAGE. */
int tool_usage_error (const char *command, const char *format, ...) G_GNUC_PRINTF (2, 3);
