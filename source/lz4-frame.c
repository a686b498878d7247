/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/lz4-frame.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <xxhash.h>

gboolean
lz4_set_damaged (guint64 offset, const char *what, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "lz4 at %" G_GUINT64_FORMAT " of the file: %s",
               offset, what);
  return FALSE;
}

gboolean
lz4_set_unsupported (guint64 offset, const char *what, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "lz4 at %" G_GUINT64_FORMAT " of the file: %s", offset, what);
  return FALSE;
}

gboolean
lz4_frame_parse_flags (guint8 flags, guint8 sizes, guint64 offset, Lz4Frame *frame, GError **error)
{
  guint size_code = (sizes >> 4) & 7;

  if ((flags >> 6) != 1 || (flags & 2) != 0 || (sizes & 0x8f) != 0 || size_code < 4)
    return lz4_set_damaged (offset, "an impossible frame header", error);
  frame->flags = flags;
  frame->sizes = sizes;
  frame->independent = (flags & 0x20) != 0;
  frame->block_checksum = (flags & 0x10) != 0;
  frame->content_size = (flags & 0x08) != 0;
  frame->content_checksum = (flags & 0x04) != 0;
  frame->dictionary = (flags & 0x01) != 0;
  frame->block_max = 1u << (8 + 2 * size_code);
  if (frame->dictionary)
    return lz4_set_unsupported (offset, "a frame that needs a dictionary", error);
  return TRUE;
}

gsize
lz4_frame_header_size (const Lz4Frame *frame)
{
  return 4 + 2 + (frame->content_size ? 8 : 0) + 1;
}

gboolean
lz4_frame_check (const Lz4Frame *frame, const guint8 *header, guint64 offset, GError **error)
{
  gsize size = lz4_frame_header_size (frame);

  if (header[size - 1] != ((XXH32 (header + 4, size - 5, 0) >> 8) & 0xff))
    return lz4_set_damaged (offset, "checksum mismatch in a frame header", error);
  return TRUE;
}

guint64
lz4_frame_content_size (const guint8 *header)
{
  return vma_get_le64 (header + 6);
}

guint32
lz4_block_size (guint32 word, gboolean *stored)
{
  *stored = (word & 0x80000000u) != 0;
  return word & 0x7fffffffu;
}

/* A length that goes on in further bytes while these are 255. */
static gboolean
read_length (const guint8 **p, const guint8 *end, gsize *length)
{
  guint8 byte;

  do {
    if (*p == end)
      return FALSE;
    byte = *(*p)++;
    *length += byte;
  } while (byte == 255);
  return TRUE;
}

gsize
lz4_block_measure (const guint8 *block, gsize size, gsize max)
{
  const guint8 *p = block, *end = block + size;
  gsize out = 0;

  while (p < end) {
    guint8 token = *p++;
    gsize literals = token >> 4, match = token & 15;
    if (literals == 15 && !read_length (&p, end, &literals))
      return 0;
    if (literals > (gsize) (end - p) || literals > max - out)
      return 0;
    p += literals;
    out += literals;
    if (p == end) /* the last sequence has no match */
      return out;
    if (end - p < 2)
      return 0;
    gsize distance = vma_get_le16 (p);
    p += 2;
    if (distance == 0 || distance > out || (match == 15 && !read_length (&p, end, &match)))
      return 0;
    match += 4;
    if (match > max - out)
      return 0;
    out += match;
  }
  return 0;
}
