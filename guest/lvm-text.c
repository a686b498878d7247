/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/lvm-text.h"

#include "vma/error.h"

#include <string.h>

#define MAX_DEPTH 8
#define MAX_ITEMS 200000

typedef struct {
  const char *p, *start, *end;
  guint items;
} Parser;

static VmaLvmNode *
node_new (char *name)
{
  VmaLvmNode *node = g_new0 (VmaLvmNode, 1);

  node->name = name;
  return node;
}

void
vma_lvm_node_free (VmaLvmNode *node)
{
  g_free (node->name);
  g_clear_pointer (&node->children, g_ptr_array_unref);
  g_clear_pointer (&node->values, g_ptr_array_unref);
  g_free (node);
}

static gboolean
broken (const Parser *parser, const char *why, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "LVM metadata, at byte %" G_GSIZE_FORMAT ": %s",
               (gsize) (parser->p - parser->start), why);
  return FALSE;
}

static void
skip_space (Parser *parser)
{
  for (; parser->p < parser->end; parser->p++)
    if (*parser->p == '#') {
      while (parser->p < parser->end && *parser->p != '\n')
        parser->p++;
      if (parser->p == parser->end)
        return;
    } else if (!g_ascii_isspace (*parser->p))
      return;
}

/* The next character that is no space, or 0 at the end. */
static char
peek (Parser *parser)
{
  skip_space (parser);
  return parser->p < parser->end ? *parser->p : '\0';
}

static gboolean
is_word (char c)
{
  return g_ascii_isalnum (c) || (c != '\0' && strchr ("_-.+", c) != NULL);
}

static char *
word (Parser *parser)
{
  const char *from = parser->p;

  while (parser->p < parser->end && is_word (*parser->p))
    parser->p++;
  return parser->p > from ? g_strndup (from, (gsize) (parser->p - from)) : NULL;
}

static gboolean
value (Parser *parser, GPtrArray *values, GError **error)
{
  if (++parser->items > MAX_ITEMS)
    return broken (parser, "too much of it", error);
  if (peek (parser) != '"') {
    char *text = word (parser);
    if (text == NULL)
      return broken (parser, "a value is expected", error);
    g_ptr_array_add (values, text);
    return TRUE;
  }
  GString *text = g_string_new (NULL);
  for (parser->p++; parser->p < parser->end && *parser->p != '"'; parser->p++) {
    if (*parser->p == '\\' && parser->end - parser->p > 1)
      parser->p++;
    g_string_append_c (text, *parser->p);
  }
  g_ptr_array_add (values, g_string_free (text, FALSE));
  if (parser->p == parser->end)
    return broken (parser, "a string does not end", error);
  parser->p++;
  return TRUE;
}

static gboolean
list (Parser *parser, GPtrArray *values, GError **error)
{
  for (parser->p++; peek (parser) != ']';) {
    if (!value (parser, values, error))
      return FALSE;
    char next = peek (parser);
    if (next == ',')
      parser->p++;
    else if (next != ']')
      return broken (parser, "a list does not end", error);
  }
  parser->p++;
  return TRUE;
}

static gboolean
section (Parser *parser, VmaLvmNode *node, guint depth, GError **error)
{
  node->children = g_ptr_array_new_with_free_func ((GDestroyNotify) vma_lvm_node_free);
  for (;;) {
    char next = peek (parser);

    if (next == (depth == 0 ? '\0' : '}')) {
      parser->p += depth > 0;
      return TRUE;
    }
    char *name = word (parser);
    if (name == NULL || ++parser->items > MAX_ITEMS) {
      g_free (name);
      return broken (parser, "a name is expected", error);
    }
    VmaLvmNode *child = node_new (name);
    g_ptr_array_add (node->children, child);
    next = peek (parser);
    if (next != '{' && next != '=')
      return broken (parser, "= or { is expected", error);
    parser->p++;
    if (next == '{') {
      if (depth == MAX_DEPTH)
        return broken (parser, "too deep", error);
      if (!section (parser, child, depth + 1, error))
        return FALSE;
    } else {
      child->values = g_ptr_array_new_with_free_func (g_free);
      if (!(peek (parser) == '[' ? list (parser, child->values, error)
                                 : value (parser, child->values, error)))
        return FALSE;
    }
  }
}

VmaLvmNode *
vma_lvm_text_parse (const char *text, gsize size, GError **error)
{
  const char *nul = memchr (text, '\0', size); /* it is padded with these */
  Parser parser = { .p = text, .start = text, .end = nul != NULL ? nul : text + size };
  g_autoptr (VmaLvmNode) root = node_new (NULL);

  return section (&parser, root, 0, error) ? g_steal_pointer (&root) : NULL;
}

static const VmaLvmNode *
child (const VmaLvmNode *node, const char *name)
{
  for (guint i = 0; node != NULL && node->children != NULL && i < node->children->len; i++) {
    const VmaLvmNode *candidate = g_ptr_array_index (node->children, i);
    if (strcmp (candidate->name, name) == 0)
      return candidate;
  }
  return NULL;
}

const VmaLvmNode *
vma_lvm_node_section (const VmaLvmNode *node, const char *name)
{
  const VmaLvmNode *found = child (node, name);

  return found != NULL && found->children != NULL ? found : NULL;
}

const char *
vma_lvm_node_string (const VmaLvmNode *node, const char *name, guint i)
{
  const VmaLvmNode *found = child (node, name);

  if (found == NULL || found->values == NULL || i >= found->values->len)
    return NULL;
  return g_ptr_array_index (found->values, i);
}

gboolean
vma_lvm_node_number (const VmaLvmNode *node, const char *name, guint i, guint64 *number)
{
  const char *text = vma_lvm_node_string (node, name, i);

  return text != NULL && g_ascii_string_to_unsigned (text, 10, 0, G_MAXUINT64, number, NULL);
}
