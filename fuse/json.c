/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/json.h"

#include <string.h>

void
vma_json_string (JsonBuilder *json, const char *name, const char *value)
{
  json_builder_set_member_name (json, name);
  /* Paths are bytes; JSON is UTF-8. */
  g_autofree char *valid = g_utf8_make_valid (value, -1);
  json_builder_add_string_value (json, valid);
}

void
vma_json_number (JsonBuilder *json, const char *name, guint64 value)
{
  json_builder_set_member_name (json, name);
  json_builder_add_int_value (json, (gint64) value);
}

void
vma_json_bool (JsonBuilder *json, const char *name, gboolean value)
{
  json_builder_set_member_name (json, name);
  json_builder_add_boolean_value (json, value);
}

void
vma_json_sandbox (JsonBuilder *json, const VmaSandboxReport *report)
{
  const char *missing = vma_sandbox_missing (report);
  g_autofree char *capabilities
      = g_strdup_printf ("%016" G_GINT64_MODIFIER "x", report->capabilities);

  json_builder_set_member_name (json, "sandbox");
  json_builder_begin_object (json);
  vma_json_string (json, "state", report->off ? "off" : missing != NULL ? "partial" : "on");
  if (missing != NULL)
    vma_json_string (json, "missing", missing);
  if (!report->off) {
    vma_json_number (json, "landlock", (guint64) report->landlock);
    vma_json_bool (json, "seccomp", report->seccomp);
    vma_json_bool (json, "no-new-privileges", report->no_new_privileges);
    vma_json_string (json, "capabilities", capabilities);
  }
  json_builder_end_object (json);
}

const char *
vma_json_index_state (VmaArchive *archive)
{
  switch (vma_index_state (vma_archive_index (archive))) {
  case VMA_INDEX_COMPLETE:
    return "complete";
  case VMA_INDEX_FAILED:
    return "failed";
  default:
    return "building";
  }
}

GBytes *
vma_json_to_bytes (JsonBuilder *json)
{
  g_autoptr (JsonGenerator) generator = json_generator_new ();
  g_autoptr (JsonNode) root = json_builder_get_root (json);

  json_generator_set_root (generator, root);
  json_generator_set_pretty (generator, TRUE);
  g_autofree char *text = json_generator_to_data (generator, NULL);
  char *lines = g_strconcat (text, "\n", NULL);
  return g_bytes_new_take (lines, strlen (lines));
}
