/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The trick that makes a single frame seekable: a formatted zstd dictionary (RFC 8878, 5) holds
 * just what a decoder carries from block to block, so a checkpoint is turned into one, and libzstd
 * goes on from there.
 *
 * Pure, any thread.
 */
#pragma once

#include "source/zstd/checkpoint.h"

#include <glib.h>

/*
 * The dictionary of a checkpoint, to be freed with g_free().  NULL and VMA_ERROR_DAMAGED where the
 * state does not unpack, VMA_ERROR_UNSUPPORTED where it takes more than `memory` bytes.
 */
guint8 *vma_zstd_dictionary_new (const VmaZstdCheckpoint *checkpoint, guint64 memory, gsize *size,
                                 GError **error);
