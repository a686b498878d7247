/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/status-parts.h"

#include "base/json-put.h"

void
vma_status_sandbox (JsonBuilder *json, const VmaSandboxReport *report)
{
  const char *missing = vma_sandbox_missing (report);
  g_autofree char *capabilities
      = g_strdup_printf ("%016" G_GINT64_MODIFIER "x", report->capabilities);

  json_builder_set_member_name (json, "sandbox");
  json_builder_begin_object (json);
  vma_json_put_string (json, "state", report->off ? "off" : missing != NULL ? "partial" : "on");
  if (missing != NULL)
    vma_json_put_string (json, "missing", missing);
  if (!report->off) {
    vma_json_put_int (json, "landlock", (guint64) report->landlock);
    vma_json_put_bool (json, "seccomp", report->seccomp);
    vma_json_put_bool (json, "no-new-privileges", report->no_new_privileges);
    vma_json_put_string (json, "capabilities", capabilities);
  }
  json_builder_end_object (json);
}

const char *
vma_status_index_state (VmaArchive *archive)
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
