/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The zstd seekable format: independent frames, and a table of their sizes in a skippable frame at
 * the file's end.  VmaCodec.walk().
 *
 * The table is only believed where everything about it fits: it fills its frame, the sizes add up
 * to the file, and a frame that could give what is said begins wherever one should.  Else
 * VMA_ERROR_UNSUPPORTED: the file is a zstd file like any other, and the pass will do.
 *
 * Any thread.
 */
#pragma once

#include "source/codec.h"

gboolean vma_zstd_walk (const VmaCodecInput *input, const VmaCodecLimits *limits,
                        const VmaPassSink *sink, guint64 *total, GCancellable *cancellable,
                        GError **error);
