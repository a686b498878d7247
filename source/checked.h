/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A source whose data are checked against sums that were taken earlier (source/sums.h).
 *
 * Owns the source below and the sums.  The first read of a chunk reads all of it, and fails with
 * VMA_ERROR_DAMAGED where it is not what it was; later ones cost no more than a look at a bit.  What is read for
 * an index (VMA_READ_INDEX) goes through: headers have their own sums.  Any thread, no lock.
 */
#pragma once

#include "source/sums.h"

/* Takes over both.  `sums` are of this source. */
VmaSource *vma_checked_source_new (VmaSource *below, VmaSums *sums);
