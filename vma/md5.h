/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MD5 sums of headers: taken over the header with the sum's own 16 bytes zeroed.
 *
 * Pure; any thread.
 */
#pragma once

#include "vma/format.h"

#include <glib.h>

/* MD5 of data[0..size) as if the 16 bytes at `field` were zero.  field + 16 <= size. */
void vma_md5_around (const guint8 *data, gsize size, gsize field, guint8 digest[VMA_MD5_SIZE]);

/* Whether the 16 bytes at `field` are that sum. */
gboolean vma_md5_matches (const guint8 *data, gsize size, gsize field);
