/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmabackup: live backups of running QEMU guests.
 */
#include "backup/commands.h"
#include "tool/interrupt.h"
#include "tool/message.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

static const struct {
  const char *name, *summary;
  int (*run) (int argc, char **argv);
} commands[] = {
  { "run", "back up a running guest", backup_run },
  { "query", "show the backups that run", backup_query },
  { "cancel", "stop one", backup_cancel },
  { "set-speed", "limit the background copy of one", backup_set_speed },
  { "forget", "drop one that has ended from the service's list", backup_forget },
  { "clean", "take out of a QEMU what a backup has left there", backup_clean },
  { "serve", "take orders for backups on a socket", backup_serve },
};

static void
print_help (void)
{
  printf ("Usage: %s COMMAND [OPTION...] ARGUMENT...\n\n", tool_name ());
  for (gsize i = 0; i < G_N_ELEMENTS (commands); i++)
    printf ("  %-10s%s\n", commands[i].name, commands[i].summary);
  printf ("\n%s COMMAND --help tells more.\n"
          "Exit status: 0 ok, 1 failed, 2 wrong usage, 128 + signal when interrupted.\n",
          tool_name ());
}

int
main (int argc, char **argv)
{
  tool_set_name (argv[0]);
  if (argc < 2) {
    tool_error ("which command? (%s --help)", tool_name ());
    return TOOL_USAGE;
  }
  const char *name = argv[1];
  if (strcmp (name, "--help") == 0 || strcmp (name, "-h") == 0 || strcmp (name, "help") == 0) {
    print_help ();
    return tool_close_stdout (TOOL_OK);
  }
  if (strcmp (name, "--version") == 0) {
    printf ("%s %s\n", tool_name (), VMAFS_VERSION);
    return tool_close_stdout (TOOL_OK);
  }
  for (gsize i = 0; i < G_N_ELEMENTS (commands); i++)
    if (strcmp (name, commands[i].name) == 0) {
      int status = tool_close_stdout (commands[i].run (argc - 1, argv + 1));
      return tool_interrupt_exit_status (status);
    }
  tool_error ("no command '%s' (%s --help)", name, tool_name ());
  return TOOL_USAGE;
}
