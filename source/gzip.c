/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/gzip.h"

#include "source/gzip-stream.h"
#include "source/gzip-window.h"
#include "source/packed-reader.h"
#include "vma/error.h"

#include <string.h>

/* Inflate is slow: checkpoints are close together. */
#define SPACING (3u << 20)

#define OUTPUT_SIZE (128u << 10)
#define INPUT_SIZE (64u << 10)

/* A checkpoint whose window is not known to be used yet. */
typedef struct {
  VmaCheckpoint checkpoint;
  GzipState state;
  GByteArray *input; /* what was read behind it */
} Pending;

typedef struct {
  GzipStream stream;
  VmaPassSink sink;
  guint64 spacing;
  guint64 out;  /* the archive's bytes so far */
  guint64 last; /* where the last checkpoint is */
  Pending *pending;
  guint8 output[OUTPUT_SIZE];
} GzipPass;

static void
pending_free (Pending *pending)
{
  g_byte_array_unref (pending->input);
  g_free (pending);
}

static gboolean
gzip_probe (const guint8 *head, gsize size)
{
  return size >= 3 && head[0] == 0x1f && head[1] == 0x8b && head[2] == 8;
}

/* Sets a stream up in the middle of a member. */
static gboolean
resume (GzipStream *stream, const VmaCheckpoint *from, GError **error)
{
  g_autofree GzipState *state = g_new (GzipState, 1);

  if (from->state == NULL)
    return TRUE;
  if (!gzip_state_unpack (from->state, state)
      || (state->bits > 0
          && inflatePrime (&stream->z, (int) state->bits, state->byte >> (8 - state->bits)) != Z_OK)
      || inflateSetDictionary (&stream->z, state->window, state->window_size) != Z_OK) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                 "the saved checkpoint at %" G_GUINT64_FORMAT " is damaged", from->out);
    return FALSE;
  }
  stream->phase = GZIP_DEFLATE;
  stream->crc = state->crc;
  stream->size = state->size;
  stream->last_byte = state->byte;
  return TRUE;
}

static void
gzip_pass_free (VmaPass *base)
{
  GzipPass *pass = (GzipPass *) base;

  gzip_stream_clear (&pass->stream);
  g_clear_pointer (&pass->pending, pending_free);
  g_free (pass);
}

static VmaPass *
gzip_pass_new (const VmaCheckpoint *from, const VmaCodecLimits *limits, const VmaPassSink *sink,
               GError **error)
{
  GzipPass *pass = g_new0 (GzipPass, 1);

  pass->sink = *sink;
  pass->spacing = limits->spacing;
  pass->out = pass->last = from->out;
  if (!gzip_stream_init (&pass->stream, from->in, TRUE, error)) {
    g_free (pass);
    return NULL;
  }
  if (!resume (&pass->stream, from, error)) {
    gzip_pass_free ((VmaPass *) pass);
    return NULL;
  }
  return (VmaPass *) pass;
}

static Pending *
pending_new (GzipPass *pass)
{
  Pending *pending = g_new0 (Pending, 1);
  const GzipStream *stream = &pass->stream;
  uInt size = 0;

  pending->checkpoint.in = stream->offset;
  pending->checkpoint.out = pass->out;
  pending->state.bits = (guint) stream->z.data_type & 7;
  pending->state.byte = stream->last_byte;
  pending->state.crc = stream->crc;
  pending->state.size = stream->size;
  inflateGetDictionary (&pass->stream.z, pending->state.window, &size);
  pending->state.window_size = size;
  pending->input = g_byte_array_new ();
  return pending;
}

static gboolean
emit_pending (GzipPass *pass, GError **error)
{
  Pending *pending = pass->pending;
  gsize produced = (gsize) (pass->out - pending->checkpoint.out);
  /* With a part of a window's worth one knows nothing of the rest, unless the member ends there. */
  gboolean all = produced < GZIP_WINDOW && pass->stream.phase == GZIP_DEFLATE;
  g_autoptr (GBytes) state = gzip_state_pack (&pending->state, pending->input->data,
                                              pending->input->len, MIN (produced, GZIP_WINDOW),
                                              all);

  pending->checkpoint.state = state;
  gboolean ok = pass->sink.checkpoint (pass->sink.data, &pending->checkpoint, error);
  g_clear_pointer (&pass->pending, pending_free);
  return ok;
}

/* Whether enough is known of a pending checkpoint. */
static gboolean
pending_is_ready (const GzipPass *pass)
{
  return pass->out - pass->pending->checkpoint.out >= GZIP_WINDOW
         || pass->pending->input->len >= GZIP_LOOK_AHEAD || pass->stream.phase != GZIP_DEFLATE;
}

static gboolean
is_due (const GzipPass *pass)
{
  return pass->pending == NULL && pass->out - pass->last >= pass->spacing;
}

/* A member begins: nothing before it is needed. */
static gboolean
at_member (GzipPass *pass, GError **error)
{
  VmaCheckpoint checkpoint = { .in = pass->stream.offset, .out = pass->out };

  if (!is_due (pass))
    return TRUE;
  pass->last = pass->out;
  return pass->sink.checkpoint (pass->sink.data, &checkpoint, error);
}

