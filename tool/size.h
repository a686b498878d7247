/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes and shares as people write them.  Pure.
 */
#pragma once

#include <glib.h>

/* "512 B", "1.5 GiB": binary units, three digits.  The caller frees it. */
char *tool_format_size (guint64 bytes);

/* "4096", "512M", "4G", "4GiB" (binary in any case).  FALSE where it is none. */
gboolean tool_parse_size (const char *text, guint64 *bytes);

/* `part` of `whole` in percent; 0 of nothing is 0. */
double tool_percent (guint64 part, guint64 whole);
