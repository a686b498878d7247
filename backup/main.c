/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmabackup: live backups of running QEMU guests.
 */
#include "backup/commands.h"
#include "tool/dispatch.h"

static const ToolCommand commands[] = {
  { "run", "back up a running guest", backup_run },
  { "query", "show the backups that run", backup_query },
  { "cancel", "stop one", backup_cancel },
  { "set-speed", "limit the background copy of one", backup_set_speed },
  { "forget", "drop one that has ended from the service's list", backup_forget },
  { "clean", "take out of a QEMU what a backup has left there", backup_clean },
  { "serve", "take orders for backups on a socket", backup_serve },
};

int
main (int argc, char **argv)
{
  return tool_dispatch (argc, argv, commands, G_N_ELEMENTS (commands), "");
}
