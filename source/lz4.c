/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/lz4.h"

#include "source/lz4-frame.h"
#include "source/lz4-stream.h"
#include "source/packed-reader.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>
#include <xxhash.h>

/* One block of the usual size; where a window must be kept, further apart. */
#define SPACING (4u << 20)
#define SPACING_LINKED (16u << 20)

#define INPUT_SIZE (256u << 10)

static gboolean
lz4_probe (const guint8 *head, gsize size)
{
  if (size < 4)
    return FALSE;
  guint32 magic = vma_get_le32 (head);
  return magic == LZ4_MAGIC || magic == LZ4_MAGIC_LEGACY;
}

typedef struct {
  Lz4Stream stream;
  VmaPassSink sink;
  guint64 spacing;
  guint64 out, last; /* the archive's bytes so far, and those at the last checkpoint */
  GByteArray *kept;  /* input of an incomplete part */
} Lz4Pass;

static void
lz4_pass_free (VmaPass *base)
{
  Lz4Pass *pass = (Lz4Pass *) base;

  lz4_stream_clear (&pass->stream);
  g_byte_array_unref (pass->kept);
  g_free (pass);
}

static VmaPass *
lz4_pass_new (const VmaCheckpoint *from, const VmaCodecLimits *limits, const VmaPassSink *sink,
              GError **error)
{
  Lz4Pass *pass = g_new0 (Lz4Pass, 1);

  pass->sink = *sink;
  pass->spacing = limits->spacing;
  pass->out = pass->last = from->out;
  pass->kept = g_byte_array_new ();
  lz4_stream_init (&pass->stream, from->in);
  if (!lz4_stream_restore (&pass->stream, from, error)) {
    lz4_pass_free ((VmaPass *) pass);
    return NULL;
  }
  return (VmaPass *) pass;
}

static gboolean
emit_if_due (Lz4Pass *pass, GError **error)
{
  const Lz4Stream *stream = &pass->stream;
  guint64 spacing
      = stream->frame.independent ? pass->spacing : MAX (pass->spacing, SPACING_LINKED);
  VmaCheckpoint checkpoint = { stream->offset, pass->out, NULL, 0 };

  if (stream->part != LZ4_PART_BLOCK && stream->part != LZ4_PART_MAGIC)
    return TRUE;
  if (pass->out - pass->last < spacing)
    return TRUE;
  g_autoptr (GBytes) state
      = stream->part == LZ4_PART_BLOCK ? lz4_stream_save (stream) : NULL;
  checkpoint.state = state;
  pass->last = pass->out;
  return pass->sink.checkpoint (pass->sink.data, &checkpoint, error);
}

/* Decodes what is complete of bytes[0..size); *used of them. */
static gboolean
feed_parts (Lz4Pass *pass, const guint8 *bytes, gsize size, gsize *used, GError **error)
{
  *used = 0;
  for (;;) {
    gsize step, need, made;
    if (!lz4_stream_step (&pass->stream, bytes + *used, size - *used, &step, &need, error))
      return FALSE;
    if (need > 0)
      return TRUE;
    *used += step;
    const guint8 *out = lz4_stream_output (&pass->stream, &made);
    if (made > 0 && !pass->sink.output (pass->sink.data, out, made, error))
      return FALSE;
    pass->out += made;
    if (!emit_if_due (pass, error))
      return FALSE;
  }
}

static gboolean
lz4_pass_feed (VmaPass *base, const guint8 *bytes, gsize size, GError **error)
{
  Lz4Pass *pass = (Lz4Pass *) base;
  gsize used;

  if (size == 0)
    return TRUE;
  /* At most a block (4 MiB) is ever kept. */
  g_byte_array_append (pass->kept, bytes, (guint) size);
  if (!feed_parts (pass, pass->kept->data, pass->kept->len, &used, error))
    return FALSE;
  if (used > 0)
    g_byte_array_remove_range (pass->kept, 0, (guint) used);
  return TRUE;
}

static gboolean
lz4_pass_end (VmaPass *base, GError **error)
{
  Lz4Pass *pass = (Lz4Pass *) base;

  if (pass->kept->len == 0 && lz4_stream_may_end (&pass->stream))
    return TRUE;
  return lz4_set_damaged (pass->stream.offset, "the file ends inside a frame", error);
}

