/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MD5 sums of many extent headers at once, on two threads.
 *
 * A mostly empty disk is a run of bare headers, and their sums are half of what scanning them costs.
 * Owns its helper thread, which is started on first use and sleeps between uses.  Belongs to the
 * scanner's thread.
 */
#pragma once

#include <glib.h>

typedef struct VmaPrecheck VmaPrecheck;

VmaPrecheck *vma_precheck_new (void);
void vma_precheck_free (VmaPrecheck *precheck);

/*
 * Looks at data[0..size) as headers of 512 bytes back to back and sets good[i] where the i-th begins
 * as an extent header does and its MD5 is right.  A FALSE says nothing.
 */
void vma_precheck_run (VmaPrecheck *precheck, const guint8 *data, gsize size, gboolean *good);
