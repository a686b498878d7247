/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/decode.h"

#include "source/zstd/checkpoint.h"
#include "source/zstd/decoder.h"
#include "source/zstd/dictionary.h"
#include "source/zstd/frame.h"
#include "source/zstd/input.h"

#include "vma/error.h"

#include <string.h>
#include <zstd.h>

/* Compressed bytes are read in pieces of this size for decoding in one go. */
#define PIECE (512u << 10)

G_DEFINE_AUTOPTR_CLEANUP_FUNC (ZSTD_DCtx, ZSTD_freeDCtx)

/* What is to be done, and how far it is. */
typedef struct {
  const VmaCodecLimits *limits;
  VmaZstdInput in;
  guint8 *out;
  gsize size;
  gsize done;
  gboolean exact; /* the frames must give `size` bytes and no more */
} Job;

static gboolean
damaged (guint64 offset, const char *reason, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "offset %" G_GUINT64_FORMAT ": %s", offset,
               reason);
  return FALSE;
}

/* A block where not much room is left, and it may not give more. */
static gboolean
decode_last (Job *job, VmaZstdDecoder *decoder, const VmaZstdBlock *block, const guint8 *body,
             gsize *given, GError **error)
{
  gsize room = job->size - job->done;
  g_autofree guint8 *scratch = g_malloc (VMA_ZSTD_BLOCK_MAX);

  if (!vma_zstd_decoder_block (decoder, block, body, scratch, VMA_ZSTD_BLOCK_MAX, given, error))
    return FALSE;
  if (*given > room) {
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                         "the frame gives more than the seek table says");
    return FALSE;
  }
  memcpy (job->out + job->done, scratch, *given);
  return TRUE;
}

/* The blocks of one frame, until its end or until enough is there. */
static gboolean
decode_blocks (Job *job, VmaZstdDecoder *decoder, gboolean checksum, gboolean verify,
               GError **error)
{
  VmaZstdBlock block = { .last = FALSE };

  while (!block.last && (job->done < job->size || job->exact)) {
    const guint8 *data = vma_zstd_input_need (&job->in, VMA_ZSTD_BLOCK_HEADER, error);
    gsize given;

    if (data == NULL)
      return FALSE;
    if (!vma_zstd_block_parse (data, &block))
      return damaged (job->in.at, "the block's header is not valid", error);
    data = vma_zstd_input_need (&job->in, VMA_ZSTD_BLOCK_HEADER + block.body, error);
    if (data == NULL)
      return FALSE;
    const guint8 *body = data + VMA_ZSTD_BLOCK_HEADER;
    gsize room = job->size - job->done;
    if (job->exact && room < VMA_ZSTD_BLOCK_MAX
            ? !decode_last (job, decoder, &block, body, &given, error)
            : !vma_zstd_decoder_block (decoder, &block, body, job->out + job->done, room, &given,
                                       error)) {
      g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", job->in.at);
      return FALSE;
    }
    job->done += given;
    vma_zstd_input_skip (&job->in, VMA_ZSTD_BLOCK_HEADER + block.body);
  }
  if (!block.last || !checksum)
    return TRUE;
  const guint8 *sum = vma_zstd_input_need (&job->in, VMA_ZSTD_CHECKSUM, error);
  if (sum == NULL)
    return FALSE;
  if (verify && !vma_zstd_decoder_checksum (decoder, sum, error)) {
    g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", job->in.at);
    return FALSE;
  }
  vma_zstd_input_skip (&job->in, VMA_ZSTD_CHECKSUM);
  return TRUE;
}

/* A frame at its beginning. */
static gboolean
decode_frame (Job *job, VmaZstdDecoder *decoder, GError **error)
{
  VmaZstdFrame frame;
  gsize got;
  const guint8 *data = vma_zstd_input_peek (&job->in, VMA_ZSTD_FRAME_HEADER_MAX, &got, error);
  gssize size;

  if (data == NULL)
    return FALSE;
  size = vma_zstd_frame_parse (data, got, &frame, error);
  if (size >= 0 && (gsize)size > got)
    return damaged (job->in.at, "the stream ends too early", error);
  if (size < 0
      || (!frame.skippable
          && (!vma_zstd_check_memory (frame.window, frame.window, job->limits, error)
              || !vma_zstd_decoder_begin (decoder, data, (gsize)size, error)))) {
    g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", job->in.at);
    return FALSE;
  }
  vma_zstd_input_skip (&job->in, (gsize)size);
  if (frame.skippable) {
    vma_zstd_input_skip (&job->in, frame.skip);
    return TRUE;
  }
  return decode_blocks (job, decoder, frame.checksum, TRUE, error);
}