/* Reads and decodes parts until one gives output. */
static gboolean
decode_next (Lz4Stream *stream, VmaReader *reader, GError **error)
{
  gsize want = 4, used, need, made;

  do {
    const guint8 *bytes = vma_reader_peek (reader, want, error);
    if (bytes == NULL
        || !lz4_stream_step (stream, bytes, reader->end - reader->begin, &used, &need, error))
      return FALSE;
    want = need > 0 ? need : 4;
    if (need == 0)
      vma_reader_skip (reader, used);
    if (stream->part == LZ4_PART_SKIP)
      want = 1;
    lz4_stream_output (stream, &made);
  } while (made == 0);
  return TRUE;
}

typedef struct {
  Lz4Stream stream;
  VmaReader reader;
  gsize taken; /* of the stream's output */
} Lz4Decoder;

static void
lz4_decoder_free (VmaDecoder *base)
{
  Lz4Decoder *decoder = (Lz4Decoder *) base;

  lz4_stream_clear (&decoder->stream);
  vma_reader_clear (&decoder->reader);
  g_free (decoder);
}

static VmaDecoder *
lz4_decoder_new (const VmaCheckpoint *from, const VmaCodecInput *input,
                 const VmaCodecLimits *limits G_GNUC_UNUSED, GError **error)
{
  Lz4Decoder *decoder = g_new0 (Lz4Decoder, 1);

  lz4_stream_init (&decoder->stream, from->in);
  vma_reader_init (&decoder->reader, input, from->in, INPUT_SIZE);
  if (!lz4_stream_restore (&decoder->stream, from, error)) {
    lz4_decoder_free ((VmaDecoder *) decoder);
    return NULL;
  }
  /* Contents were verified in the pass; here the hashes of the pieces do that. */
  decoder->stream.whole = FALSE;
  return (VmaDecoder *) decoder;
}

static gboolean
lz4_decoder_read (VmaDecoder *base, guint8 *out, gsize size, GError **error)
{
  Lz4Decoder *decoder = (Lz4Decoder *) base;

  while (size > 0) {
    gsize there;
    const guint8 *bytes = lz4_stream_output (&decoder->stream, &there);
    if (decoder->taken == there) {
      if (!decode_next (&decoder->stream, &decoder->reader, error))
        return FALSE;
      decoder->taken = 0;
      continue;
    }
    gsize n = MIN (size, there - decoder->taken);
    memcpy (out, bytes + decoder->taken, n);
    decoder->taken += n;
    out += n;
    size -= n;
  }
  return TRUE;
}

static gboolean
lz4_decode (const VmaCheckpoint *from, const VmaCodecInput *input, const VmaCodecLimits *limits,
            guint8 *out, gsize size, GError **error)
{
  VmaDecoder *decoder = lz4_decoder_new (from, input, limits, error);

  if (decoder == NULL)
    return FALSE;
  gboolean ok = lz4_decoder_read (decoder, out, size, error);
  lz4_decoder_free (decoder);
  return ok;
}

typedef struct {
  const VmaPassSink *sink;
  guint64 spacing;
  guint64 out, last;
  Lz4Frame frame;
} Walk;

static gboolean
walk_emit (Walk *walk, guint64 in, GError **error)
{
  guint8 packed[2] = { walk->frame.flags, walk->frame.sizes };
  g_autoptr (GBytes) state = g_bytes_new (packed, sizeof packed);
  VmaCheckpoint checkpoint = { in, walk->out, state, 0 };

  walk->last = walk->out;
  return walk->sink->checkpoint (walk->sink->data, &checkpoint, error);
}

/* A frame's header.  *skip is the size of a skippable frame instead, and 0 else. */
static gboolean
walk_header (Walk *walk, VmaReader *reader, guint64 *skip, GError **error)
{
  guint64 at = reader->offset;
  const guint8 *p = vma_reader_peek (reader, 8, error);

  if (p == NULL)
    return FALSE;
  guint32 magic = vma_get_le32 (p);
  *skip = 0;
  if ((magic & ~15u) == LZ4_MAGIC_SKIPPABLE) {
    *skip = 8 + (guint64) vma_get_le32 (p + 4);
    return TRUE;
  }
  if (magic == LZ4_MAGIC_LEGACY)
    return lz4_set_unsupported (at, "the legacy format", error);
  if (magic != LZ4_MAGIC)
    return lz4_set_damaged (at, "this is not the header of a frame", error);
  if (!lz4_frame_parse_flags (p[4], p[5], at, &walk->frame, error))
    return FALSE;
  if (!walk->frame.independent || !walk->frame.block_checksum)
    return lz4_set_unsupported (at, "a frame that must be decoded to be indexed", error);
  p = vma_reader_peek (reader, lz4_frame_header_size (&walk->frame), error);
  if (p == NULL || !lz4_frame_check (&walk->frame, p, at, error))
    return FALSE;
  vma_reader_skip (reader, lz4_frame_header_size (&walk->frame));
  return TRUE;
}

