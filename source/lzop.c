/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/lzop.h"

#include "source/packed-reader.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <lzo/lzo1x.h>
#include <string.h>
#include <zlib.h>

static const guint8 magic[9] = { 0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a };

/* Header flags that change the layout or the meaning of what follows. */
#define FLAG_ADLER_PLAIN 0x0001u
#define FLAG_ADLER_PACKED 0x0002u
#define FLAG_EXTRA_FIELD 0x0040u
#define FLAG_CRC_PLAIN 0x0100u
#define FLAG_CRC_PACKED 0x0200u
#define FLAG_FILTER 0x0800u
#define FLAG_HEADER_CRC 0x1000u

/* From this version on a header has some fields more. */
#define VERSION_NEW 0x0940u

/* The format's own limit to a block; the program's is 256 KiB. */
#define BLOCK_MAX (64u << 20)
#define MULTIPART G_MAXUINT32

/* Adjacent blocks make one chunk up to this size. */
#define SPACING (256u << 10)

/* A walk reads only headers, a decoder all. */
#define WALK_INPUT 512u
#define DECODE_INPUT (320u << 10)

typedef struct {
  guint32 plain, packed; /* sizes; equal: stored */
  gsize header;          /* size */
  gboolean has[4];       /* checksums: adler and crc of the plain bytes, of the packed ones */
  guint32 sum[4];
} Block;

static gboolean
lzop_probe (const guint8 *head, gsize size)
{
  return size >= sizeof magic && memcmp (head, magic, sizeof magic) == 0;
}

static gboolean
set_damaged (guint64 offset, const char *what, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "lzop at %" G_GUINT64_FORMAT " of the file: %s",
               offset, what);
  return FALSE;
}

static gboolean
set_unsupported (guint64 offset, const char *what, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "lzop at %" G_GUINT64_FORMAT " of the file: %s", offset, what);
  return FALSE;
}

static guint32
checksum (gboolean crc, const guint8 *bytes, gsize size)
{
  return (guint32) (crc ? crc32_z (0, bytes, size) : adler32_z (1, bytes, size));
}

/* Skips the optional field behind a header: its size, it, a checksum. */
static gboolean
skip_extra_field (VmaReader *reader, GError **error)
{
  const guint8 *p = vma_reader_peek (reader, 4, error);

  if (p == NULL)
    return FALSE;
  vma_reader_skip (reader, (guint64) vma_get_be32 (p) + 8);
  return TRUE;
}

/* Where the fields that matter are: offsets behind the magic. */
typedef struct {
  gsize method, flags, mode, name;
} Layout;

static Layout
find_layout (guint version, gboolean filter)
{
  gboolean new = version >= VERSION_NEW;
  Layout layout = { .method = new ? 6 : 4 };

  layout.flags = layout.method + (new ? 2 : 1);
  layout.mode = layout.flags + 4 + (filter ? 4 : 0);
  layout.name = layout.mode + (new ? 12 : 8);
  return layout;
}

/* Reads a file's header and moves behind it. */
static gboolean
read_header (VmaReader *reader, guint32 *flags, GError **error)
{
  guint64 at = reader->offset;
  const guint8 *p = vma_reader_peek (reader, sizeof magic + 12, error);

  if (p == NULL)
    return FALSE;
  if (memcmp (p, magic, sizeof magic) != 0)
    return set_damaged (at, "this is not a header", error);
  vma_reader_skip (reader, sizeof magic);

  guint version = vma_get_be16 (p + sizeof magic);
  *flags = vma_get_be32 (p + sizeof magic + find_layout (version, FALSE).flags);
  Layout layout = find_layout (version, (*flags & FLAG_FILTER) != 0);
  p = vma_reader_peek (reader, layout.name + 1, error);
  if (p == NULL)
    return FALSE;
  gsize size = layout.name + 1 + p[layout.name];
  p = vma_reader_peek (reader, size + 4, error);
  if (p == NULL)
    return FALSE;
  if (checksum ((*flags & FLAG_HEADER_CRC) != 0, p, size) != vma_get_be32 (p + size))
    return set_damaged (at, "checksum mismatch in a header", error);
  if (p[layout.method] < 1 || p[layout.method] > 3)
    return set_unsupported (at, "an unknown method", error);
  if ((*flags & FLAG_FILTER) != 0)
    return set_unsupported (at, "a filter", error);
  vma_reader_skip (reader, size + 4);
  return (*flags & FLAG_EXTRA_FIELD) == 0 || skip_extra_field (reader, error);
}

