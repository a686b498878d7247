/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents made by a small program that the fuzzer writes: sums are right where it does not ask for
 * wrong ones, and all that can go wrong with extents can be had.
 */
#pragma once

#include "fuzz/input.h"

#define EXTENTS_ARCHIVE_MAX (1u << 20)

/* Carries the program out, which takes all of the input; the archive's header stands there. */
void extents_build (GByteArray *archive, Input *input);