/* The rest of a frame, block by block. */
static gboolean
decode_rest (Job *job, VmaZstdDecoder *decoder, const VmaZstdCheckpoint *state, GError **error)
{
  if (!vma_zstd_decoder_resume (decoder, state, error)) {
    g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", job->in.at);
    return FALSE;
  }
  return decode_blocks (job, decoder, state->checksum, FALSE, error);
}

/* The blocks to decode in one go, as a frame of their own. */
typedef struct {
  guint8 *frame; /* owned */
  gsize size;
  gsize room;
  gsize blocks; /* bytes of the file that were taken: the rest of `frame` is read too far */
  guint64 gives;
  gboolean last;  /* the last of them is the frame's last */
  gboolean suits; /* FALSE: must go block by block after all */
} Batch;

static void
batch_clear (Batch *batch)
{
  g_clear_pointer (&batch->frame, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Batch, batch_clear)

/* Sees to it that the frame is at least `size` bytes long. */
static gboolean
batch_fill (Batch *batch, const VmaCodecInput *input, guint64 at, gsize size, GError **error)
{
  while (batch->size < size) {
    gsize want = MAX (PIECE, size - batch->size);

    if (batch->size + want > batch->room) {
      gsize room = MAX (batch->size + want, batch->room + batch->room / 2);
      guint8 *frame = g_try_realloc (batch->frame, room);
      if (frame == NULL) {
        g_set_error_literal (error, VMA_ERROR, VMA_ERROR_IO, "no memory for compressed blocks");
        return FALSE;
      }
      batch->frame = frame;
      batch->room = room;
    }
    gssize got = input->read (input->data, batch->frame + batch->size, want,
                              at + (batch->size - VMA_ZSTD_PLAIN_HEADER), error);
    if (got < 0)
      return FALSE;
    if (got == 0)
      return damaged (at + batch->blocks, "the file ends inside a frame", error);
    batch->size += (gsize)got;
  }
  return TRUE;
}

/* Whether the first block with sequences needs to be rewritten: not worth doing here. */
static gboolean
needs_pin (const VmaZstdCheckpoint *state, const guint8 *body, gsize size, gboolean *pin)
{
  gboolean found;
  g_autoptr (GByteArray) pinned = vma_zstd_tables_pin (&state->tables, body, size, &found);

  *pin = !found;
  return pinned != NULL;
}

/* Reads as many blocks as give `wanted` bytes. */
static gboolean
batch_read (Batch *batch, const VmaZstdCheckpoint *state, const VmaCodecInput *input, guint64 at,
            gsize wanted, GError **error)
{
  /* Blocks may give nothing at all, and there may be any number of such. */
  const gsize limit = wanted + wanted / 8 + PIECE;
  VmaZstdBlockSizes sizes;
  VmaZstdBlock block = { .last = FALSE };
  gsize last = 0;
  gsize end = VMA_ZSTD_PLAIN_HEADER;
  gboolean pin = TRUE;

  vma_zstd_block_sizes_begin (&sizes, &state->blocks);
  batch->size = VMA_ZSTD_PLAIN_HEADER;
  while (batch->gives < wanted) {
    if (block.last)
      return damaged (at + batch->blocks, "the frame ends too early", error);
    if (!batch_fill (batch, input, at, end + VMA_ZSTD_BLOCK_HEADER, error))
      return FALSE;
    if (!vma_zstd_block_parse (batch->frame + end, &block))
      return damaged (at + batch->blocks, "the block's header is not valid", error);
    last = end;
    end += VMA_ZSTD_BLOCK_HEADER + block.body;
    if (end > limit)
      return TRUE;
    if (!batch_fill (batch, input, at, end, error))
      return FALSE;
    if (pin && block.type == VMA_ZSTD_BLOCK_COMPRESSED
        && needs_pin (state, batch->frame + last + VMA_ZSTD_BLOCK_HEADER, block.body, &pin))
      return TRUE;
    batch->gives += block.type == VMA_ZSTD_BLOCK_COMPRESSED ? vma_zstd_block_sizes_next (&sizes)
                                                            : block.size;
    batch->blocks = end - VMA_ZSTD_PLAIN_HEADER;
  }
  batch->last = block.last;
  vma_zstd_frame_write_plain (batch->frame, vma_zstd_window_log (state->window));
  vma_zstd_block_write (batch->frame + last, block.type, TRUE, block.size);
  /* Through a window is quicker than into a buffer for all and from there. */
  batch->suits = batch->gives == wanted;
  return TRUE;
}

static gboolean
decompress (const Batch *batch, const guint8 *dictionary, gsize dictionary_size, guint8 *out,
            GError **error)
{
  g_autoptr (ZSTD_DCtx) context = ZSTD_createDCtx ();
  gsize got;

  if (context == NULL) {
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_IO, "no memory for a zstd decoder");
    return FALSE;
  }
  got = ZSTD_decompress_usingDict (context, out, (gsize)batch->gives, batch->frame,
                                   VMA_ZSTD_PLAIN_HEADER + batch->blocks, dictionary,
                                   dictionary_size);
  if (ZSTD_isError (got)) {
    vma_zstd_set_error (error, got);
    return FALSE;
  }
  if (got == batch->gives)
    return TRUE;
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                       "the blocks do not give what the saved decoder state says");
  return FALSE;
}

