/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer/blocks.h"

#include <string.h>

guint16
vma_blocks_mask (const guint8 *data, gsize size)
{
  static const guint8 zeros[VMA_BLOCK_SIZE];
  guint16 mask = 0;

  g_assert (size <= VMA_CLUSTER_SIZE);
  for (guint i = 0; i * VMA_BLOCK_SIZE < size; i++) {
    gsize n = MIN (VMA_BLOCK_SIZE, size - i * VMA_BLOCK_SIZE);
    /* memcmp() runs at the speed of memory; nothing cleverer is needed. */
    if (memcmp (data + i * VMA_BLOCK_SIZE, zeros, n) != 0)
      mask = (guint16) (mask | 1u << i);
  }
  return mask;
}
