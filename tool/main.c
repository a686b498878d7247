/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool: work with VMA archives without mounting them.  Under the name `vma` it is the same program;
 * the arguments of the reference tool of that name work.
 */
#include "tool/command.h"
#include "tool/dispatch.h"

static const ToolCommand commands[] = {
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

int
main (int argc, char **argv)
{
  return tool_dispatch (argc, argv, commands, G_N_ELEMENTS (commands),
                        "  An ARCHIVE of - is standard input, where that works.");
}
