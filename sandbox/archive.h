/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What reading an archive takes, as part of a plan.
 */
#pragma once

#include "sandbox/sandbox.h"

/* The archive at `path`, which may be a URI, or "-" for standard input.  FALSE: there is none. */
gboolean vma_sandbox_allow_archive (VmaSandbox *sandbox, const char *path);

/* The cache directory, which is made if it is not there. */
void vma_sandbox_allow_cache (VmaSandbox *sandbox, const char *directory);
