/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/codec.h"

#include "source/zstd/decode.h"
#include "source/zstd/frame.h"
#include "source/zstd/pass.h"
#include "source/zstd/seektable.h"

#include "vma/bytes.h"

/*
 * Skippable frames are shared with lz4: where one comes first, what follows it must be seen.  One
 * that is larger than the head is taken for zstd, which uses them more.
 */
static gboolean
probe (const guint8 *head, gsize size)
{
  while (size >= 4) {
    guint32 magic = vma_get_le32 (head);
    if (magic == VMA_ZSTD_MAGIC)
      return TRUE;
    if ((magic & ~0xFu) != VMA_ZSTD_SKIPPABLE_MAGIC || size < VMA_ZSTD_SKIPPABLE_HEADER)
      return FALSE;
    guint64 skip = (guint64)vma_get_le32 (head + 4) + VMA_ZSTD_SKIPPABLE_HEADER;
    if (skip >= size)
      return TRUE;
    head += skip;
    size -= (gsize)skip;
  }
  return FALSE;
}

const VmaCodec vma_zstd_codec = {
  .kind = "zstd",
  .probe = probe,
  .pass_new = vma_zstd_pass_new,
  .pass_feed = vma_zstd_pass_feed,
  .pass_end = vma_zstd_pass_end,
  .pass_free = vma_zstd_pass_free,
  .walk = vma_zstd_walk,
  .decode = vma_zstd_decode,
};
