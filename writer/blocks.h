/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks of a cluster are zero.  Pure.
 */
#pragma once

#include "vma/format.h"

#include <glib.h>

/*
 * The mask of the blocks in data[0..size) that are not all zero; size <= 64 KiB, and a last block that
 * is cut short counts with what is there.
 */
guint16 vma_blocks_mask (const guint8 *data, gsize size);
