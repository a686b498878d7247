/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON that others send: read without trust, and made without much text.
 *
 * json-glib's own accessors take a wrong type for a mistake of the programmer; these take it for
 * a member that is not there.  Pure; any thread.
 */
#pragma once

#include <json-glib/json-glib.h>

/* What a line may have: query-qmp-schema and query-named-block-nodes have some hundred KiB. */
#define VMA_JSON_MAX_LINE (16u << 20)
/* json-glib's parser recurses. */
#define VMA_JSON_MAX_DEPTH 64

/* One JSON object from `size` bytes.  VMA_ERROR_INVALID where it is none. */
JsonObject *vma_json_parse (const char *text, gsize size, GError **error);

/* Members; NULL, the default, or FALSE where there is none of that type.  `object` may be NULL. */
const char *vma_json_string (JsonObject *object, const char *name);
gint64 vma_json_int (JsonObject *object, const char *name, gint64 other);
gboolean vma_json_bool (JsonObject *object, const char *name);
JsonObject *vma_json_object (JsonObject *object, const char *name);
JsonArray *vma_json_array (JsonObject *object, const char *name);

/* Elements that are objects; NULL for others. */
JsonObject *vma_json_element (JsonArray *array, guint i);
guint vma_json_length (JsonArray *array); /* 0 for NULL */

/* The object or array that a node is, or NULL; `node` may be NULL. */
JsonObject *vma_json_node_object (JsonNode *node);
JsonArray *vma_json_node_array (JsonNode *node);

/*
 * An object of "NAME:TYPE", VALUE, ..., NULL with the types
 *
 *   s  const char *, left out if NULL        i  gint64
 *   o  JsonNode *, taken, left out if NULL   b  gboolean
 */
JsonNode *vma_json_make (const char *first, ...) G_GNUC_NULL_TERMINATED;

/* An array of nodes, which are taken, up to a NULL. */
JsonNode *vma_json_list (JsonNode *first, ...) G_GNUC_NULL_TERMINATED;
/* One of the strings of a NULL-terminated array; NULL is empty. */
JsonNode *vma_json_strings (const char *const *strings);

/* On one line, without the newline.  The caller frees it. */
char *vma_json_line (JsonNode *node);
