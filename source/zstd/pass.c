/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/pass.h"

#include "source/zstd/decoder.h"
#include "source/zstd/worker.h"

#include "vma/error.h"

#include <string.h>

typedef enum {
  AT_FRAME,    /* a frame's header, or the end */
  AT_SKIPPED,  /* inside a skippable frame */
  AT_BLOCK,    /* a block's header */
  AT_CHECKSUM, /* behind the last block */
} Place;

struct VmaPass {
  VmaCodecLimits limits;
  VmaPassSink sink;
  VmaZstdWorker *worker;
  VmaZstdDecoder *decoder;
  gboolean failed;

  Place place;
  guint64 in;       /* offset in the file of what comes next */
  guint64 out;      /* bytes of archive so far */
  guint64 skip;     /* AT_SKIPPED: bytes left */
  GByteArray *held; /* the beginning of a header or block, whose rest was not fed yet */

  VmaZstdFrame frame;
  guint64 frame_in;
  gboolean frame_begins; /* no block of it so far */
  gboolean resumed;      /* the frame was entered at a checkpoint inside */

  VmaZstdRing ring;
};

/* What the caller fed. */
typedef struct {
  const guint8 *data;
  gsize size;
} Feed;

static guint64
ring_size (guint64 window)
{
  return window + (VMA_ZSTD_QUEUE + 2) * (guint64)VMA_ZSTD_BLOCK_MAX;
}

/* Sees to it that window and ring fit, and that the ring is large enough. */
static gboolean
prepare_window (VmaPass *pass, guint64 window, GError **error)
{
  guint64 size = ring_size (window);

  if (!vma_zstd_check_memory (window + size, window, &pass->limits, error))
    return FALSE;
  if (size <= pass->ring.size)
    return TRUE;
  vma_zstd_worker_flush (pass->worker);
  g_free (pass->ring.data);
  pass->ring.size = 0;
  /* A block is always written in one piece, and its part behind the end copied to the beginning. */
  pass->ring.data = g_try_malloc (size + VMA_ZSTD_BLOCK_MAX);
  if (pass->ring.data == NULL) {
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_IO, "no memory for the window");
    return FALSE;
  }
  pass->ring.size = size;
  return TRUE;
}

static gboolean
resume (VmaPass *pass, const VmaCheckpoint *from, GError **error)
{
  VmaZstdCheckpoint state;
  gsize size;
  const guint8 *data;

  pass->in = from->in;
  pass->out = from->out;
  if (from->state == NULL) {
    vma_zstd_worker_resume (pass->worker, from->out, NULL);
    return TRUE;
  }
  data = g_bytes_get_data (from->state, &size);
  if (!vma_zstd_checkpoint_parse (data, size, &state, error)
      || !prepare_window (pass, state.window, error)
      || !vma_zstd_decoder_resume (pass->decoder, &state, error))
    return FALSE;
  vma_zstd_worker_resume (pass->worker, from->out, &state);
  pass->frame = (VmaZstdFrame){ .window = state.window, .checksum = state.checksum };
  pass->place = AT_BLOCK;
  pass->resumed = TRUE;
  return TRUE;
}

VmaPass *
vma_zstd_pass_new_with (const VmaCheckpoint *from, const VmaCodecLimits *limits,
                        const VmaPassSink *sink, VmaZstdPassFlags flags, GError **error)
{
  VmaPass *pass = g_new0 (VmaPass, 1);
  gboolean threaded = (flags & VMA_ZSTD_PASS_TWO_THREADS)
                      || (!(flags & VMA_ZSTD_PASS_ONE_THREAD) && g_get_num_processors () > 1);

  pass->limits = *limits;
  pass->sink = *sink;
  pass->held = g_byte_array_new ();
  pass->worker
      = vma_zstd_worker_new (limits, &pass->ring, threaded, (flags & VMA_ZSTD_PASS_THOROUGH) != 0);
  pass->decoder = vma_zstd_decoder_new (limits, error);
  if (pass->decoder == NULL || (from != NULL && !resume (pass, from, error))) {
    vma_zstd_pass_free (pass);
    return NULL;
  }
  return pass;
}

