/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the status files of an archive and of a directory have in common.
 */
#pragma once

#include "image/archive.h"
#include "sandbox/sandbox.h"

#include <json-glib/json-glib.h>

/* What a sandbox has, as the member "sandbox" of the object that is open. */
void vma_status_sandbox (JsonBuilder *json, const VmaSandboxReport *report);

/* "building", "complete" or "failed". */
const char *vma_status_index_state (VmaArchive *archive);
