/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What of the system the driver needs for a mount, as a plan for sandbox/.  Main thread, before
 * there are others.
 */
#pragma once

#include "fuse/options.h"

/*
 * Confines this process to what mounting with these options takes, and puts what came of it into
 * `options->confined`.  FALSE and an error where it fails, or is less than -o sandbox demands.
 */
gboolean vma_confine (VmaMountOptions *options, GError **error);
