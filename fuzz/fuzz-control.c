/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client says to a control socket, a line each.  Each gets one line of JSON as its answer;
 * an order for a backup becomes a command line whose options are whole words.
 */
#include "backup/orders.h"
#include "fuzz/input.h"
#include "fuzz/standalone.h"

#include <string.h>

static JsonNode *
handle (gpointer data G_GNUC_UNUSED, VmaClient *client, const char *command, JsonObject *arguments,
        GError **error)
{
  g_autoptr (VmaOrder) order = vma_order_new ("vmabackup", client, arguments, error);
  gboolean rest = FALSE;

  CHECK (command != NULL);
  if (order == NULL)
    return NULL;
  CHECK (g_strv_length (order->argv) >= 5 && strcmp (order->argv[1], "run") == 0);
  for (char **word = order->argv + 2; *word != NULL; word++) {
    CHECK (rest || g_str_has_prefix (*word, "--"));
    CHECK (!rest || word[1] == NULL);
    rest = rest || strcmp (*word, "--") == 0;
  }
  return vma_json_make (NULL, NULL);
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  VmaClient *client = vma_client_new (handle, NULL);
  const char *text = (const char *) bytes, *end = text + size;

  while (text < end) {
    const char *stop = memchr (text, '\n', (gsize) (end - text));
    gsize length = (gsize) ((stop != NULL ? stop : end) - text);
    g_autofree char *answer = vma_client_answer (client, text, length, -1);
    CHECK (strchr (answer, '\n') == NULL);
    g_autoptr (JsonObject) again = vma_json_parse (answer, strlen (answer), NULL);
    CHECK (again != NULL);
    CHECK (json_object_has_member (again, "return") != json_object_has_member (again, "error"));
    text += length + (stop != NULL);
  }
  vma_client_free (client);
  return 0;
}
