/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packed state: flags[1] sizes[1] then the window, deflated.
 */
#include "source/lz4-stream.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <lz4.h>
#include <string.h>
#include <xxhash.h>
#include <zlib.h>

#define STATE_FIXED 2u

void
lz4_stream_init (Lz4Stream *stream, guint64 offset)
{
  *stream = (Lz4Stream){ .part = LZ4_PART_MAGIC, .offset = offset };
  stream->hash = XXH32_createState ();
}

void
lz4_stream_clear (Lz4Stream *stream)
{
  XXH32_freeState (stream->hash);
  g_free (stream->buffer);
}

/* Room for the window and the largest block of the frame. */
static void
make_room (Lz4Stream *stream)
{
  gsize room = LZ4_WINDOW + (gsize) stream->frame.block_max;

  if (stream->room < room) {
    stream->buffer = g_realloc (stream->buffer, room);
    stream->room = room;
  }
}

/* Keeps the last 64 KiB in front of the block to come. */
static void
slide (Lz4Stream *stream)
{
  gsize all = stream->window + stream->size;
  gsize keep = stream->frame.independent ? 0 : MIN (all, LZ4_WINDOW);

  if (keep > 0 && all > keep)
    memmove (stream->buffer, stream->buffer + all - keep, keep);
  stream->window = keep;
  stream->size = 0;
}

GBytes *
lz4_stream_save (const Lz4Stream *stream)
{
  gsize all = stream->window + stream->size;
  gsize keep = stream->frame.independent ? 0 : MIN (all, LZ4_WINDOW);
  uLongf packed_size = compressBound (keep);
  guint8 *packed = g_malloc (STATE_FIXED + packed_size);

  packed[0] = stream->frame.flags;
  packed[1] = stream->frame.sizes;
  if (keep > 0)
    compress2 (packed + STATE_FIXED, &packed_size, stream->buffer + all - keep, keep, 6);
  else
    packed_size = 0;
  return g_bytes_new_take (packed, STATE_FIXED + packed_size);
}

gboolean
lz4_stream_restore (Lz4Stream *stream, const VmaCheckpoint *from, GError **error)
{
  gsize size;

  if (from->state == NULL)
    return TRUE;
  const guint8 *packed = g_bytes_get_data (from->state, &size);
  uLongf window = LZ4_WINDOW;
  if (size < STATE_FIXED
      || !lz4_frame_parse_flags (packed[0], packed[1], from->in, &stream->frame, NULL))
    goto damaged;
  make_room (stream);
  if (size == STATE_FIXED)
    window = 0;
  else if (uncompress (stream->buffer, &window, packed + STATE_FIXED, size - STATE_FIXED) != Z_OK)
    goto damaged;
  stream->window = window;
  stream->part = LZ4_PART_BLOCK;
  stream->whole = FALSE;
  return TRUE;

damaged:
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
               "the saved checkpoint at %" G_GUINT64_FORMAT " is damaged", from->out);
  return FALSE;
}

/* Sets *need where `size` bytes are not enough. */
static gboolean
has (gsize size, gsize wanted, gsize *need)
{
  *need = size < wanted ? wanted : 0;
  return *need == 0;
}

static gboolean
step_magic (Lz4Stream *stream, const guint8 *bytes, gsize size, gsize *used, gsize *need,
            GError **error)
{
  if (!has (size, 4, need))
    return TRUE;
  guint32 magic = vma_get_le32 (bytes);
  if ((magic & ~15u) == LZ4_MAGIC_SKIPPABLE) {
    if (!has (size, 8, need))
      return TRUE;
    stream->skip = vma_get_le32 (bytes + 4);
    stream->part = stream->skip > 0 ? LZ4_PART_SKIP : LZ4_PART_MAGIC;
    *used = 8;
    return TRUE;
  }
  if (magic == LZ4_MAGIC_LEGACY)
    return lz4_set_unsupported (stream->offset, "the legacy format", error);
  if (magic != LZ4_MAGIC)
    return lz4_set_damaged (stream->offset, "this is not the header of a frame", error);
  if (!has (size, 6, need))
    return TRUE;
  if (!lz4_frame_parse_flags (bytes[4], bytes[5], stream->offset, &stream->frame, error))
    return FALSE;
  if (!has (size, lz4_frame_header_size (&stream->frame), need))
    return TRUE;
  if (!lz4_frame_check (&stream->frame, bytes, stream->offset, error))
    return FALSE;
  stream->declared = stream->frame.content_size ? lz4_frame_content_size (bytes) : 0;
  stream->content = 0;
  stream->whole = TRUE;
  stream->window = 0;
  XXH32_reset (stream->hash, 0);
  make_room (stream);
  stream->part = LZ4_PART_BLOCK;
  *used = lz4_frame_header_size (&stream->frame);
  return TRUE;
}

