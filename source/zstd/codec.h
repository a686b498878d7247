/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * zstd, all of it: single frames, many frames, skippable ones, the seekable format.
 *
 * A single frame is made seekable by a pass that finds checkpoints inside it; see analysis.h for
 * how, and dictionary.h for why that works.
 */
#pragma once

#include "source/codec.h"

extern const VmaCodec vma_zstd_codec;