VmaPass *
vma_zstd_pass_new (const VmaCheckpoint *from, const VmaCodecLimits *limits, const VmaPassSink *sink,
                   GError **error)
{
  return vma_zstd_pass_new_with (from, limits, sink, VMA_ZSTD_PASS_DEFAULT, error);
}

void
vma_zstd_pass_free (VmaPass *pass)
{
  if (pass == NULL)
    return;
  vma_zstd_worker_free (pass->worker);
  vma_zstd_decoder_free (pass->decoder);
  g_byte_array_unref (pass->held);
  g_free (pass->ring.data);
  g_free (pass);
}

/*
 * The next `size` bytes in one piece, or NULL after all that was fed has been put aside for the
 * next time.  Asking again for more is fine; release() lets go of them.
 */
static const guint8 *
gather (VmaPass *pass, Feed *feed, gsize size)
{
  if (pass->held->len == 0 && feed->size >= size)
    return feed->data;
  if (pass->held->len < size) {
    gsize more = MIN (size - pass->held->len, feed->size);
    g_byte_array_append (pass->held, feed->data, (guint)more);
    feed->data += more;
    feed->size -= more;
  }
  return pass->held->len < size ? NULL : pass->held->data;
}

static void
release (VmaPass *pass, Feed *feed, gsize size)
{
  if (pass->held->len > 0) {
    g_byte_array_set_size (pass->held, 0);
  } else {
    feed->data += size;
    feed->size -= size;
  }
  pass->in += size;
}

/* TRUE and *advanced FALSE where more input is needed. */
static gboolean
do_frame (VmaPass *pass, Feed *feed, gboolean *advanced, GError **error)
{
  gssize size = VMA_ZSTD_FRAME_HEADER_MAX;
  const guint8 *data = NULL;
  gsize have = 4;

  *advanced = FALSE;
  for (;;) {
    data = gather (pass, feed, have);
    if (data == NULL)
      return TRUE;
    size = vma_zstd_frame_parse (data, have, &pass->frame, error);
    if (size < 0) {
      g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", pass->in);
      return FALSE;
    }
    if ((gsize)size <= have)
      break;
    have = (gsize)size;
  }
  if (pass->frame.skippable) {
    pass->skip = pass->frame.skip;
    pass->place = AT_SKIPPED;
  } else {
    if (!prepare_window (pass, pass->frame.window, error)
        || !vma_zstd_decoder_begin (pass->decoder, data, (gsize)size, error)) {
      g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", pass->in);
      return FALSE;
    }
    pass->frame_in = pass->in;
    pass->frame_begins = TRUE;
    pass->resumed = FALSE;
    pass->place = AT_BLOCK;
  }
  release (pass, feed, (gsize)size);
  *advanced = TRUE;
  return TRUE;
}

static gboolean
do_skip (VmaPass *pass, Feed *feed, gboolean *advanced)
{
  gsize size = (gsize)MIN (pass->skip, feed->size);

  pass->skip -= size;
  pass->in += size;
  feed->data += size;
  feed->size -= size;
  if (pass->skip == 0)
    pass->place = AT_FRAME;
  *advanced = pass->skip == 0;
  return TRUE;
}

static void
submit (VmaPass *pass, const VmaZstdBlock *block, const guint8 *body, gsize given)
{
  VmaZstdRecord *record = vma_zstd_worker_record (pass->worker);

  record->in = pass->in;
  record->next = pass->in + VMA_ZSTD_BLOCK_HEADER + block->body;
  record->out = pass->out;
  record->given = (guint32)given;
  record->begins = pass->frame_begins;
  if (pass->frame_begins) {
    record->frame_in = pass->frame_in;
    record->frame = pass->frame;
  }
  vma_zstd_record_set_body (record, block, body);
  vma_zstd_worker_submit (pass->worker);
  pass->frame_begins = FALSE;
}

static gboolean
damaged (VmaPass *pass, const char *reason, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "offset %" G_GUINT64_FORMAT ": %s", pass->in,
               reason);
  return FALSE;
}