/* After a step that read `in` and put `made` bytes into the output buffer. */
static gboolean
after_step (GzipPass *pass, GzipStep step, const guint8 *in, gsize in_size, gsize made,
            GError **error)
{
  if (made > 0 && !pass->sink.output (pass->sink.data, pass->output, made, error))
    return FALSE;
  pass->out += made;
  if (pass->pending != NULL) {
    g_byte_array_append (pass->pending->input, in, (guint) in_size);
    if (pending_is_ready (pass) && !emit_pending (pass, error))
      return FALSE;
  }
  if (step == GZIP_STEP_MEMBER)
    return at_member (pass, error);
  if (step == GZIP_STEP_BOUNDARY && is_due (pass)) {
    pass->pending = pending_new (pass);
    pass->last = pass->out;
  }
  return TRUE;
}

static gboolean
gzip_pass_feed (VmaPass *base, const guint8 *bytes, gsize size, GError **error)
{
  GzipPass *pass = (GzipPass *) base;

  for (;;) {
    const guint8 *in = bytes;
    guint8 *out = pass->output;
    gsize room = pass->pending != NULL ? GZIP_WINDOW : OUTPUT_SIZE, left = room;
    gsize in_left = pass->pending != NULL ? MIN (size, INPUT_SIZE) : size, in_given = in_left;
    GzipStep step
        = gzip_stream_step (&pass->stream, &in, &in_left, &out, &left, is_due (pass), error);
    gsize consumed = in_given - in_left;
    /* What came before an error still counts. */
    if (step == GZIP_STEP_FAILED) {
      if (room > left)
        pass->sink.output (pass->sink.data, pass->output, room - left, NULL);
      return FALSE;
    }
    if (!after_step (pass, step, bytes, consumed, room - left, error))
      return FALSE;
    bytes += consumed;
    size -= consumed;
    /* A full output buffer may mean that there is more without more input. */
    if (size == 0 && left > 0 && step == GZIP_STEP_MORE)
      return TRUE;
  }
}

static gboolean
gzip_pass_end (VmaPass *base, GError **error)
{
  GzipPass *pass = (GzipPass *) base;

  if (!gzip_stream_may_end (&pass->stream)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                 "gzip: the file ends at %" G_GUINT64_FORMAT ", inside a member",
                 pass->stream.offset);
    return FALSE;
  }
  return pass->pending == NULL || emit_pending (pass, error);
}

typedef struct {
  GzipStream stream;
  VmaReader reader;
} GzipDecoder;

static void
gzip_decoder_free (VmaDecoder *base)
{
  GzipDecoder *decoder = (GzipDecoder *) base;

  gzip_stream_clear (&decoder->stream);
  vma_reader_clear (&decoder->reader);
  g_free (decoder);
}

static VmaDecoder *
gzip_decoder_new (const VmaCheckpoint *from, const VmaCodecInput *input,
                  const VmaCodecLimits *limits G_GNUC_UNUSED, GError **error)
{
  GzipDecoder *decoder = g_new0 (GzipDecoder, 1);

  if (!gzip_stream_init (&decoder->stream, from->in, FALSE, error)) {
    g_free (decoder);
    return NULL;
  }
  vma_reader_init (&decoder->reader, input, from->in, INPUT_SIZE);
  if (!resume (&decoder->stream, from, error)) {
    gzip_decoder_free ((VmaDecoder *) decoder);
    return NULL;
  }
  return (VmaDecoder *) decoder;
}

static gboolean
gzip_decoder_read (VmaDecoder *base, guint8 *out, gsize size, GError **error)
{
  GzipDecoder *decoder = (GzipDecoder *) base;

  while (size > 0) {
    g_autoptr (GError) local_error = NULL;
    gsize given, left, before = size;
    const guint8 *in = vma_reader_peek_some (&decoder->reader, &given, error);
    if (in == NULL)
      return FALSE;
    left = given;
    /* It may see damage right behind what is wanted: that is for those who want more. */
    if (gzip_stream_step (&decoder->stream, &in, &left, &out, &size, FALSE, &local_error)
            == GZIP_STEP_FAILED
        && size > 0) {
      g_propagate_error (error, g_steal_pointer (&local_error));
      return FALSE;
    }
    vma_reader_skip (&decoder->reader, given - left);
    if (given == 0 && size == before) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                   "gzip: the file ends at %" G_GUINT64_FORMAT ", inside a member",
                   decoder->stream.offset);
      return FALSE;
    }
  }
  return TRUE;
}

static gboolean
gzip_decode (const VmaCheckpoint *from, const VmaCodecInput *input, const VmaCodecLimits *limits,
             guint8 *out, gsize size, GError **error)
{
  VmaDecoder *decoder = gzip_decoder_new (from, input, limits, error);

  if (decoder == NULL)
    return FALSE;
  gboolean ok = gzip_decoder_read (decoder, out, size, error);
  gzip_decoder_free (decoder);
  return ok;
}

const VmaCodec vma_gzip_codec = {
  .kind = "gzip",
  .probe = gzip_probe,
  .pass_new = gzip_pass_new,
  .pass_feed = gzip_pass_feed,
  .pass_end = gzip_pass_end,
  .pass_free = gzip_pass_free,
  .decode = gzip_decode,
  .spacing = SPACING,
  .decoder_new = gzip_decoder_new,
  .decoder_read = gzip_decoder_read,
  .decoder_free = gzip_decoder_free,
};
