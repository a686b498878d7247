/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pure parts of the control side of live backups: JSON of others, names, orders.
 */
#include "backup/bitmap.h"
#include "backup/line-reader.h"
#include "backup/names.h"
#include "backup/orders.h"
#include "vma/error.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void
refused (const char *text, gsize size, const char *why)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (vma_json_parse (text, size, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_INVALID);
  if (strstr (error->message, why) == NULL)
    g_error ("'%s' does not say '%s'", error->message, why);
}

static void
test_json_limits (void)
{
  g_autoptr (GString) deep = g_string_new ("{\"a\":");
  g_autofree char *long_text = g_malloc (VMA_JSON_MAX_LINE + 1);

  for (guint i = 0; i < VMA_JSON_MAX_DEPTH - 1; i++)
    g_string_append_c (deep, '[');
  for (guint i = 0; i < VMA_JSON_MAX_DEPTH - 1; i++)
    g_string_append_c (deep, ']');
  g_string_append_c (deep, '}');
  g_autoptr (JsonObject) sound = vma_json_parse (deep->str, deep->len, NULL);
  g_assert_nonnull (sound);
  g_string_insert_c (deep, 5, '[');
  refused (deep->str, deep->len, "deep");
  /* A comment, which the parser takes, would hide what follows from the count. */
  refused ("{/*\"*/}", 7, "comments");
  refused ("{\"a\": 1}\0x", 10, "UTF-8");
  refused ("{\"a\": \"\xff\"}", 10, "UTF-8");
  refused ("[1]", 3, "no object");
  refused ("{\"a\" 1}", 7, "invalid JSON");
  memset (long_text, ' ', VMA_JSON_MAX_LINE + 1);
  refused (long_text, VMA_JSON_MAX_LINE + 1, "long");
}

static void
test_json_types (void)
{
  static const char text[]
      = "{\"s\":\"x\",\"i\":5,\"d\":1.5,\"o\":{},\"a\":[1,{}],\"n\":null,\"b\":true}";
  g_autoptr (JsonObject) object = vma_json_parse (text, strlen (text), NULL);
  static const char *const names[] = { "s", "i", "d", "o", "a", "n", "b", "none" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    char kind = i < 7 ? names[i][0] : 0;
    g_assert_true ((vma_json_string (object, names[i]) != NULL) == (kind == 's'));
    g_assert_true ((vma_json_int (object, names[i], -1) == 5) == (kind == 'i'));
    g_assert_true ((vma_json_object (object, names[i]) != NULL) == (kind == 'o'));
    g_assert_true ((vma_json_array (object, names[i]) != NULL) == (kind == 'a'));
    g_assert_true (vma_json_bool (object, names[i]) == (kind == 'b'));
  }
  JsonArray *array = vma_json_array (object, "a");
  g_assert_null (vma_json_element (array, 0));
  g_assert_nonnull (vma_json_element (array, 1));
  g_assert_null (vma_json_element (array, 2));
  g_assert_null (vma_json_string (NULL, "a"));
}

static void
test_make (void)
{
  g_autoptr (JsonNode) node
      = vma_json_make ("a:s", "x\"y", "none:s", NULL, "n:i", (gint64) 5, "b:b", TRUE, "o:o",
                       vma_json_list (vma_json_make ("c:s", "d", NULL), NULL), NULL);
  g_autofree char *line = vma_json_line (node);

  g_assert_cmpstr (line, ==, "{\"a\":\"x\\\"y\",\"n\":5,\"b\":true,\"o\":[{\"c\":\"d\"}]}");
}

/* What QEMU takes as a node's name, and no prefix is the beginning of another. */
static void
test_node_names (void)
{
  static const char *const ids[] = { "a",
                                     "a-b",
                                     "a-b-c",
                                     "0123456789abcdef",
                                     "0123456789abcdefg",
                                     "0123456789abcdefh",
                                     "f81d4fae-7dec-11d0-a765-00a0c91e6bf6" };

  for (guint i = 0; i < G_N_ELEMENTS (ids); i++) {
    g_autofree char *prefix = vma_node_prefix (ids[i]);
    g_autofree char *name = vma_node_name (prefix, "snap", 253);
    g_assert_true (vma_id_is_valid (ids[i]));
    g_assert_cmpuint (strlen (name), <=, 31);
    for (guint k = 0; k < G_N_ELEMENTS (ids); k++) {
      g_autofree char *other = vma_node_prefix (ids[k]);
      g_assert_true (k == i || !g_str_has_prefix (other, prefix));
    }
  }
  g_assert_false (vma_id_is_valid (""));
  g_assert_false (vma_id_is_valid ("-a"));
  g_assert_false (vma_id_is_valid ("a/b"));
  g_assert_false (vma_id_is_valid (".."));
  g_assert_false (vma_id_is_valid ("serve"));
}

static void
test_graph (void)
{
  static const char text[] = "{\"nodes\":[{\"id\":1,\"type\":\"block-driver\",\"name\":\"up\"},"
                             "{\"id\":2,\"type\":\"block-driver\",\"name\":\"down\"},"
                             "{\"id\":3,\"type\":\"block-backend\",\"name\":\"x\"}],"
                             "\"edges\":[{\"parent\":3,\"child\":2,\"name\":\"file\"},"
                             "{\"parent\":1,\"child\":2,\"name\":\"file\"}]}";
  g_autoptr (JsonObject) graph = vma_json_parse (text, strlen (text), NULL);
  g_autofree char *child = vma_names_child (graph, "up", "file");
  g_autofree char *parent = vma_names_parent (graph, "down", "file");

  g_assert_cmpstr (child, ==, "down");
  g_assert_cmpstr (parent, ==, "up");
  g_assert_null (vma_names_child (graph, "up", "backing"));
  g_assert_null (vma_names_child (graph, "x", "file"));
}

