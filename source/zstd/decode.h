/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding from a checkpoint: VmaCodec.decode().
 *
 * Where the checkpoint says what its blocks give, and `size` is what some of them give, they are
 * decoded in one go into the caller's buffer.  So it is whenever that reaches to the next
 * checkpoint, and with most streams where it is a multiple of 128 KiB.  Everything else goes
 * through a window, one block at a time, and costs a tenth more.
 *
 * Any number of threads at once: nothing is shared.  Memory: the dictionary, and the compressed
 * bytes or a window.
 */
#pragma once

#include "source/codec.h"

gboolean vma_zstd_decode (const VmaCheckpoint *from, const VmaCodecInput *input,
                          const VmaCodecLimits *limits, guint8 *out, gsize size, GError **error);
