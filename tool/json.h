/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON output: what json-glib's builder lacks in convenience.
 */
#pragma once

#include <json-glib/json-glib.h>

/* Members of the object that is open. */
void tool_json_int (JsonBuilder *builder, const char *name, guint64 value);
void tool_json_double (JsonBuilder *builder, const char *name, double value);
void tool_json_bool (JsonBuilder *builder, const char *name, gboolean value);
/* Bytes that are not UTF-8 are replaced; NULL is null. */
void tool_json_string (JsonBuilder *builder, const char *name, const char *value);
/* Opens an array or object as a member; json_builder_end_...() closes it. */
void tool_json_array (JsonBuilder *builder, const char *name);
void tool_json_object (JsonBuilder *builder, const char *name);

/* `text` as a JSON string, with its quotes.  The caller frees it. */
char *tool_json_quote (const char *text);

/* Prints what was built, indented, and a newline. */
void tool_json_print (JsonBuilder *builder);
