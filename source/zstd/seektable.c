/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/seektable.h"

#include "source/zstd/frame.h"

#include "vma/bytes.h"
#include "vma/error.h"

#define SEEKABLE_MAGIC 0x8F92EAB1u
#define TABLE_FRAME_MAGIC (VMA_ZSTD_SKIPPABLE_MAGIC + 0xE)
#define FOOTER_SIZE 9
#define FRAMES_MAX 0x8000000u

typedef struct {
  guint8 *entries; /* owned */
  guint32 count;
  gsize entry_size; /* 8, or 12 with checksums */
  guint64 begin;    /* offset of the table's frame: where the data end */
} Table;

static void
table_clear (Table *table)
{
  g_clear_pointer (&table->entries, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Table, table_clear)

static gboolean
doubtful (GError **error, const char *reason)
{
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, reason);
  return FALSE;
}

/* Exactly `size` bytes; FALSE also at the end of the file. */
static gboolean
read_full (const VmaCodecInput *input, void *buffer, gsize size, guint64 offset, GError **error)
{
  gsize done = 0;

  while (done < size) {
    gssize got
        = input->read (input->data, (guint8 *)buffer + done, size - done, offset + done, error);
    if (got < 0)
      return FALSE;
    if (got == 0)
      return doubtful (error, "the file is shorter than it was");
    done += (gsize)got;
  }
  return TRUE;
}

static gboolean
read_table (const VmaCodecInput *input, const VmaCodecLimits *limits, Table *table, GError **error)
{
  guint8 footer[FOOTER_SIZE];
  guint8 head[VMA_ZSTD_SKIPPABLE_HEADER];

  if (input->size == G_MAXUINT64 || input->size < FOOTER_SIZE + VMA_ZSTD_SKIPPABLE_HEADER)
    return doubtful (error, "no seek table");
  if (!read_full (input, footer, sizeof footer, input->size - FOOTER_SIZE, error))
    return FALSE;
  if (vma_get_le32 (footer + 5) != SEEKABLE_MAGIC || (footer[4] & 0x7C) != 0)
    return doubtful (error, "no seek table");
  table->count = vma_get_le32 (footer);
  table->entry_size = (footer[4] & 0x80) != 0 ? 12 : 8;

  guint64 entries = (guint64)table->count * table->entry_size;
  guint64 frame = VMA_ZSTD_SKIPPABLE_HEADER + entries + FOOTER_SIZE;
  if (table->count > FRAMES_MAX || frame > input->size || entries > limits->memory)
    return doubtful (error, "the seek table is too large");
  table->begin = input->size - frame;
  if (!read_full (input, head, sizeof head, table->begin, error))
    return FALSE;
  if (vma_get_le32 (head) != TABLE_FRAME_MAGIC || vma_get_le32 (head + 4) != entries + FOOTER_SIZE)
    return doubtful (error, "the seek table does not fill its frame");
  table->entries = g_try_malloc (MAX (entries, 1));
  if (table->entries == NULL)
    return doubtful (error, "no memory for the seek table");
  return read_full (input, table->entries, (gsize)entries, table->begin + sizeof head, error);
}

static void
get_entry (const Table *table, guint32 i, guint32 *packed, guint32 *size)
{
  const guint8 *entry = table->entries + table->entry_size * i;

  *packed = vma_get_le32 (entry);
  *size = vma_get_le32 (entry + 4);
}

/* Whether the sizes add up, and none is more than a frame of its length can give. */
static gboolean
check_sums (const Table *table, guint64 *total, GError **error)
{
  guint64 in = 0;

  *total = 0;
  for (guint32 i = 0; i < table->count; i++) {
    guint32 packed;
    guint32 size;

    get_entry (table, i, &packed, &size);
    if (packed < VMA_ZSTD_SKIPPABLE_HEADER
        || size > ((guint64)packed / (VMA_ZSTD_BLOCK_HEADER + 1) + 1) * VMA_ZSTD_BLOCK_MAX)
      return doubtful (error, "the seek table names impossible sizes");
    in += packed;
    *total += size;
  }
  return in == table->begin || doubtful (error, "the seek table does not cover the file");
}

static gboolean
check_frame (const VmaCodecInput *input, guint64 in, guint32 packed, guint32 size, GError **error)
{
  guint8 head[VMA_ZSTD_FRAME_HEADER_MAX];
  gsize have = MIN (packed, sizeof head);
  VmaZstdFrame frame;
  gssize header;

  if (!read_full (input, head, have, in, error))
    return FALSE;
  header = vma_zstd_frame_parse (head, have, &frame, NULL);
  if (header < 0 || (gsize)header > have)
    return doubtful (error, "no frame where the seek table names one");
  if (frame.skippable)
    return (size == 0 && frame.skip == packed - VMA_ZSTD_SKIPPABLE_HEADER)
           || doubtful (error, "the seek table names a frame that gives nothing");
  if (frame.content != VMA_ZSTD_CONTENT_UNKNOWN && frame.content != size)
    return doubtful (error, "the seek table and a frame do not agree");
  return TRUE;
}

gboolean
vma_zstd_walk (const VmaCodecInput *input, const VmaCodecLimits *limits, const VmaPassSink *sink,
               guint64 *total, GCancellable *cancellable, GError **error)
{
  g_auto (Table) table = { 0 };
  guint64 spacing = MAX (limits->spacing / 4, 1);
  guint64 in = 0;
  guint64 out = 0;
  guint64 last = 0;

  if (!read_table (input, limits, &table, error) || !check_sums (&table, total, error))
    return FALSE;
  /* All frames first: after the first checkpoint there is no way back. */
  for (guint32 i = 0; i < table.count; i++) {
    guint32 packed;
    guint32 size;

    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error_literal (error, VMA_ERROR, VMA_ERROR_CANCELLED, "cancelled");
      return FALSE;
    }
    get_entry (&table, i, &packed, &size);
    if (!check_frame (input, in, packed, size, error))
      return FALSE;
    in += packed;
  }
  in = 0;
  for (guint32 i = 0; i < table.count; i++) {
    guint32 packed;
    guint32 size;

    get_entry (&table, i, &packed, &size);
    if (size > 0 && (out == 0 || out - last >= spacing)) {
      VmaCheckpoint checkpoint = { .in = in, .out = out };
      if (!sink->checkpoint (sink->data, &checkpoint, error))
        return FALSE;
      last = out;
    }
    in += packed;
    out += size;
  }
  return TRUE;
}
