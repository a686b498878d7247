/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/json.h"

#include "vma/error.h"

#include <stdarg.h>
#include <string.h>

/*
 * What is wrong with the text before the parser may see it, or NULL.  The parser judges the rest.
 */
static const char *
find_fault (const char *text, gsize size)
{
  gboolean quoted = FALSE;
  guint depth = 0;

  if (size > VMA_JSON_MAX_LINE)
    return "is too long";
  if (memchr (text, '\0', size) != NULL || !g_utf8_validate (text, (gssize) size, NULL))
    return "is no UTF-8 text";

  for (gsize i = 0; i < size; i++) {
    if (quoted) {
      if (text[i] == '\\')
        i++;
      else if (text[i] == '"')
        quoted = FALSE;
    } else if (text[i] == '"')
      quoted = TRUE;
    else if (strchr ("/'#", text[i]) != NULL)
      return "has comments"; /* the parser knows some, and they would hide quotes from us */
    else if (text[i] == '[' || text[i] == '{') {
      if (++depth > VMA_JSON_MAX_DEPTH)
        return "is too deep";
    } else if ((text[i] == ']' || text[i] == '}') && depth > 0)
      depth--;
  }
  return NULL;
}

JsonObject *
vma_json_parse (const char *text, gsize size, GError **error)
{
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autoptr (GError) why = NULL;

  const char *fault = find_fault (text, size);
  if (fault != NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "JSON that %s", fault);
    return NULL;
  }
  if (!json_parser_load_from_data (parser, text, (gssize) size, &why)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "invalid JSON: %s", why->message);
    return NULL;
  }
  JsonObject *object = vma_json_node_object (json_parser_get_root (parser));
  if (object == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "JSON that is no object");
    return NULL;
  }
  return json_object_ref (object);
}

static JsonNode *
value_of (JsonObject *object, const char *name, GType type)
{
  JsonNode *node = object != NULL ? json_object_get_member (object, name) : NULL;

  return node != NULL && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == type
             ? node
             : NULL;
}

const char *
vma_json_string (JsonObject *object, const char *name)
{
  JsonNode *node = value_of (object, name, G_TYPE_STRING);

  return node != NULL ? json_node_get_string (node) : NULL;
}

gint64
vma_json_int (JsonObject *object, const char *name, gint64 other)
{
  JsonNode *node = value_of (object, name, G_TYPE_INT64);

  return node != NULL ? json_node_get_int (node) : other;
}

gboolean
vma_json_bool (JsonObject *object, const char *name)
{
  JsonNode *node = value_of (object, name, G_TYPE_BOOLEAN);

  return node != NULL && json_node_get_boolean (node);
}

JsonObject *
vma_json_object (JsonObject *object, const char *name)
{
  return object != NULL ? vma_json_node_object (json_object_get_member (object, name)) : NULL;
}

JsonArray *
vma_json_array (JsonObject *object, const char *name)
{
  return object != NULL ? vma_json_node_array (json_object_get_member (object, name)) : NULL;
}

JsonObject *
vma_json_element (JsonArray *array, guint i)
{
  return i < vma_json_length (array) ? vma_json_node_object (json_array_get_element (array, i))
                                     : NULL;
}

guint
vma_json_length (JsonArray *array)
{
  return array != NULL ? json_array_get_length (array) : 0;
}

JsonObject *
vma_json_node_object (JsonNode *node)
{
  return node != NULL && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

JsonArray *
vma_json_node_array (JsonNode *node)
{
  return node != NULL && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

JsonNode *
vma_json_make (const char *first, ...)
{
  JsonObject *object = json_object_new ();
  va_list args;

  va_start (args, first);
  for (const char *key = first; key != NULL; key = va_arg (args, const char *)) {
    const char *colon = strrchr (key, ':');
    g_assert (colon != NULL);
    g_autofree char *name = g_strndup (key, (gsize) (colon - key));
    switch (colon[1]) {
    case 's': {
      const char *text = va_arg (args, const char *);
      if (text != NULL) {
        g_autofree char *valid = g_utf8_make_valid (text, -1);
        json_object_set_string_member (object, name, valid);
      }
      break;
    }
    case 'i':
      json_object_set_int_member (object, name, va_arg (args, gint64));
      break;
    case 'b':
      json_object_set_boolean_member (object, name, va_arg (args, gboolean));
      break;
    case 'o': {
      JsonNode *node = va_arg (args, JsonNode *);
      if (node != NULL)
        json_object_set_member (object, name, node);
      break;
    }
    default:
      g_assert_not_reached ();
    }
  }
  va_end (args);
  JsonNode *node = json_node_alloc ();
  json_node_init_object (node, object);
  json_object_unref (object);
  return node;
}

JsonNode *
vma_json_list (JsonNode *first, ...)
{
  JsonArray *array = json_array_new ();
  va_list args;

  va_start (args, first);
  for (JsonNode *node = first; node != NULL; node = va_arg (args, JsonNode *))
    json_array_add_element (array, node);
  va_end (args);
  JsonNode *node = json_node_alloc ();
  json_node_init_array (node, array);
  json_array_unref (array);
  return node;
}

JsonNode *
vma_json_strings (const char *const *strings)
{
  JsonNode *list = vma_json_list (NULL, NULL);

  for (; strings != NULL && *strings != NULL; strings++)
    json_array_add_string_element (json_node_get_array (list), *strings);
  return list;
}

char *
vma_json_line (JsonNode *node)
{
  return json_to_string (node, FALSE);
}
