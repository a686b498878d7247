/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/commands.h"
#include "tool/message.h"

int
backup_serve (int argc G_GNUC_UNUSED, char **argv G_GNUC_UNUSED)
{
  tool_error ("serve: not there yet");
  return TOOL_FAILED;
}
