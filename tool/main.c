/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool: work with VMA archives without mounting them.  Under the name `vma` it is the same program;
 * the arguments of the reference tool of that name work.
 */
#include "tool/command.h"
#include "tool/interrupt.h"
#include "tool/message.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

static const struct {
  const char *name, *summary;
  int (*run) (int argc, char **argv);
} commands[] = {
  { "list", "show the configs and disks of an archive", tool_list },
  { "config", "print a config", tool_config },
  { "create", "make an archive of disks and configs", tool_create },
  { "verify", "check an archive, and say what is lost", tool_verify },
  { "extract", "write the disks and configs to files", tool_extract },
  { "map", "show where the data of a disk stand", tool_map },
  { "info", "show what an archive is made of", tool_info },
  { "repack", "write an archive anew: reordered, compressed, merged", tool_repack },
  { "diff", "show which clusters differ between two archives", tool_diff },
  { "parts", "show the partitions and file systems of the guest", tool_parts },
  { "ls", "list files of the guest", tool_ls },
  { "cat", "print files of the guest", tool_cat },
  { "cp", "copy files and folders out of the guest", tool_cp },
  { "index", "build, check and prune saved indexes", tool_index },
};

static void
print_help (void)
{
  printf ("Usage: %s COMMAND [OPTION...] ARGUMENT...\n\n", tool_name ());
  for (gsize i = 0; i < G_N_ELEMENTS (commands); i++)
    printf ("  %-10s%s\n", commands[i].name, commands[i].summary);
  printf ("\n%s COMMAND --help tells more.  An ARCHIVE of - is standard input, where that works.\n"
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
