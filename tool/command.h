/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subcommands of vmatool.  A new one is one file with its function, and one line each here, in
 * the table of main.c and in meson.build.
 *
 * A command gets its own arguments, argv[0] being its name, and returns the exit status.
 */
#pragma once

enum {
  TOOL_OK = 0,
  TOOL_FAILED = 1, /* said why on stderr, in one line */
  TOOL_USAGE = 2,
};

int tool_create (int argc, char **argv);
int tool_list (int argc, char **argv);
int tool_config (int argc, char **argv);
int tool_verify (int argc, char **argv);
int tool_extract (int argc, char **argv);
int tool_map (int argc, char **argv);
int tool_info (int argc, char **argv);
int tool_repack (int argc, char **argv);
int tool_diff (int argc, char **argv);
int tool_parts (int argc, char **argv);
int tool_ls (int argc, char **argv);
int tool_cat (int argc, char **argv);
int tool_cp (int argc, char **argv);
int tool_index (int argc, char **argv);
