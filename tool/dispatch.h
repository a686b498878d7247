/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program that is a set of commands: `PROGRAM COMMAND ...`, --help and --version.
 *
 * Owns nothing; called once, by main().
 */
#pragma once

#include <glib.h>

typedef struct {
  const char *name, *summary;
  int (*run) (int argc, char **argv); /* argv[0] is the command's name; the exit status */
} ToolCommand;

/* Runs the command that argv[1] names, and returns the program's exit status.  `more` (may be
 * empty) is added to the last lines of the help. */
int tool_dispatch (int argc, char **argv, const ToolCommand *commands, gsize n, const char *more);
