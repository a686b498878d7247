/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/decoder.h"

#include "source/zstd/dictionary.h"

#include "vma/error.h"

#include <zstd.h>
#include <zstd_errors.h>

struct VmaZstdDecoder {
  VmaCodecLimits limits;
  ZSTD_DCtx *context;
  gboolean resumed; /* the context has a dictionary */

  /* After resume: until the first block with sequences, tables of one symbol are to be pinned. */
  gboolean pin;
  VmaZstdTables tables;
};

gboolean
vma_zstd_check_memory (guint64 bytes, guint64 window, const VmaCodecLimits *limits, GError **error)
{
  if (bytes <= limits->memory)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "a window of %" G_GUINT64_FORMAT " MiB takes more memory than the memory limit allows",
               window >> 20);
  return FALSE;
}

void
vma_zstd_set_error (GError **error, gsize code)
{
  VmaError kind = VMA_ERROR_DAMAGED;

  switch (ZSTD_getErrorCode (code)) {
  case ZSTD_error_memory_allocation:
    kind = VMA_ERROR_IO;
    break;
  case ZSTD_error_version_unsupported:
  case ZSTD_error_frameParameter_unsupported:
  case ZSTD_error_frameParameter_windowTooLarge:
    kind = VMA_ERROR_UNSUPPORTED;
    break;
  case ZSTD_error_checksum_wrong:
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                         "the frame's checksum does not match what it gave");
    return;
  default:
    break;
  }
  g_set_error (error, VMA_ERROR, (gint)kind, "zstd: %s", ZSTD_getErrorName (code));
}

static gboolean
renew (VmaZstdDecoder *decoder, GError **error)
{
  ZSTD_freeDCtx (decoder->context);
  decoder->resumed = FALSE;
  decoder->pin = FALSE;
  decoder->context = ZSTD_createDCtx ();
  if (decoder->context == NULL) {
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_IO, "no memory for a zstd decoder");
    return FALSE;
  }
  /* 31, or 30 where addresses have 32 bits; windows were checked against the limit before. */
  ZSTD_DCtx_setParameter (decoder->context, ZSTD_d_windowLogMax,
                          ZSTD_dParam_getBounds (ZSTD_d_windowLogMax).upperBound);
  return TRUE;
}

VmaZstdDecoder *
vma_zstd_decoder_new (const VmaCodecLimits *limits, GError **error)
{
  g_autoptr (VmaZstdDecoder) decoder = g_new0 (VmaZstdDecoder, 1);

  decoder->limits = *limits;
  if (!renew (decoder, error))
    return NULL;
  return g_steal_pointer (&decoder);
}

void
vma_zstd_decoder_free (VmaZstdDecoder *decoder)
{
  if (decoder == NULL)
    return;
  ZSTD_freeDCtx (decoder->context);
  g_free (decoder);
}

/* Feeds bytes until all are taken or the room is full. */
static gboolean
feed (VmaZstdDecoder *decoder, const guint8 *bytes, gsize size, ZSTD_outBuffer *out, GError **error)
{
  ZSTD_inBuffer in = { bytes, size, 0 };

  while (in.pos < in.size) {
    gsize code = ZSTD_decompressStream (decoder->context, out, &in);
    if (ZSTD_isError (code)) {
      vma_zstd_set_error (error, code);
      return FALSE;
    }
    if (out->size > 0 && out->pos == out->size)
      return TRUE;
  }
  return TRUE;
}

gboolean
vma_zstd_decoder_begin (VmaZstdDecoder *decoder, const guint8 *header, gsize size, GError **error)
{
  ZSTD_outBuffer out = { NULL, 0, 0 };

  if (decoder->resumed) {
    if (!renew (decoder, error))
      return FALSE;
  } else {
    ZSTD_DCtx_reset (decoder->context, ZSTD_reset_session_only);
  }
  return feed (decoder, header, size, &out, error);
}

gboolean
vma_zstd_decoder_resume (VmaZstdDecoder *decoder, const VmaZstdCheckpoint *state, GError **error)
{
  guint8 header[VMA_ZSTD_PLAIN_HEADER];
  ZSTD_outBuffer out = { NULL, 0, 0 };
  g_autofree guint8 *dictionary = NULL;
  guint window_log = vma_zstd_window_log (state->window);
  gsize size;
  gsize code;

  if (!vma_zstd_check_memory ((G_GUINT64_CONSTANT (1) << window_log) + 2 * state->content,
                              state->window, &decoder->limits, error))
    return FALSE;
  dictionary = vma_zstd_dictionary_new (state, decoder->limits.memory, &size, error);
  if (dictionary == NULL || !renew (decoder, error))
    return FALSE;
  decoder->resumed = TRUE;
  decoder->pin = TRUE;
  decoder->tables = state->tables;
  code = ZSTD_DCtx_loadDictionary (decoder->context, dictionary, size);
  if (ZSTD_isError (code)) {
    /* libzstd says "not enough memory" to whatever it does not like. */
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                         "zstd does not accept a saved decoder state");
    return FALSE;
  }
  return feed (decoder, header, vma_zstd_frame_write_plain (header, window_log), &out, error);
}

gboolean
vma_zstd_decoder_block (VmaZstdDecoder *decoder, const VmaZstdBlock *block, const guint8 *body,
                        guint8 *out, gsize room, gsize *given, GError **error)
{
  guint8 header[VMA_ZSTD_BLOCK_HEADER];
  ZSTD_outBuffer to = { out, room, 0 };
  g_autoptr (GByteArray) pinned = NULL;
  gsize size = block->body;

  if (decoder->pin && block->type == VMA_ZSTD_BLOCK_COMPRESSED) {
    gboolean found;
    pinned = vma_zstd_tables_pin (&decoder->tables, body, size, &found);
    decoder->pin = !found;
    if (pinned != NULL) {
      body = pinned->data;
      size = pinned->len;
    }
  }
  vma_zstd_block_write (header, block->type, block->last,
                        block->type == VMA_ZSTD_BLOCK_COMPRESSED ? (guint32)size : block->size);
  *given = 0;
  if (!feed (decoder, header, sizeof header, &to, error) || !feed (decoder, body, size, &to, error))
    return FALSE;
  *given = to.pos;
  return TRUE;
}

gboolean
vma_zstd_decoder_checksum (VmaZstdDecoder *decoder, const guint8 checksum[VMA_ZSTD_CHECKSUM],
                           GError **error)
{
  guint8 rest;
  ZSTD_outBuffer out = { &rest, 1, 0 };

  return feed (decoder, checksum, VMA_ZSTD_CHECKSUM, &out, error);
}
