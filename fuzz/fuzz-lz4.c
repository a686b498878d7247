/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a lz4 file: indexed, then every chunk decoded again from its checkpoint, which must
 * give what the pass gave.  With FUZZ_STDIN, a program that takes one input.
 */
#include "source/lz4.h"

#define FUZZ_CODEC vma_lz4_codec

#include "fuzz/fuzz-gzip-lzop-lz4.h"