/* What a block decodes to; a damaged one is taken to be full, and said to be so. */
static gsize
measure (const Walk *walk, const guint8 *data, guint32 size, gboolean stored, gboolean *damaged)
{
  gsize plain = stored ? size : lz4_block_measure (data, size, walk->frame.block_max);

  *damaged = XXH32 (data, size, 0) != vma_get_le32 (data + size) || plain == 0;
  return *damaged ? walk->frame.block_max : plain;
}

/* One block.  *end where it was the mark that ends the frame. */
static gboolean
walk_block (Walk *walk, VmaReader *reader, gboolean *end, GError **error)
{
  guint64 at = reader->offset;
  gboolean stored, damaged;
  const guint8 *p = vma_reader_peek (reader, 4, error);

  if (p == NULL)
    return FALSE;
  guint32 size = lz4_block_size (vma_get_le32 (p), &stored);
  *end = size == 0 && !stored;
  if (*end) {
    vma_reader_skip (reader, 4);
    if (!walk->frame.content_checksum)
      return TRUE;
    if (vma_reader_peek (reader, 4, error) == NULL)
      return FALSE;
    vma_reader_skip (reader, 4);
    return TRUE;
  }
  if (size > walk->frame.block_max)
    return lz4_set_damaged (at, "a block is too large", error);
  p = vma_reader_peek (reader, 8 + (gsize) size, error);
  if (p == NULL)
    return FALSE;
  gsize plain = measure (walk, p + 4, size, stored, &damaged);
  if (plain == 0)
    return lz4_set_damaged (at, "an empty block", error);
  /* A damaged block is a chunk by itself: what it shares a chunk with would be lost as well. */
  if (walk->out > walk->last && (damaged || walk->out + plain - walk->last > walk->spacing)
      && !walk_emit (walk, at, error))
    return FALSE;
  vma_reader_skip (reader, 8 + (gsize) size);
  walk->out += plain;
  return !damaged || walk_emit (walk, reader->offset, error);
}

static gboolean
walk_frames (Walk *walk, VmaReader *reader, GCancellable *cancellable, GError **error)
{
  GError *local_error = NULL;

  while (!vma_reader_at_end (reader, &local_error) && local_error == NULL) {
    guint64 skip;
    gboolean end = FALSE;
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "indexing was cancelled");
      return FALSE;
    }
    if (!walk_header (walk, reader, &skip, error))
      return FALSE;
    if (skip > 0)
      vma_reader_skip (reader, skip);
    while (skip == 0 && !end)
      if (!walk_block (walk, reader, &end, error))
        return FALSE;
  }
  if (local_error != NULL)
    g_propagate_error (error, local_error);
  return local_error == NULL;
}

static gboolean
lz4_walk (const VmaCodecInput *input, const VmaCodecLimits *limits, const VmaPassSink *sink,
          guint64 *total, GCancellable *cancellable, GError **error)
{
  Walk walk = { .sink = sink, .spacing = limits->spacing };
  g_auto (VmaReader) reader;

  vma_reader_init (&reader, input, 0, INPUT_SIZE);
  gboolean ok = walk_frames (&walk, &reader, cancellable, error);
  *total = walk.out;
  /* What is whole stays readable: before damage, and before a frame that needs a pass, which begins
   * with a header. */
  if (!ok && walk.out > walk.last) {
    VmaCheckpoint checkpoint = { reader.offset, walk.out, NULL, 0 };
    sink->checkpoint (sink->data, &checkpoint, NULL);
  }
  return ok;
}

const VmaCodec vma_lz4_codec = {
  .kind = "lz4",
  .probe = lz4_probe,
  .pass_new = lz4_pass_new,
  .pass_feed = lz4_pass_feed,
  .pass_end = lz4_pass_end,
  .pass_free = lz4_pass_free,
  .walk = lz4_walk,
  .decode = lz4_decode,
  .spacing = SPACING,
  .decoder_new = lz4_decoder_new,
  .decoder_read = lz4_decoder_read,
  .decoder_free = lz4_decoder_free,
};