static gboolean
end_frame (Lz4Stream *stream, GError **error)
{
  stream->part = stream->frame.content_checksum ? LZ4_PART_CHECKSUM : LZ4_PART_MAGIC;
  if (stream->whole && stream->frame.content_size && stream->declared != stream->content)
    return lz4_set_damaged (stream->offset, "the content size of the frame is wrong", error);
  return TRUE;
}

static gboolean
decode_block (Lz4Stream *stream, const guint8 *data, guint32 size, gboolean stored, GError **error)
{
  guint8 *out = stream->buffer + stream->window;

  if (stored) {
    memcpy (out, data, size);
    stream->size = size;
  } else {
    int got = LZ4_decompress_safe_usingDict ((const char *) data, (char *) out, (int) size,
                                             (int) stream->frame.block_max,
                                             (const char *) stream->buffer, (int) stream->window);
    if (got < 0)
      return lz4_set_damaged (stream->offset, "a block that cannot be decoded", error);
    stream->size = (gsize) got;
  }
  stream->content += stream->size;
  if (stream->whole && stream->frame.content_checksum)
    XXH32_update (stream->hash, out, stream->size);
  return TRUE;
}

static gboolean
step_block (Lz4Stream *stream, const guint8 *bytes, gsize size, gsize *used, gsize *need,
            GError **error)
{
  gboolean stored;

  if (!has (size, 4, need))
    return TRUE;
  guint32 block = lz4_block_size (vma_get_le32 (bytes), &stored);
  if (block == 0 && !stored) {
    *used = 4;
    return end_frame (stream, error);
  }
  if (block > stream->frame.block_max)
    return lz4_set_damaged (stream->offset, "a block is too large", error);
  gsize all = 4 + (gsize) block + (stream->frame.block_checksum ? 4 : 0);
  if (!has (size, all, need))
    return TRUE;
  if (stream->frame.block_checksum
      && XXH32 (bytes + 4, block, 0) != vma_get_le32 (bytes + 4 + block))
    return lz4_set_damaged (stream->offset, "checksum mismatch in a block", error);
  *used = all;
  return decode_block (stream, bytes + 4, block, stored, error);
}

static gboolean
step_checksum (Lz4Stream *stream, const guint8 *bytes, gsize size, gsize *used, gsize *need,
               GError **error)
{
  if (!has (size, 4, need))
    return TRUE;
  if (stream->whole && XXH32_digest (stream->hash) != vma_get_le32 (bytes))
    return lz4_set_damaged (stream->offset, "checksum mismatch in the frame that ends here", error);
  stream->part = LZ4_PART_MAGIC;
  *used = 4;
  return TRUE;
}

static gboolean
step_skip (Lz4Stream *stream, gsize size, gsize *used, gsize *need)
{
  if (!has (size, 1, need))
    return TRUE;
  *used = (gsize) MIN (size, stream->skip);
  stream->skip -= *used;
  if (stream->skip == 0)
    stream->part = LZ4_PART_MAGIC;
  return TRUE;
}

gboolean
lz4_stream_step (Lz4Stream *stream, const guint8 *bytes, gsize size, gsize *used, gsize *need,
                 GError **error)
{
  gboolean ok = FALSE;

  slide (stream);
  *used = *need = 0;
  switch (stream->part) {
  case LZ4_PART_MAGIC:
    ok = step_magic (stream, bytes, size, used, need, error);
    break;
  case LZ4_PART_BLOCK:
    ok = step_block (stream, bytes, size, used, need, error);
    break;
  case LZ4_PART_CHECKSUM:
    ok = step_checksum (stream, bytes, size, used, need, error);
    break;
  case LZ4_PART_SKIP:
    ok = step_skip (stream, size, used, need);
    break;
  }
  stream->offset += *used;
  return ok;
}

const guint8 *
lz4_stream_output (const Lz4Stream *stream, gsize *size)
{
  *size = stream->size;
  return stream->buffer != NULL ? stream->buffer + stream->window : NULL; /* before the first frame */
}

gboolean
lz4_stream_may_end (const Lz4Stream *stream)
{
  return stream->part == LZ4_PART_MAGIC && stream->frame.block_max > 0;
}
