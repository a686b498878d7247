/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The directory that extract makes: there as a whole, or not at all.
 *
 * It must not exist before.  Unless it was committed it is removed with all in it, also when a signal
 * ends the program.
 */
#pragma once

#include <glib.h>

typedef struct ToolOutDir ToolOutDir;

/* Makes the directory.  NULL and an error that names it. */
ToolOutDir *tool_out_dir_new (const char *path, GError **error);

/* Removes it unless it was committed. */
void tool_out_dir_free (ToolOutDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ToolOutDir, tool_out_dir_free)

int tool_out_dir_fd (const ToolOutDir *dir);

/* A path for messages.  The caller frees it. */
char *tool_out_dir_shown (const ToolOutDir *dir, const char *name);

/* Writes a small file, which appears as a whole. */
gboolean tool_out_dir_write (ToolOutDir *dir, const char *name, GBytes *data, GError **error);

/* To be called `name` at the commit; so long it is "tmp-" and that. */
void tool_out_dir_add (ToolOutDir *dir, const char *name);

/* Gives all files their names; signals are no longer heeded.  FALSE: it was too late, or an error. */
gboolean tool_out_dir_commit (ToolOutDir *dir, GError **error);
