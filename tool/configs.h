/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configs for an archive to be written, as the command line names them: [NAME=]PATH.
 */
#pragma once

#include <glib.h>

/* Takes "NAME=" off *text; NULL where there is none.  A path may hold a '=', but behind a '/'. */
char *tool_take_name (const char **text);

/* Reads one; without a name it is the path's last part.  At most what an archive can hold. */
gboolean tool_read_config (const char *text, char **name, GBytes **data, GError **error);
