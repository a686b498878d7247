/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/orders.h"

#include "backup/names.h"

#include <string.h>
#include <unistd.h>

#define FIRST_FD 3

typedef enum {
  STRING,
  DESCRIPTOR, /* a string that may be fd:NAME */
  NUMBER,
  FLAG,
  LIST,  /* an array of strings, joined with ',' */
  FILES, /* an array of strings, one option each */
} Kind;

static const struct {
  const char *name;
  Kind kind;
} known[] = {
  { "qmp", DESCRIPTOR },       { "id", STRING },
  { "configs", FILES },        { "devices", LIST },
  { "exclude", LIST },         { "speed", NUMBER },
  { "compress", STRING },      { "mount", STRING },
  { "incremental", STRING },   { "bitmap", STRING },
  { "delta", FLAG },           { "vmstate", FLAG },
  { "sync", STRING },          { "cbw-timeout", NUMBER },
  { "scratch", STRING },       { "on-full", STRING },
  { "scratch-limit", NUMBER },
};

static gboolean
refuse (GError **error, const char *name, const char *what)
{
  g_set_error (error, VMA_CONTROL_ERROR, VMA_CONTROL_REFUSED, "'%s' %s", name, what);
  return FALSE;
}

/* "fd:NAME" as the number that the descriptor will have; other text as it is. */
static char *
take_descriptor (VmaOrder *order, VmaClient *client, const char *text, GError **error)
{
  if (!g_str_has_prefix (text, "fd:"))
    return g_strdup (text);
  int fd = vma_client_take_fd (client, text + 3);
  if (fd < 0) {
    refuse (error, text + 3, "is no descriptor that was passed with getfd");
    return NULL;
  }
  g_array_append_val (order->fds, fd);
  return g_strdup_printf ("fd:%u", FIRST_FD + order->fds->len - 1);
}

static void
add_option (GPtrArray *argv, const char *name, const char *value)
{
  g_ptr_array_add (argv, value != NULL ? g_strdup_printf ("--%s=%s", name, value)
                                       : g_strdup_printf ("--%s", name));
}

static gboolean
add_list (GPtrArray *argv, const char *name, Kind kind, JsonNode *node, GError **error)
{
  JsonArray *array = vma_json_node_array (node);
  g_autoptr (GString) joined = g_string_new (NULL);

  if (array == NULL)
    return refuse (error, name, "is an array of strings");
  for (guint i = 0; i < vma_json_length (array); i++) {
    JsonNode *one = json_array_get_element (array, i);
    const char *text = JSON_NODE_HOLDS_VALUE (one) ? json_node_get_string (one) : NULL;
    if (text == NULL)
      return refuse (error, name, "is an array of strings");
    if (kind == FILES)
      add_option (argv, "config", text);
    else if (strchr (text, ',') != NULL)
      return refuse (error, name, "has a name with a comma");
    else
      g_string_append_printf (joined, "%s%s", i > 0 ? "," : "", text);
  }
  if (kind == LIST && vma_json_length (array) > 0)
    add_option (argv, name, joined->str);
  return TRUE;
}

static gboolean
add_value (VmaOrder *order, VmaClient *client, GPtrArray *argv, const char *name, Kind kind,
           JsonNode *node, GError **error)
{
  GType type = JSON_NODE_HOLDS_VALUE (node) ? json_node_get_value_type (node) : G_TYPE_INVALID;

  if (kind == LIST || kind == FILES)
    return add_list (argv, name, kind, node, error);
  if (kind == FLAG) {
    if (type != G_TYPE_BOOLEAN)
      return refuse (error, name, "is true or false");
    if (json_node_get_boolean (node))
      add_option (argv, name, NULL);
    return TRUE;
  }
  if (kind == NUMBER) {
    if (type != G_TYPE_INT64 || json_node_get_int (node) < 0)
      return refuse (error, name, "is a number");
    g_autofree char *text = g_strdup_printf ("%" G_GINT64_FORMAT, json_node_get_int (node));
    add_option (argv, name, text);
    return TRUE;
  }
  if (type != G_TYPE_STRING)
    return refuse (error, name, "is a string");
  g_autofree char *text = kind == DESCRIPTOR
                              ? take_descriptor (order, client, json_node_get_string (node), error)
                              : g_strdup (json_node_get_string (node));
  if (text != NULL)
    add_option (argv, name, text);
  return text != NULL;
}

static gboolean
add_argument (VmaOrder *order, VmaClient *client, GPtrArray *argv, const char *name, JsonNode *node,
              GError **error)
{
  if (strcmp (name, "target") == 0) /* comes last */
    return TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (known); i++)
    if (strcmp (known[i].name, name) == 0)
      return add_value (order, client, argv, name, known[i].kind, node, error);
  return refuse (error, name, "is no argument of backup");
}

static gboolean
add_all (VmaOrder *order, VmaClient *client, JsonObject *arguments, GPtrArray *argv, GError **error)
{
  g_autoptr (GList) names = arguments != NULL ? json_object_get_members (arguments) : NULL;
  const char *target = vma_json_string (arguments, "target");

  for (GList *name = names; name != NULL; name = name->next)
    if (!add_argument (order, client, argv, name->data,
                       json_object_get_member (arguments, name->data), error))
      return FALSE;
  if (target == NULL)
    return TRUE; /* a view has none */
  if (strcmp (target, "-") == 0)
    return refuse (error, "target", "cannot be standard output");
  char *text = take_descriptor (order, client, target, error);
  if (text == NULL)
    return FALSE;
  g_ptr_array_add (argv, g_strdup ("--"));
  g_ptr_array_add (argv, text);
  return TRUE;
}

VmaOrder *
vma_order_new (const char *program, VmaClient *client, JsonObject *arguments, GError **error)
{
  g_autoptr (VmaOrder) order = g_new0 (VmaOrder, 1);
  GPtrArray *argv = g_ptr_array_new ();
  const char *id = vma_json_string (arguments, "id");

  order->fds = g_array_new (FALSE, FALSE, sizeof (int));
  order->id = g_strdup (id != NULL ? id : "");
  g_ptr_array_add (argv, g_strdup (program));
  g_ptr_array_add (argv, g_strdup ("run"));
  g_ptr_array_add (argv, g_strdup ("--json"));
  gboolean sound = add_all (order, client, arguments, argv, error);
  g_ptr_array_add (argv, NULL);
  order->argv = (char **) g_ptr_array_free (argv, FALSE);
  if (sound && !vma_id_is_valid (order->id))
    sound = refuse (error, "id",
                    "is missing, or has other characters than letters, digits, '-', "
                    "'_' and '.'");
  if (sound && vma_json_string (arguments, "qmp") == NULL)
    sound = refuse (error, "qmp", "is missing");
  return sound ? g_steal_pointer (&order) : NULL;
}

void
vma_order_free (VmaOrder *order)
{
  for (guint i = 0; i < order->fds->len; i++)
    close (g_array_index (order->fds, int, i));
  g_array_unref (order->fds);
  g_strfreev (order->argv);
  g_free (order->id);
  g_free (order);
}