/* Blocks that give nothing may stand before the frame's end. */
static gboolean
skip_to_end (Job *job, gboolean checksum, GError **error)
{
  VmaZstdBlock block = { .last = FALSE };

  while (!block.last) {
    const guint8 *data = vma_zstd_input_need (&job->in, VMA_ZSTD_BLOCK_HEADER, error);
    if (data == NULL)
      return FALSE;
    if (!vma_zstd_block_parse (data, &block))
      return damaged (job->in.at, "the block's header is not valid", error);
    if (block.type != VMA_ZSTD_BLOCK_COMPRESSED && block.size > 0)
      return damaged (job->in.at, "the frame goes on where its end should be", error);
    vma_zstd_input_skip (&job->in, VMA_ZSTD_BLOCK_HEADER + block.body);
  }
  vma_zstd_input_skip (&job->in, checksum ? VMA_ZSTD_CHECKSUM : 0);
  return TRUE;
}

/*
 * The blocks behind a checkpoint that give `wanted` bytes, in one go.  *done FALSE without an error
 * where it must be block by block.
 */
static gboolean
decode_batch (Job *job, const VmaZstdCheckpoint *state, gsize wanted, gboolean *done,
              GError **error)
{
  g_auto (Batch) batch = { 0 };
  g_autofree guint8 *dictionary = NULL;
  const guint64 at = job->in.at;
  gsize dictionary_size;

  *done = FALSE;
  if (!batch_read (&batch, state, job->in.input, at, wanted, error))
    return FALSE;
  if (!batch.suits)
    return TRUE;
  dictionary = vma_zstd_dictionary_new (state, job->limits->memory, &dictionary_size, error);
  if (dictionary == NULL)
    goto fail;
  if (!decompress (&batch, dictionary, dictionary_size, job->out, error))
    goto fail;
  job->done = wanted;
  vma_zstd_input_skip (&job->in, batch.blocks);
  *done = TRUE;
  if (job->done == job->size)
    return TRUE;
  if (!batch.last)
    return skip_to_end (job, state->checksum, error);
  vma_zstd_input_skip (&job->in, state->checksum ? VMA_ZSTD_CHECKSUM : 0);
  return TRUE;

fail:
  g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", at);
  return FALSE;
}

/* From a checkpoint inside a frame to that frame's end, or until enough is there. */
static gboolean
decode_from_state (Job *job, VmaZstdDecoder *decoder, GBytes *bytes, GError **error)
{
  VmaZstdCheckpoint state;
  gsize size;
  const guint8 *data = g_bytes_get_data (bytes, &size);
  gboolean done = FALSE;

  if (!vma_zstd_checkpoint_parse (data, size, &state, error)) {
    g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", job->in.at);
    return FALSE;
  }
  if (state.blocks.known && state.blocks.size > 0
      && (state.blocks.ends || job->size <= state.blocks.size)) {
    gsize wanted = (gsize)MIN (job->size, state.blocks.size);
    if (!decode_batch (job, &state, wanted, &done, error))
      return FALSE;
  }
  return done || decode_rest (job, decoder, &state, error);
}

/* All is there.  Up to the next checkpoint only frames may come that give nothing. */
static gboolean
check_end (Job *job, VmaZstdDecoder *decoder, guint64 next, GError **error)
{
  while (job->in.at < next)
    if (!decode_frame (job, decoder, error))
      return FALSE;
  return job->in.at == next
         || damaged (job->in.at, "a frame ends where the seek table does not say so", error);
}

gboolean
vma_zstd_decode (const VmaCheckpoint *from, const VmaCodecInput *input,
                 const VmaCodecLimits *limits, guint8 *out, gsize size, GError **error)
{
  Job job = { .limits = limits, .out = out, .size = size };
  g_autoptr (VmaZstdDecoder) decoder = vma_zstd_decoder_new (limits, error);
  gboolean ok = decoder != NULL;

  vma_zstd_input_init (&job.in, input, from->in);
  job.exact = from->next != 0 && from->state == NULL;
  if (ok && size > 0 && from->state != NULL)
    ok = decode_from_state (&job, decoder, from->state, error);
  while (ok && job.done < size)
    ok = decode_frame (&job, decoder, error);
  if (ok && job.exact)
    ok = check_end (&job, decoder, from->next, error);
  vma_zstd_input_clear (&job.in);
  return ok;
}
