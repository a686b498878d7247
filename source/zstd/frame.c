/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/frame.h"

#include "vma/bytes.h"
#include "vma/error.h"

/* Formats of before zstd 0.8 had these magics, 0.1 another one. */
#define LEGACY_FIRST 0xFD2FB522u
#define LEGACY_LAST 0xFD2FB527u
#define LEGACY_01 0x1EB52FFDu

static gssize
refuse (GError **error, VmaError code, const char *reason)
{
  g_set_error_literal (error, VMA_ERROR, (gint)code, reason);
  return -1;
}

static gssize
parse_skippable (const guint8 *data, gsize size, VmaZstdFrame *frame)
{
  if (size < VMA_ZSTD_SKIPPABLE_HEADER)
    return VMA_ZSTD_SKIPPABLE_HEADER;
  *frame = (VmaZstdFrame){ .skippable = TRUE, .skip = vma_get_le32 (data + 4) };
  return VMA_ZSTD_SKIPPABLE_HEADER;
}

/* The field's width depends on two bits of the descriptor, and on whether there is a window. */
static guint64
content_size (const guint8 *field, gsize width)
{
  switch (width) {
  case 1:
    return field[0];
  case 2:
    return (guint64)vma_get_le16 (field) + 256;
  case 4:
    return vma_get_le32 (field);
  case 8:
    return vma_get_le64 (field);
  default:
    return VMA_ZSTD_CONTENT_UNKNOWN;
  }
}

gssize
vma_zstd_frame_parse (const guint8 *data, gsize size, VmaZstdFrame *frame, GError **error)
{
  static const guint8 id_width[4] = { 0, 1, 2, 4 };
  static const guint8 content_width[4] = { 0, 2, 4, 8 };
  gsize at = 5;

  if (size < 4)
    return 5;

  guint32 magic = vma_get_le32 (data);
  if ((magic & ~0xFu) == VMA_ZSTD_SKIPPABLE_MAGIC)
    return parse_skippable (data, size, frame);
  if ((magic >= LEGACY_FIRST && magic <= LEGACY_LAST) || magic == LEGACY_01)
    return refuse (error, VMA_ERROR_UNSUPPORTED, "a frame of a format older than zstd 0.8");
  if (magic != VMA_ZSTD_MAGIC)
    return refuse (error, VMA_ERROR_DAMAGED, "no zstd frame where one must begin");
  if (size < at)
    return (gssize)at;

  guint8 descriptor = data[4];
  gboolean single = (descriptor & 0x20) != 0;
  gsize id = id_width[descriptor & 3];
  gsize content = content_width[descriptor >> 6];
  if (single && content == 0)
    content = 1;
  gsize needed = at + (single ? 0 : 1) + id + content;
  if (descriptor & 0x08)
    return refuse (error, VMA_ERROR_UNSUPPORTED, "a frame header with a reserved bit set");
  if (size < needed)
    return (gssize)needed;

  *frame = (VmaZstdFrame){ .checksum = (descriptor & 0x04) != 0 };
  if (!single) {
    guint64 base = G_GUINT64_CONSTANT (1) << (10 + (data[at] >> 3));
    frame->window = base + base / 8 * (data[at] & 7);
    at++;
  }
  for (gsize i = 0; i < id; i++)
    if (data[at + i] != 0)
      return refuse (error, VMA_ERROR_UNSUPPORTED, "a frame that needs a dictionary");
  frame->content = content_size (data + at + id, content);
  if (single)
    frame->window = frame->content;
  if (frame->window > VMA_ZSTD_WINDOW_MAX)
    return refuse (error, VMA_ERROR_UNSUPPORTED, "a frame with a window of more than 2 GiB");
  return (gssize)needed;
}

gboolean
vma_zstd_block_parse (const guint8 data[VMA_ZSTD_BLOCK_HEADER], VmaZstdBlock *block)
{
  guint32 header = data[0] | ((guint32)data[1] << 8) | ((guint32)data[2] << 16);
  guint type = (header >> 1) & 3;

  block->last = (header & 1) != 0;
  block->size = header >> 3;
  block->body = type == VMA_ZSTD_BLOCK_RLE ? 1 : block->size;
  if (type > VMA_ZSTD_BLOCK_COMPRESSED || block->size > VMA_ZSTD_BLOCK_MAX)
    return FALSE;
  block->type = (VmaZstdBlockType)type;
  return TRUE;
}

void
vma_zstd_block_write (guint8 data[VMA_ZSTD_BLOCK_HEADER], VmaZstdBlockType type, gboolean last,
                      guint32 size)
{
  guint32 header = (size << 3) | ((guint32)type << 1) | (last ? 1 : 0);

  data[0] = (guint8)header;
  data[1] = (guint8)(header >> 8);
  data[2] = (guint8)(header >> 16);
}

guint
vma_zstd_window_log (guint64 window)
{
  /* A window of less than a block would make libzstd refuse blocks that the real frame allows once
   * they are rewritten; it costs nothing to be generous. */
  guint log = 17;

  while ((G_GUINT64_CONSTANT (1) << log) < window)
    log++;
  return log;
}

gsize
vma_zstd_frame_write_plain (guint8 data[VMA_ZSTD_PLAIN_HEADER], guint window_log)
{
  vma_put_le32 (data, VMA_ZSTD_MAGIC);
  data[4] = 0;
  data[5] = (guint8)((window_log - 10) << 3);
  return VMA_ZSTD_PLAIN_HEADER;
}