static JsonNode *
no_commands (gpointer data G_GNUC_UNUSED, VmaClient *client G_GNUC_UNUSED, const char *command,
             JsonObject *arguments G_GNUC_UNUSED, GError **error)
{
  return vma_control_refuse (error, VMA_CONTROL_NO_COMMAND, "no %s", command);
}

static VmaOrder *
order_of (VmaClient *client, const char *text, GError **error)
{
  g_autoptr (JsonObject) arguments = vma_json_parse (text, strlen (text), NULL);

  g_assert_nonnull (arguments);
  return vma_order_new ("/bin/vmabackup", client, arguments, error);
}

static void
test_orders (void)
{
  VmaClient *client = vma_client_new (no_commands, NULL);
  static const char *const wrong[] = {
    "{\"qmp\":\"q\"}",
    "{\"id\":\"a\"}",
    "{\"id\":\"a/..\",\"qmp\":\"q\"}",
    "{\"id\":\"a\",\"qmp\":\"q\",\"colour\":1}",
    "{\"id\":\"a\",\"qmp\":\"q\",\"speed\":\"1\"}",
    "{\"id\":\"a\",\"qmp\":\"q\",\"speed\":-1}",
    "{\"id\":\"a\",\"qmp\":\"q\",\"devices\":\"b\"}",
    "{\"id\":\"a\",\"qmp\":\"q\",\"devices\":[\"b,c\"]}",
    "{\"id\":\"a\",\"qmp\":\"q\",\"target\":\"-\"}",
    "{\"id\":\"a\",\"qmp\":\"q\",\"target\":\"fd:none\"}",
  };
  g_autoptr (VmaOrder) order
      = order_of (client,
                  "{\"id\":\"a\",\"qmp\":\"q\",\"speed\":7,\"delta\":true,\"vmstate\":false,"
                  "\"devices\":[\"x\",\"y\"],\"configs\":[\"c=d\",\"-e\"],\"target\":\"--help\"}",
                  NULL);

  g_autofree char *line = g_strjoinv (" ", order->argv);
  g_assert_cmpstr (line, ==,
                   "/bin/vmabackup run --json --id=a --qmp=q --speed=7 --delta --devices=x,y "
                   "--config=c=d --config=-e -- --help");
  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_null (order_of (client, wrong[i], &error));
    g_assert_error (error, VMA_CONTROL_ERROR, VMA_CONTROL_REFUSED);
  }
  vma_client_free (client);
}

/* Takes an answer, and looks for a piece of it. */
static void
answers (VmaClient *client, const char *line, int fd, const char *piece)
{
  g_autofree char *answer = vma_client_answer (client, line, strlen (line), fd);

  if (strstr (answer, piece) == NULL)
    g_error ("%s: %s", line, answer);
}

static void
test_answers (void)
{
  VmaClient *client = vma_client_new (no_commands, NULL);
  int fd = open ("/dev/null", O_RDONLY), lost = dup (fd);

  answers (client, "{\"execute\":\"x\",\"id\":[1]}", -1, "\"id\":[1]");
  answers (client, "{\"execute\":\"getfd\"}", -1, "qmp_capabilities first");
  answers (client, "{\"execute\":\"qmp_capabilities\"}", -1, "{\"return\":{}}");
  answers (client, "{\"execute\":\"qmp_capabilities\"}", -1, "CommandNotFound");
  answers (client, "{\"execute\":7}", -1, "GenericError");
  answers (client, "nonsense", -1, "invalid JSON");
  answers (client, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"n\"}}", -1, "no descriptor");
  answers (client, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"n\"}}", fd, "return");
  g_assert_cmpint (vma_client_take_fd (client, "n"), ==, fd);
  g_assert_cmpint (vma_client_take_fd (client, "n"), ==, -1);
  /* One that nobody wants is closed. */
  answers (client, "{\"execute\":\"x\"}", lost, "CommandNotFound");
  g_assert_cmpint (fcntl (lost, F_GETFD), ==, -1);
  close (fd);
  vma_client_free (client);
}

static void
test_lines (void)
{
  int pair[2];
  gsize size;
  g_autoptr (GError) error = NULL;

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
  g_autoptr (VmaLineReader) lines = vma_line_reader_new (pair[0], -1, 8);
  g_assert_cmpint (write (pair[1], "\r\n\nab\r\n12345678\n123456789\n", 27), ==, 27);
  close (pair[1]);
  const char *line = vma_line_reader_next (lines, &size, NULL, NULL);
  g_assert_cmpmem (line, size, "ab", 2);
  line = vma_line_reader_next (lines, &size, NULL, NULL);
  g_assert_cmpmem (line, size, "12345678", 8);
  g_assert_null (vma_line_reader_next (lines, &size, NULL, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_INVALID);
  close (pair[0]);
}

static void
test_bitmap_names (void)
{
  guint8 uuid[VMA_UUID_SIZE] = { 0xf8, 0x1d };
  g_autofree char *name = vma_bitmap_name ("daily", uuid);

  g_assert_cmpstr (name, ==, "vmabackup:daily:f81d0000-0000-0000-0000-000000000000");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/backup/json-limits", test_json_limits);
  g_test_add_func ("/backup/json-types", test_json_types);
  g_test_add_func ("/backup/make", test_make);
  g_test_add_func ("/backup/node-names", test_node_names);
  g_test_add_func ("/backup/graph", test_graph);
  g_test_add_func ("/backup/orders", test_orders);
  g_test_add_func ("/backup/answers", test_answers);
  g_test_add_func ("/backup/lines", test_lines);
  g_test_add_func ("/backup/bitmap-names", test_bitmap_names);
  return g_test_run ();
}
