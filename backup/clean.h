/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takes out of a QEMU what live backups have put into it, from whatever state: the end of every
 * job, what the guard does for one that died, and `vmabackup clean`.
 *
 * QEMU is asked what there is; nothing need be known but the prefix of the names.
 */
#pragma once

#include "backup/qmp.h"

/*
 * Removes exports, jobs, nodes and filters whose names begin with `prefix`, puts back what stood
 * below the devices, with `repair` repairs bitmaps (backup/bitmap.h), and stops the NBD server if
 * it was ours and nobody needs it any more.  *removed (may be NULL) counts.  Goes on after an error
 * and returns the first.
 */
gboolean vma_clean (VmaQmp *qmp, const char *prefix, gboolean repair, guint *removed,
                    GError **error);

/* Prefixes of what is there: "vmabk-ID-", each once.  NULL with an error. */
char **vma_clean_list (VmaQmp *qmp, GError **error);
