/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool config: prints a config as it stands in the archive.
 */
#include "base/json-put.h"
#include "tool/command.h"
#include "tool/confine.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"

#include <stdio.h>
#include <string.h>

/* What Proxmox calls a guest's config. */
#define USUAL_NAME "qemu-server.conf"

static const VmaConfig *
find (VmaArchive *archive, const char *name)
{
  const GPtrArray *configs = vma_archive_header (archive)->configs;

  for (guint i = 0; i < configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs, i);
    if (strcmp (config->name, name) == 0
        || strcmp (vma_names_config (vma_archive_names (archive), i), name) == 0)
      return config;
  }
  return NULL;
}

/* The config of that name; without one the usual one, or the only one. */
static const VmaConfig *
choose (VmaArchive *archive, const char *name)
{
  const GPtrArray *configs = vma_archive_header (archive)->configs;
  const VmaConfig *config = find (archive, name != NULL ? name : USUAL_NAME);

  if (config == NULL && name == NULL && configs->len == 1)
    config = g_ptr_array_index (configs, 0);
  if (config != NULL)
    return config;

  g_autoptr (GString) there = g_string_new (configs->len == 0 ? "it has none" : "it has");
  for (guint i = 0; i < configs->len; i++)
    g_string_append_printf (there, "%s %s", i > 0 ? "," : "",
                            vma_names_config (vma_archive_names (archive), i));
  tool_error ("%s: no config '%s': %s", vma_archive_path (archive),
              name != NULL ? name : USUAL_NAME, there->str);
  return NULL;
}

static void
add_json (JsonBuilder *json, const VmaConfig *config)
{
  gsize size;
  const char *data = g_bytes_get_data (config->data, &size);

  json_builder_begin_object (json);
  vma_json_put_string (json, "name", config->name);
  vma_json_put_int (json, "size", size);
  if (g_utf8_validate_len (data, size, NULL)) {
    g_autofree char *text = g_strndup (data, size);
    vma_json_put_string (json, "data", text);
  } else {
    g_autofree char *text = g_base64_encode ((const guchar *) data, size);
    vma_json_put_string (json, "data_base64", text);
  }
  json_builder_end_object (json);
}

static void
print_json (VmaArchive *archive, const VmaConfig *only)
{
  const GPtrArray *configs = vma_archive_header (archive)->configs;
  g_autoptr (JsonBuilder) json = json_builder_new ();

  json_builder_begin_array (json);
  for (guint i = 0; i < configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs, i);
    if (only == NULL || config == only)
      add_json (json, config);
  }
  json_builder_end_array (json);
  vma_json_print (json);
}

int
tool_config (int argc, char **argv)
{
  g_autofree char *name = NULL;
  gboolean as_json = FALSE;
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &name,
      "Which one (default: " USUAL_NAME ", or the only one)", "NAME" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "Print JSON; without -c, all configs", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE|-",
    .about = "Prints a config of an archive as it is.",
    .entries = entries, .min = 1, .max = 1,
  };
  g_autoptr (GError) error = NULL;
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  tool_confine_to (arguments[0], "none");
  g_autoptr (VmaArchive) archive = tool_open (arguments[0], NULL, FALSE, &error);
  if (archive == NULL)
    return tool_fail (error, NULL);

  const VmaConfig *config = NULL;
  if (name != NULL || !as_json) {
    config = choose (archive, name);
    if (config == NULL)
      return TOOL_FAILED;
  }
  if (as_json)
    print_json (archive, config);
  else
    fwrite (g_bytes_get_data (config->data, NULL), 1, g_bytes_get_size (config->data), stdout);
  return TOOL_OK;
}
