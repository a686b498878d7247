/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON output: what json-glib's builder lacks in convenience.  What is read is for base/json.h.
 *
 * Pure but for vma_json_print(); a builder belongs to one thread.
 */
#pragma once

#include <json-glib/json-glib.h>

/* Members of the object that is open. */
void vma_json_put_int (JsonBuilder *builder, const char *name, guint64 value);
void vma_json_put_double (JsonBuilder *builder, const char *name, double value);
void vma_json_put_bool (JsonBuilder *builder, const char *name, gboolean value);
/* Bytes that are not UTF-8 are replaced; NULL is null. */
void vma_json_put_string (JsonBuilder *builder, const char *name, const char *value);
/* Opens an array or object as a member; json_builder_end_...() closes it. */
void vma_json_put_array (JsonBuilder *builder, const char *name);
void vma_json_put_object (JsonBuilder *builder, const char *name);

/* `text` as a JSON string, with its quotes.  The caller frees it. */
char *vma_json_quote (const char *text);

/* What was built, indented, with a newline; the same on standard output. */
GBytes *vma_json_to_bytes (JsonBuilder *builder);
void vma_json_print (JsonBuilder *builder);