static gboolean
do_block (VmaPass *pass, Feed *feed, gboolean *advanced, GError **error)
{
  const guint8 *data = gather (pass, feed, VMA_ZSTD_BLOCK_HEADER);
  VmaZstdBlock block;
  gsize given;

  *advanced = FALSE;
  if (data == NULL)
    return TRUE;
  if (!vma_zstd_block_parse (data, &block))
    return damaged (pass, "the block's header is not valid", error);
  data = gather (pass, feed, VMA_ZSTD_BLOCK_HEADER + block.body);
  if (data == NULL)
    return TRUE;

  /* The record first: that it is free means that the ring is, too. */
  vma_zstd_worker_record (pass->worker);
  gsize at = (gsize)(pass->out % pass->ring.size);
  guint8 *to = pass->ring.data + at;
  if (!vma_zstd_decoder_block (pass->decoder, &block, data + VMA_ZSTD_BLOCK_HEADER, to,
                               VMA_ZSTD_BLOCK_MAX, &given, error)) {
    g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", pass->in);
    return FALSE;
  }
  if (at + given > pass->ring.size)
    memcpy (pass->ring.data, pass->ring.data + pass->ring.size, at + given - pass->ring.size);
  submit (pass, &block, data + VMA_ZSTD_BLOCK_HEADER, given);
  pass->out += given;
  release (pass, feed, VMA_ZSTD_BLOCK_HEADER + block.body);
  if (block.last)
    pass->place = pass->frame.checksum ? AT_CHECKSUM : AT_FRAME;
  *advanced = TRUE;
  if (given > 0 && !pass->sink.output (pass->sink.data, to, given, error))
    return FALSE;
  return vma_zstd_worker_drain (pass->worker, &pass->sink, error);
}

static gboolean
do_checksum (VmaPass *pass, Feed *feed, gboolean *advanced, GError **error)
{
  const guint8 *data = gather (pass, feed, VMA_ZSTD_CHECKSUM);

  *advanced = FALSE;
  if (data == NULL)
    return TRUE;
  if (!pass->resumed && !vma_zstd_decoder_checksum (pass->decoder, data, error)) {
    g_prefix_error (error, "offset %" G_GUINT64_FORMAT ": ", pass->in);
    return FALSE;
  }
  release (pass, feed, VMA_ZSTD_CHECKSUM);
  pass->place = AT_FRAME;
  *advanced = TRUE;
  return TRUE;
}

static gboolean
step (VmaPass *pass, Feed *feed, gboolean *advanced, GError **error)
{
  switch (pass->place) {
  case AT_FRAME:
    return do_frame (pass, feed, advanced, error);
  case AT_SKIPPED:
    return do_skip (pass, feed, advanced);
  case AT_BLOCK:
    return do_block (pass, feed, advanced, error);
  default:
    return do_checksum (pass, feed, advanced, error);
  }
}

/* What was decoded before a stream breaks off can be read: the open checkpoint is delivered. */
static void
deliver_rest (VmaPass *pass)
{
  vma_zstd_worker_cut (pass->worker);
  vma_zstd_worker_drain (pass->worker, &pass->sink, NULL);
}

gboolean
vma_zstd_pass_feed (VmaPass *pass, const guint8 *bytes, gsize size, GError **error)
{
  Feed feed = { bytes, size };
  g_autoptr (GError) failure = NULL;
  gboolean advanced = TRUE;

  g_return_val_if_fail (!pass->failed, FALSE);
  while (advanced)
    if (!step (pass, &feed, &advanced, &failure)) {
      pass->failed = TRUE;
      if (g_error_matches (failure, VMA_ERROR, VMA_ERROR_DAMAGED))
        deliver_rest (pass);
      g_propagate_error (error, g_steal_pointer (&failure));
      return FALSE;
    }
  return TRUE;
}

gboolean
vma_zstd_pass_end (VmaPass *pass, GError **error)
{
  g_return_val_if_fail (!pass->failed, FALSE);
  vma_zstd_worker_flush (pass->worker);
  if (!vma_zstd_worker_drain (pass->worker, &pass->sink, error))
    return FALSE;
  if (pass->place == AT_FRAME && pass->held->len == 0)
    return TRUE;
  deliver_rest (pass);
  return damaged (pass, "the file ends inside a frame", error);
}

guint
vma_zstd_pass_given_up (VmaPass *pass)
{
  return vma_zstd_worker_given_up (pass->worker);
}
