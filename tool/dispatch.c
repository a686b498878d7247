/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/dispatch.h"

#include "tool/command.h"
#include "tool/interrupt.h"
#include "tool/message.h"

#include <stdio.h>
#include <string.h>

static void
print_help (const ToolCommand *commands, gsize n, const char *more)
{
  printf ("Usage: %s COMMAND [OPTION...] ARGUMENT...\n\n", tool_name ());
  for (gsize i = 0; i < n; i++)
    printf ("  %-10s%s\n", commands[i].name, commands[i].summary);
  printf ("\n%s COMMAND --help tells more.%s\n"
          "Exit status: 0 ok, 1 failed, 2 wrong usage, 128 + signal when interrupted.\n",
          tool_name (), more);
}

int
tool_dispatch (int argc, char **argv, const ToolCommand *commands, gsize n, const char *more)
{
  tool_set_name (argv[0]);
  if (argc < 2) {
    tool_error ("which command? (%s --help)", tool_name ());
    return TOOL_USAGE;
  }
  const char *name = argv[1];
  if (strcmp (name, "--help") == 0 || strcmp (name, "-h") == 0 || strcmp (name, "help") == 0) {
    print_help (commands, n, more);
    return tool_close_stdout (TOOL_OK);
  }
  if (strcmp (name, "--version") == 0) {
    printf ("%s %s\n", tool_name (), VMAFS_VERSION);
    return tool_close_stdout (TOOL_OK);
  }
  for (gsize i = 0; i < n; i++)
    if (strcmp (name, commands[i].name) == 0) {
      int status = tool_close_stdout (commands[i].run (argc - 1, argv + 1));
      return tool_interrupt_exit_status (status);
    }
  tool_error ("no command '%s' (%s --help)", name, tool_name ());
  return TOOL_USAGE;
}