/* Looks at the header of the block that comes next.  block->plain is 0 at the end of a file. */
static gboolean
peek_block (VmaReader *reader, guint32 flags, Block *block, GError **error)
{
  static const guint32 sums[4]
      = { FLAG_ADLER_PLAIN, FLAG_CRC_PLAIN, FLAG_ADLER_PACKED, FLAG_CRC_PACKED };
  guint64 at = reader->offset;
  const guint8 *p = vma_reader_peek (reader, 4, error);

  if (p == NULL)
    return FALSE;
  *block = (Block){ .plain = vma_get_be32 (p), .header = 4 };
  if (block->plain == 0)
    return TRUE;
  if (block->plain == MULTIPART)
    return set_unsupported (at, "one part of several", error);
  p = vma_reader_peek (reader, 8, error);
  if (p == NULL)
    return FALSE;
  block->packed = vma_get_be32 (p + 4);
  if (block->plain > BLOCK_MAX || block->packed == 0 || block->packed > block->plain)
    return set_damaged (at, "impossible sizes of a block", error);
  block->header = 8;
  for (guint i = 0; i < 4; i++) {
    /* A stored block's bytes have one checksum only. */
    /* cppcheck-suppress arrayIndexThenCheck; "i < 2" is no check of a limit */
    block->has[i] = (flags & sums[i]) != 0 && (i < 2 || block->packed < block->plain);
    block->header += block->has[i] ? 4 : 0;
  }
  p = vma_reader_peek (reader, block->header, error);
  if (p == NULL)
    return FALSE;
  p += 8;
  for (guint i = 0; i < 4; i++)
    if (block->has[i]) {
      block->sum[i] = vma_get_be32 (p);
      p += 4;
    }
  return TRUE;
}

/* Moves over a block that was looked at, having made sure that all of it is there. */
static gboolean
skip_block (VmaReader *reader, const Block *block, GError **error)
{
  vma_reader_skip (reader, block->header + block->packed - 1);
  if (vma_reader_peek (reader, 1, error) == NULL)
    return FALSE;
  vma_reader_skip (reader, 1);
  return TRUE;
}

/* The place of `out` as a checkpoint between blocks. */
static gboolean
emit (const VmaPassSink *sink, guint64 in, guint64 out, guint32 flags, GError **error)
{
  guint8 packed[4];

  vma_put_be32 (packed, flags);
  g_autoptr (GBytes) state = g_bytes_new (packed, sizeof packed);
  VmaCheckpoint checkpoint = { in, out, state, 0 };
  return sink->checkpoint (sink->data, &checkpoint, error);
}

/* Behind the end marker of a file: nothing, or another file. */
static gboolean
next_file (VmaReader *reader, gboolean *end, guint32 *flags, GError **error)
{
  GError *local_error = NULL;

  *end = vma_reader_at_end (reader, &local_error);
  if (local_error != NULL) {
    g_propagate_error (error, local_error);
    return FALSE;
  }
  return *end || read_header (reader, flags, error);
}

typedef struct {
  const VmaPassSink *sink;
  guint64 spacing;
  guint64 out, last; /* the archive's bytes so far, and those at the last checkpoint */
  guint32 flags;
} Walk;

