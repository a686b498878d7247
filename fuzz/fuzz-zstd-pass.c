/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a zstd file.  Where libzstd alone decodes them, and does so in the same way with and
 * without a window, the pass must give the same; each checkpoint must decode to the same bytes, and
 * the pass that is taken up there must give them, too.
 *
 * The first byte chooses the spacing and how the rest is fed.
 */
#include "fuzz/repair.h"
#include "fuzz/standalone.h"
#include "source/zstd/codec.h"
#include "source/zstd/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define OUT_MAX (4u << 20)

typedef struct {
  const guint8 *data;
  gsize size;
} Bytes;

typedef struct {
  GByteArray *out;
  GArray *checkpoints;
} Result;

static gboolean
on_output (gpointer data, const guint8 *bytes, gsize size, GError **error)
{
  Result *result = data;

  if (result->out->len > OUT_MAX) {
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "enough");
    return FALSE;
  }
  g_byte_array_append (result->out, bytes, (guint)size);
  return TRUE;
}

static gboolean
on_checkpoint (gpointer data, const VmaCheckpoint *at, GError **error)
{
  Result *result = data;
  VmaCheckpoint copy = *at;

  (void)error;
  if (copy.state != NULL)
    g_bytes_ref (copy.state);
  g_array_append_val (result->checkpoints, copy);
  return TRUE;
}

static void
clear_checkpoint (gpointer data)
{
  g_clear_pointer (&((VmaCheckpoint *)data)->state, g_bytes_unref);
}

static void
result_init (Result *result)
{
  result->out = g_byte_array_new ();
  result->checkpoints = g_array_new (FALSE, FALSE, sizeof (VmaCheckpoint));
  g_array_set_clear_func (result->checkpoints, clear_checkpoint);
}

static void
result_clear (Result *result)
{
  g_byte_array_unref (result->out);
  g_array_unref (result->checkpoints);
}

static gssize
read_bytes (gpointer data, void *buffer, gsize size, guint64 offset, GError **error)
{
  const Bytes *bytes = data;
  gsize n = offset < bytes->size ? MIN (size, bytes->size - (gsize)offset) : 0;

  (void)error;
  if (n > 0)
    memcpy (buffer, bytes->data + offset, n);
  return (gssize)n;
}

static gboolean
run_pass (const Bytes *bytes, const VmaCheckpoint *from, const VmaCodecLimits *limits, gsize piece,
          VmaZstdPassFlags flags, Result *result, GError **error)
{
  const VmaPassSink sink = { result, on_output, on_checkpoint };
  VmaPass *pass = vma_zstd_pass_new_with (from, limits, &sink, flags, error);
  gsize at = from != NULL ? (gsize)from->in : 0;
  gboolean ok = pass != NULL;

  for (; ok && at < bytes->size; at += piece)
    ok = vma_zstd_pass_feed (pass, bytes->data + at, MIN (piece, bytes->size - at), error);
  ok = ok && vma_zstd_pass_end (pass, error);
  /* A frame that was given up has blocks that libzstd should not have taken. */
  ok = ok && vma_zstd_pass_given_up (pass) == 0;
  vma_zstd_pass_free (pass);
  return ok;
}

/* Whether libzstd takes all of it, and gives out[0..size) with and without a window. */
static gboolean
reference_agrees (const Bytes *bytes, const guint8 *out, gsize size)
{
  g_autofree guint8 *whole = g_malloc (size + 1);
  g_autofree guint8 *parts = g_malloc (size + 1);
  ZSTD_DCtx *context = ZSTD_createDCtx ();
  ZSTD_inBuffer in = { bytes->data, bytes->size, 0 };
  ZSTD_outBuffer to = { parts, size + 1, 0 };
  gsize code = ZSTD_decompress (whole, size, bytes->data, bytes->size);

  if (!ZSTD_isError (code) && (code != size || memcmp (whole, out, size) != 0))
    code = (gsize)-1;
  while (!ZSTD_isError (code) && in.pos < in.size && to.pos <= size)
    code = ZSTD_decompressStream (context, &to, &in);
  ZSTD_freeDCtx (context);
  return !ZSTD_isError (code) && to.pos == size && memcmp (parts, out, size) == 0;
}

static void
check_checkpoint (const Bytes *bytes, const VmaCheckpoint *from, guint64 end,
                  const VmaCodecLimits *limits, gsize piece, const GByteArray *out)
{
  const VmaCodecInput input = { (gpointer)bytes, read_bytes, bytes->size };
  const guint64 left = out->len - from->out;
  const gsize sizes[] = { (gsize)(end - from->out), (gsize)left, (gsize)(left / 2), 1 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
    gsize size = MIN (sizes[i], left);
    g_autofree guint8 *buffer = g_malloc (size + 1);
    g_autoptr (GError) error = NULL;
    if (!vma_zstd_codec.decode (from, &input, limits, buffer, size, &error))
      g_error ("checkpoint at %" G_GUINT64_FORMAT ": %s", from->out, error->message);
    if (memcmp (buffer, out->data + from->out, size) != 0)
      g_error ("checkpoint at %" G_GUINT64_FORMAT " gives something else", from->out);
  }

  Result rest;
  g_autoptr (GError) error = NULL;
  result_init (&rest);
  if (!run_pass (bytes, from, limits, piece, VMA_ZSTD_PASS_ONE_THREAD, &rest, &error))
    g_error ("resumed at %" G_GUINT64_FORMAT ": %s", from->out,
             error != NULL ? error->message : "given up");
  if (rest.out->len != left || memcmp (rest.out->data, out->data + from->out, left) != 0)
    g_error ("resumed at %" G_GUINT64_FORMAT ": something else", from->out);
  result_clear (&rest);
}

static void
fuzz_file (const guint8 *data, gsize size)
{
  Result result;

  const Bytes bytes = { data + 1, size - 1 };
  const VmaCodecLimits limits = { .memory = 64 << 20, .spacing = 1u << (data[0] % 20) };
  const gsize piece = data[0] & 0x80 ? 7 : 1 << 16;
  result_init (&result);
  gboolean ok = run_pass (&bytes, NULL, &limits, piece,
                          VMA_ZSTD_PASS_ONE_THREAD | VMA_ZSTD_PASS_THOROUGH, &result, NULL);
  if (ok && result.out->len > 0
      && reference_agrees (&bytes, result.out->data, result.out->len)) {
    guint n = result.checkpoints->len;
    for (guint i = 0; i < n; i = i < 8 ? i + 1 : i * 2) {
      const VmaCheckpoint *from = &g_array_index (result.checkpoints, VmaCheckpoint, i);
      guint64 end = i + 1 < n ? from[1].out : result.out->len;
      check_checkpoint (&bytes, from, end, &limits, piece, result.out);
    }
  }
  result_clear (&result);
}

/* As it is, and with its sums put right. */
int
LLVMFuzzerTestOneInput (const guint8 *data, gsize size)
{
  g_autofree guint8 *repaired = g_memdup2 (data, size);

  if (size < 2)
    return 0;
  fuzz_file (data, size);
  if (repair_sums (repaired + 1, size - 1))
    fuzz_file (repaired, size);
  return 0;
}
