/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/json-put.h"
#include "fuse/directory-impl.h"
#include "fuse/status-parts.h"

#include <unistd.h>

static const char *
state_name (const VmaMember *entry)
{
  switch (entry->state) {
  case VMA_MEMBER_CLOSED:
    return "closed";
  case VMA_MEMBER_OPENING:
    return "opening";
  case VMA_MEMBER_CLOSING:
    return "closing";
  case VMA_MEMBER_OPEN:
    break;
  }
  return entry->mounted->archive != NULL ? "open" : "broken";
}

/* The caller holds the lock, and frees it. */
static char *
dup_failure (const VmaMember *entry)
{
  return entry->state == VMA_MEMBER_OPEN ? vma_mounted_dup_failure (entry->mounted)
                                         : g_strdup (entry->failure);
}

static void
add_entry (JsonBuilder *json, const VmaMember *entry)
{
  json_builder_begin_object (json);
  vma_json_put_string (json, "name", entry->name);
  vma_json_put_string (json, "file", entry->file);
  vma_json_put_int (json, "size", (guint64) entry->st.st_size);
  vma_json_put_bool (json, "growing", entry->growing);
  vma_json_put_string (json, "state", state_name (entry));
  if (entry->state == VMA_MEMBER_OPEN) {
    vma_json_put_int (json, "users", atomic_load (&entry->mounted->users));
    if (entry->mounted->archive != NULL)
      vma_json_put_string (json, "index", vma_status_index_state (entry->mounted->archive));
  }
  g_autofree char *failure = dup_failure (entry);
  if (failure != NULL)
    vma_json_put_string (json, "failure", failure);
  json_builder_end_object (json);
}

GBytes *
vma_directory_status (VmaDirectory *directory)
{
  g_autoptr (JsonBuilder) json = json_builder_new ();

  vma_directory_refresh (directory, FALSE, NULL);
  VMA_LOCK (&directory->lock);
  json_builder_begin_object (json);
  vma_json_put_string (json, "directory", directory->path);
  vma_json_put_string (json, "version", VMAFS_VERSION);
  vma_json_put_int (json, "pid", (guint64) getpid ());
  vma_json_put_bool (json, "salvage", directory->options->salvage);
  vma_status_sandbox (json, &directory->options->confined);
  vma_json_put_bool (json, "readable", !directory->unreadable);
  vma_json_put_int (json, "open", directory->slots);
  vma_json_put_int (json, "max-open", directory->options->max_open);
  vma_json_put_int (json, "idle", directory->options->idle);
  json_builder_set_member_name (json, "archives");
  json_builder_begin_array (json);
  for (guint i = 0; i < directory->listed->len; i++)
    add_entry (json, g_ptr_array_index (directory->listed, i));
  json_builder_end_array (json);
  json_builder_end_object (json);
  return vma_json_to_bytes (json);
}

GBytes *
vma_directory_error_list (VmaDirectory *directory)
{
  GString *text = g_string_new (NULL);

  VMA_LOCK (&directory->lock);
  for (guint i = 0; i < directory->listed->len; i++) {
    const VmaMember *entry = g_ptr_array_index (directory->listed, i);
    g_autofree char *failure = dup_failure (entry);
    if (failure != NULL)
      g_string_append_printf (text, "%s: %s\n", entry->name, failure);
  }
  return g_string_free_to_bytes (text);
}
