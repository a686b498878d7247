/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the checksums of a compressed file right, and the lengths that stand beside them, so that a
 * fuzzer gets past them: gzip, lzop, lz4 and zstd, as far as the file can be decoded.
 */
#pragma once

#include <glib.h>

/* Whether anything was changed. */
gboolean repair_sums (guint8 *file, gsize size);
