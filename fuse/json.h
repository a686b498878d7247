/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON for the status files.
 */
#pragma once

#include "image/archive.h"
#include "sandbox/sandbox.h"

#include <json-glib/json-glib.h>

/* Members of the object that is open. */
void vma_json_string (JsonBuilder *json, const char *name, const char *value);
void vma_json_number (JsonBuilder *json, const char *name, guint64 value);
void vma_json_bool (JsonBuilder *json, const char *name, gboolean value);

/* What a sandbox has, as the member "sandbox" of the object that is open. */
void vma_json_sandbox (JsonBuilder *json, const VmaSandboxReport *report);

/* "building", "complete" or "failed". */
const char *vma_json_index_state (VmaArchive *archive);

/* What was built, indented, with a newline. */
GBytes *vma_json_to_bytes (JsonBuilder *json);
