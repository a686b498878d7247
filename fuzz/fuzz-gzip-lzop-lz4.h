/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The body of the fuzz targets of codecs; FUZZ_CODEC is the one.
 */
#pragma once

#include "fuzz/repair.h"
#include "fuzz/standalone.h"
#include "source/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a small input may grow to before we stop looking. */
#define FUZZ_OUTPUT_MAX (8u << 20)

typedef struct {
  const guint8 *bytes;
  gsize size;
} FuzzFile;

typedef struct {
  GByteArray *output;
  GArray *checkpoints; /* of VmaCheckpoint */
} FuzzSink;

static gssize
fuzz_read (gpointer data, void *buffer, gsize size, guint64 offset, GError **error G_GNUC_UNUSED)
{
  const FuzzFile *file = data;

  if (offset >= file->size)
    return 0;
  size = (gsize) MIN (size, file->size - offset);
  memcpy (buffer, file->bytes + offset, size);
  return (gssize) size;
}

static gboolean
fuzz_output (gpointer data, const guint8 *bytes, gsize size, GError **error)
{
  FuzzSink *sink = data;

  if (sink->output->len + size > FUZZ_OUTPUT_MAX) {
    g_set_error (error, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "enough");
    return FALSE;
  }
  g_byte_array_append (sink->output, bytes, (guint) size);
  return TRUE;
}

static gboolean
fuzz_checkpoint (gpointer data, const VmaCheckpoint *checkpoint, GError **error G_GNUC_UNUSED)
{
  FuzzSink *sink = data;
  VmaCheckpoint copy = *checkpoint;

  if (copy.state != NULL)
    copy.state = g_bytes_new (g_bytes_get_data (copy.state, NULL), g_bytes_get_size (copy.state));
  g_array_append_val (sink->checkpoints, copy);
  return TRUE;
}

static void
fuzz_pass (FuzzFile *file, const VmaCodecLimits *limits, FuzzSink *to)
{
  VmaPassSink sink = { to, fuzz_output, fuzz_checkpoint };
  VmaCheckpoint start = { 0 };
  VmaPass *pass = FUZZ_CODEC.pass_new (&start, limits, &sink, NULL);
  gsize half = file->size / 2;

  if (pass == NULL)
    return;
  if (FUZZ_CODEC.pass_feed (pass, file->bytes, half, NULL)
      && FUZZ_CODEC.pass_feed (pass, file->bytes + half, file->size - half, NULL))
    FUZZ_CODEC.pass_end (pass, NULL);
  FUZZ_CODEC.pass_free (pass);
}

/* A checkpoint gives what the pass gave from there on. */
static void
fuzz_compare (FuzzFile *file, const VmaCodecLimits *limits, const FuzzSink *sink,
              const VmaCheckpoint *from, guint64 end)
{
  VmaCodecInput input = { file, fuzz_read, file->size };
  gsize size = (gsize) (end - from->out);
  g_autofree guint8 *out = g_malloc (size + 1);

  if (end > sink->output->len || !FUZZ_CODEC.decode (from, &input, limits, out, size, NULL)
      || (size > 0 && memcmp (out, sink->output->data + from->out, size) != 0))
    abort ();
}

static void
fuzz_walk (FuzzFile *file, const VmaCodecLimits *limits, FuzzSink *to)
{
  VmaPassSink sink = { to, fuzz_output, fuzz_checkpoint };
  VmaCodecInput input = { file, fuzz_read, file->size };
  guint64 total = 0;

  FUZZ_CODEC.walk (&input, limits, &sink, &total, NULL, NULL);
  for (guint i = 0; i + 1 < to->checkpoints->len; i++) {
    const VmaCheckpoint *from = &g_array_index (to->checkpoints, VmaCheckpoint, i);
    gsize size = (gsize) (from[1].out - from->out);
    if (size <= FUZZ_OUTPUT_MAX) {
      g_autofree guint8 *out = g_malloc (size + 1);
      FUZZ_CODEC.decode (from, &input, limits, out, size, NULL);
    }
  }
}

static void
fuzz_forget (FuzzSink *sink)
{
  for (guint i = 0; i < sink->checkpoints->len; i++) {
    VmaCheckpoint *checkpoint = &g_array_index (sink->checkpoints, VmaCheckpoint, i);
    g_clear_pointer (&checkpoint->state, g_bytes_unref);
  }
  g_array_set_size (sink->checkpoints, 0);
}

static void
fuzz_file (const guint8 *bytes, gsize size)
{
  FuzzFile file = { bytes, size };
  VmaCodecLimits limits = { .memory = 64u << 20, .spacing = 4096 };
  FuzzSink sink = { g_byte_array_new (), g_array_new (FALSE, FALSE, sizeof (VmaCheckpoint)) };
  VmaCheckpoint start = { 0 };

  if (FUZZ_CODEC.walk != NULL) {
    fuzz_walk (&file, &limits, &sink);
    fuzz_forget (&sink);
  }
  if (FUZZ_CODEC.pass_new != NULL) {
    fuzz_pass (&file, &limits, &sink);
    fuzz_compare (&file, &limits, &sink, &start, sink.output->len);
    for (guint i = 0; i < sink.checkpoints->len && i < 8; i++)
      fuzz_compare (&file, &limits, &sink,
                    &g_array_index (sink.checkpoints, VmaCheckpoint, i), sink.output->len);
  }
  fuzz_forget (&sink);
  g_array_unref (sink.checkpoints);
  g_byte_array_unref (sink.output);
}

/* As it is, and with its sums put right. */
int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  g_autofree guint8 *repaired = g_malloc (size + 1); /* an empty input is no place at all */

  if (size > 0)
    memcpy (repaired, bytes, size);
  fuzz_file (repaired, size);
  if (repair_sums (repaired, size))
    fuzz_file (repaired, size);
  return 0;
}
