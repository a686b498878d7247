/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lzop: blocks that are independent of each other, with both lengths in front, so that a walk over
 * their headers finds every place.  The checksums that a block carries (adler32, crc32, of the packed
 * and of the plain bytes) are verified when it is decoded; a damaged block spoils reads inside it and
 * no others.  Files may be concatenated.
 *
 * The state of a checkpoint is the flags of the file's header (which say what checksums there are);
 * without a state, a header comes first.
 */
#pragma once

#include "source/codec.h"

extern const VmaCodec vma_lzop_codec;
