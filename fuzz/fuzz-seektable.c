/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of a seekable zstd file.
 *
 * Input: a program of frames, behind which stands a table that is right, and then changes of bytes,
 * counted from the end.  Where the table is believed, each chunk decodes to exactly what libzstd
 * makes of its frames, or not at all.  (So a table that lies of one frame moves those behind it, as if
 * bytes had been lost; but nothing is taken for another frame's.)
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "source/zstd/codec.h"
#include "vma/bytes.h"

#include <string.h>
#include <zstd.h>

#define OUT_MAX (2u << 20)

typedef struct {
  GByteArray *file, *table;
} Seekable;

static void
append32 (GByteArray *to, guint32 value)
{
  guint8 bytes[4];

  vma_put_le32 (bytes, value);
  g_byte_array_append (to, bytes, sizeof bytes);
}

static void
add_frame (Seekable *s, Input *input, gboolean sums)
{
  static ZSTD_CCtx *context;
  static guint8 packed[600000];
  guint what = get (input);
  const guint8 *bytes;
  gsize n = get_bytes (input, get (input), &bytes), size = n;
  g_autofree guint8 *content = NULL;

  if ((what & 3) == 3) { /* a frame to be skipped */
    append32 (s->file, 0x184d2a50u + (what >> 4));
    append32 (s->file, (guint32)n);
    g_byte_array_append (s->file, bytes, (guint)n);
    n += 8;
    size = 0;
  } else {
    size = (what & 3) == 2 ? n + 150000 : n;
    content = g_malloc0 (size + 1);
    memcpy (content, bytes, n);
    if (context == NULL)
      context = ZSTD_createCCtx ();
    ZSTD_CCtx_reset (context, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter (context, ZSTD_c_contentSizeFlag, (what & 4) != 0);
    ZSTD_CCtx_setParameter (context, ZSTD_c_checksumFlag, (what & 8) != 0);
    n = ZSTD_compress2 (context, packed, sizeof packed, content, size);
    CHECK (!ZSTD_isError (n));
    g_byte_array_append (s->file, packed, (guint)n);
  }
  append32 (s->table, (guint32)n);
  append32 (s->table, (guint32)size);
  if (sums)
    append32 (s->table, 0);
}

static void
add_table (Seekable *s, gboolean sums)
{
  guint n = s->table->len / (sums ? 12 : 8);
  guint8 descriptor = sums ? 0x80 : 0;

  append32 (s->file, 0x184d2a5eu);
  append32 (s->file, s->table->len + 9);
  g_byte_array_append (s->file, s->table->data, s->table->len);
  append32 (s->file, n);
  g_byte_array_append (s->file, &descriptor, 1);
  append32 (s->file, 0x8f92eab1u);
}

static gssize
read_bytes (gpointer data, void *buffer, gsize size, guint64 offset, GError **error G_GNUC_UNUSED)
{
  const GByteArray *file = data;
  gsize n = offset < file->len ? MIN (size, file->len - (gsize)offset) : 0;

  if (n > 0)
    memcpy (buffer, file->data + offset, n);
  return (gssize)n;
}

static gboolean
no_output (gpointer data G_GNUC_UNUSED, const guint8 *bytes G_GNUC_UNUSED,
           gsize size G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  CHECK (!"a walk has no output");
  return FALSE;
}

static gboolean
take_checkpoint (gpointer data, const VmaCheckpoint *from, GError **error G_GNUC_UNUSED)
{
  GArray *checkpoints = data;

  CHECK (from->state == NULL);
  g_array_append_val (checkpoints, *from);
  return TRUE;
}

static void
check (GByteArray *file, guint table)
{
  static guint8 whole[OUT_MAX], part[OUT_MAX];
  const VmaCodecLimits limits = { .memory = 64 << 20, .spacing = 4 };
  const VmaCodecInput input = { file, read_bytes, file->len };
  g_autoptr (GArray) found = g_array_new (FALSE, FALSE, sizeof (VmaCheckpoint));
  const VmaPassSink sink = { found, no_output, take_checkpoint };
  guint64 total = 0;

  if (!vma_zstd_codec.walk (&input, &limits, &sink, &total, NULL, NULL))
    return;
  for (guint i = 0; i < found->len; i++) {
    VmaCheckpoint *from = &g_array_index (found, VmaCheckpoint, i);
    guint64 end = i + 1 < found->len ? from[1].out : total;
    from->next = i + 1 < found->len ? from[1].in : table;
    CHECK (from->in < file->len && from->out < end && end <= total);
    gsize size = (gsize)(end - from->out);
    if (size > OUT_MAX || !vma_zstd_codec.decode (from, &input, &limits, part, size, NULL))
      continue;
    CHECK (from->next <= file->len);
    gsize truth = ZSTD_decompress (whole, OUT_MAX, file->data + from->in, from->next - from->in);
    CHECK (truth == size && memcmp (part, whole, size) == 0);
  }
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  Input input = { bytes, size };
  guint frames = get (&input);
  gboolean sums = (frames & 0x80) != 0;
  Seekable s = { g_byte_array_new (), g_byte_array_new () };

  for (guint i = 0; i < frames % 9; i++)
    add_frame (&s, &input, sums);
  guint table = s.file->len;
  add_table (&s, sums);
  while (input.left > 0) {
    guint back = get16 (&input);
    guint8 value = (guint8)get (&input);
    if (back < s.file->len)
      s.file->data[s.file->len - 1 - back] ^= value;
  }
  check (s.file, table);
  g_byte_array_unref (s.file);
  g_byte_array_unref (s.table);
  return 0;
}