static gboolean
walk_blocks (Walk *walk, VmaReader *reader, GCancellable *cancellable, GError **error)
{
  gboolean end = FALSE;

  if (!read_header (reader, &walk->flags, error))
    return FALSE;
  while (!end) {
    Block block;
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "indexing was cancelled");
      return FALSE;
    }
    if (!peek_block (reader, walk->flags, &block, error))
      return FALSE;
    if (block.plain == 0) {
      vma_reader_skip (reader, block.header);
      if (!next_file (reader, &end, &walk->flags, error))
        return FALSE;
      continue;
    }
    /* A chunk ends before a block that would make it larger than need be. */
    if (walk->out > walk->last && walk->out + block.plain - walk->last > walk->spacing) {
      if (!emit (walk->sink, reader->offset, walk->out, walk->flags, error))
        return FALSE;
      walk->last = walk->out;
    }
    if (!skip_block (reader, &block, error))
      return FALSE;
    walk->out += block.plain;
  }
  return TRUE;
}

static gboolean
lzop_walk (const VmaCodecInput *input, const VmaCodecLimits *limits, const VmaPassSink *sink,
           guint64 *total, GCancellable *cancellable, GError **error)
{
  Walk walk = { .sink = sink, .spacing = limits->spacing };
  g_auto (VmaReader) reader;

  vma_reader_init (&reader, input, 0, WALK_INPUT);
  gboolean ok = walk_blocks (&walk, &reader, cancellable, error);
  /* What is whole before the damage stays readable. */
  if (!ok && walk.out > walk.last)
    emit (sink, reader.offset, walk.out, walk.flags, NULL);
  *total = walk.out;
  return ok;
}

static gboolean
check_sums (const Block *block, guint first, const guint8 *bytes, gsize size, guint64 at,
            GError **error)
{
  for (guint i = first; i < first + 2; i++)
    if (block->has[i] && checksum (i % 2 == 1, bytes, size) != block->sum[i])
      return set_damaged (at, "checksum mismatch in a block", error);
  return TRUE;
}

/* Decodes the block that was looked at into out[0..block->plain). */
static gboolean
decode_block (VmaReader *reader, const Block *block, guint8 *out, GError **error)
{
  guint64 at = reader->offset;
  const guint8 *p = vma_reader_peek (reader, block->header + block->packed, error);
  lzo_uint size = block->plain;

  if (p == NULL)
    return FALSE;
  p += block->header;
  if (!check_sums (block, 2, p, block->packed, at, error))
    return FALSE;
  if (block->packed == block->plain)
    memcpy (out, p, block->plain);
  else if (lzo1x_decompress_safe (p, block->packed, out, &size, NULL) != LZO_E_OK
           || size != block->plain)
    return set_damaged (at, "a block that cannot be decoded", error);
  if (!check_sums (block, 0, out, block->plain, at, error))
    return FALSE;
  vma_reader_skip (reader, block->header + block->packed);
  return TRUE;
}

static gboolean
lzop_decode (const VmaCheckpoint *from, const VmaCodecInput *input,
             const VmaCodecLimits *limits G_GNUC_UNUSED, guint8 *out, gsize size, GError **error)
{
  g_auto (VmaReader) reader;
  guint32 flags = 0;

  vma_reader_init (&reader, input, from->in, MIN (DECODE_INPUT, size + 1024));
  if (from->state != NULL && g_bytes_get_size (from->state) == 4)
    flags = vma_get_be32 (g_bytes_get_data (from->state, NULL));
  else if (!read_header (&reader, &flags, error))
    return FALSE;

  while (size > 0) {
    Block block;
    gboolean end;
    if (!peek_block (&reader, flags, &block, error))
      return FALSE;
    if (block.plain == 0) {
      vma_reader_skip (&reader, block.header);
      if (!next_file (&reader, &end, &flags, error))
        return FALSE;
      if (end)
        return set_damaged (reader.offset, "the file ends too early", error);
      continue;
    }
    if (block.plain > size)
      return set_damaged (reader.offset, "a block is larger than it was", error);
    if (!decode_block (&reader, &block, out, error))
      return FALSE;
    out += block.plain;
    size -= block.plain;
  }
  return TRUE;
}

const VmaCodec vma_lzop_codec = {
  .kind = "lzop",
  .probe = lzop_probe,
  .walk = lzop_walk,
  .decode = lzop_decode,
  .spacing = SPACING,
};
