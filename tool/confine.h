/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A command that only reads archives, and prints, confines itself before it opens the first one.
 *
 * Main thread, once, before tool_interrupt_start() and all that starts threads.
 */
#pragma once

#include <glib.h>

/*
 * From now on only `archives` (NULL at the end; paths, URIs or "-") can be opened, and what is in
 * the directory of --index-cache.  As far as the kernel goes: where it lacks something, less is
 * given up.
 */
void tool_confine (const char *const *archives, const char *cache_option);

/* The same for one archive. */
void tool_confine_to (const char *archive, const char *cache_option);
