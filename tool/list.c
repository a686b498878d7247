/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool list: what the header of an archive names.
 */
#include "base/json-put.h"
#include "tool/command.h"
#include "tool/confine.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"

static void
print_json (VmaArchive *archive)
{
  const VmaHeader *header = vma_archive_header (archive);
  const VmaNames *names = vma_archive_names (archive);
  g_autoptr (JsonBuilder) json = json_builder_new ();
  g_autofree char *uuid = tool_uuid_text (header->uuid);

  json_builder_begin_object (json);
  vma_json_put_string (json, "archive", vma_archive_path (archive));
  vma_json_put_string (json, "uuid", uuid);
  json_builder_set_member_name (json, "ctime");
  json_builder_add_int_value (json, header->ctime);

  vma_json_put_array (json, "configs");
  for (guint i = 0; i < header->configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (header->configs, i);
    json_builder_begin_object (json);
    vma_json_put_string (json, "name", config->name);
    vma_json_put_string (json, "file", vma_names_config (names, i));
    vma_json_put_int (json, "size", g_bytes_get_size (config->data));
    json_builder_end_object (json);
  }
  json_builder_end_array (json);

  vma_json_put_array (json, "devices");
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    json_builder_begin_object (json);
    vma_json_put_int (json, "id", device->id);
    vma_json_put_string (json, "name", device->name);
    vma_json_put_string (json, "file", vma_names_device (names, device->id));
    vma_json_put_int (json, "size", device->size);
    vma_json_put_bool (json, "vmstate", device->is_vmstate);
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
  json_builder_end_object (json);
  vma_json_print (json);
}

int
tool_list (int argc, char **argv)
{
  gboolean as_json = FALSE;
  const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "Print JSON", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE|-",
    .about = "Shows the configs, disks and time of an archive.  Reads nothing but its header.\n"
             "Names that no file can have are shown with %XX in them.",
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
  if (as_json)
    print_json (archive);
  else
    tool_print_listing (archive);
  return TOOL_OK;
}
