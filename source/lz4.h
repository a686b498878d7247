/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lz4 frames, concatenated and with skippable ones between them; not the legacy format.
 *
 * A block does not say how much it decodes to.  Where the blocks are independent and each carries a
 * checksum, a walk finds that out by looking at the lengths inside the blocks, without decoding; a
 * block whose checksum is wrong spoils reads inside it and no others.  It is then taken to be a full
 * one, as all but the last of a frame are that the usual tools write.
 *
 * All others need a pass: only that can verify the checksum of the whole content, which is all the
 * protection they have.  (A pass that was taken up inside a frame cannot verify that frame's.)
 *
 * The state of a checkpoint is the frame's flags and, where blocks are linked, the 64 KiB before it.
 */
#pragma once

#include "source/codec.h"

extern const VmaCodec vma_lz4_codec;
