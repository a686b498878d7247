/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subcommands of vmabackup; as in tool/command.h, which has the exit statuses.
 */
#pragma once

#include "tool/command.h"

int backup_run (int argc, char **argv);
int backup_query (int argc, char **argv);
int backup_cancel (int argc, char **argv);
int backup_forget (int argc, char **argv);
int backup_set_speed (int argc, char **argv);
int backup_clean (int argc, char **argv);
int backup_serve (int argc, char **argv);
