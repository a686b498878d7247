/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as the saved state of a decoder, and as what it decodes: an error or nonsense, nothing
 * worse, and bounded memory.
 *
 * Two bytes say how long the state is; the file follows it.
 */
#include "fuzz/standalone.h"
#include "source/zstd/codec.h"

#include <stdio.h>
#include <string.h>

typedef struct {
  const guint8 *data;
  gsize size;
} Bytes;

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
on_output (gpointer data, const guint8 *bytes, gsize size, GError **error)
{
  guint64 *left = data;

  (void)bytes;
  if (size > *left) {
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "enough");
    return FALSE;
  }
  *left -= size;
  return TRUE;
}

static gboolean
on_checkpoint (gpointer data, const VmaCheckpoint *at, GError **error)
{
  (void)data;
  (void)at;
  (void)error;
  return TRUE;
}

int
LLVMFuzzerTestOneInput (const guint8 *data, gsize size)
{
  static const VmaCodecLimits limits = { .memory = 16 << 20, .spacing = 1 << 10 };
  static guint8 out[512 << 10];

  if (size < 2)
    return 0;
  gsize state_size = MIN ((gsize)(data[0] | (data[1] << 8)), size - 2);
  Bytes file = { data + 2 + state_size, size - 2 - state_size };
  g_autofree guint8 *copy = g_memdup2 (data + 2, state_size);
  g_autoptr (GBytes) state = g_bytes_new (copy, state_size);
  const VmaCheckpoint from = { .in = 0, .out = 1 << 20, .state = state };
  const VmaCodecInput input = { &file, read_bytes, file.size };
  static const gsize sizes[] = { sizeof out, 128 << 10, 1000, 1 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
    g_autoptr (GError) error = NULL;
    gboolean ok = vma_zstd_codec.decode (&from, &input, &limits, out, sizes[i], &error);
    g_assert (ok == (error == NULL));
  }

  guint64 left = 1 << 20;
  const VmaPassSink sink = { &left, on_output, on_checkpoint };
  g_autoptr (GError) error = NULL;
  VmaPass *pass = vma_zstd_codec.pass_new (&from, &limits, &sink, &error);
  g_assert ((pass != NULL) == (error == NULL));
  if (pass != NULL && file.size > 0 && vma_zstd_codec.pass_feed (pass, file.data, file.size, NULL))
    vma_zstd_codec.pass_end (pass, NULL);
  vma_zstd_codec.pass_free (pass);
  return 0;
}
