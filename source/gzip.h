/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gzip, with stock zlib: a pass, with checkpoints at the boundaries of deflate blocks and at the
 * beginnings of members.  Members may be concatenated, zeros may follow the last one.  The crc32 and
 * length of every member are verified in the pass.
 *
 * The state of a checkpoint is at most 32 KiB of what came before it; see gzip-window.h.
 */
#pragma once

#include "source/codec.h"

extern const VmaCodec vma_gzip_codec;
