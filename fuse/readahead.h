/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's read-ahead setting of a mount.  Main thread.
 */
#pragma once

#include <glib.h>

/*
 * Opens the file that sets it for the mount at this (absolute) path, without touching the mount itself,
 * which may not answer yet.  -1 where there is none, or it is not ours to write.
 */
int vma_readahead_open (const char *mountpoint);
