/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capabilities and groups of the calling thread, as bits by their numbers.  For this folder only.
 */
#pragma once

#include <glib.h>

/* What is in force. */
guint64 vma_privileges_capabilities (void);

/*
 * The capability without which `path` cannot be opened for reading, or for `writing`, and that we
 * have: its bit, or 0.
 */
guint64 vma_privileges_needed (const char *path, gboolean writing);

/* Gives up all capabilities but those in `keep`, and supplementary groups.  FALSE and errno. */
gboolean vma_privileges_drop (guint64 keep);
