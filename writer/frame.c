/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer/frame.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <lz4frame.h>
#include <zstd.h>

/* The zstd seekable format. */
#define SKIPPABLE_MAGIC 0x184D2A5Eu
#define SEEK_MAGIC      0x8F92EAB1u
#define FOOTER_SIZE     9u

struct VmaFramer {
  VmaCompression kind;
  ZSTD_CCtx *zstd;
  LZ4F_preferences_t lz4;
};

/* The libraries themselves take any number, and use the next that they have. */
static gboolean
level_is_valid (VmaCompression kind, int level)
{
  if (kind == VMA_COMPRESS_LZ4)
    return level >= 0 && level <= LZ4F_compressionLevel_max ();
  return level >= ZSTD_minCLevel () && level <= ZSTD_maxCLevel ();
}

VmaFramer *
vma_framer_new (VmaCompression kind, int level, GError **error)
{
  VmaFramer *framer = g_new0 (VmaFramer, 1);

  framer->kind = kind;
  if (!level_is_valid (kind, level)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s has no level %d",
                 kind == VMA_COMPRESS_LZ4 ? "lz4" : "zstd", level);
    vma_framer_free (framer);
    return NULL;
  }
  if (kind == VMA_COMPRESS_LZ4) {
    framer->lz4.compressionLevel = level;
    framer->lz4.frameInfo.blockMode = LZ4F_blockIndependent;
    framer->lz4.frameInfo.blockSizeID = LZ4F_max4MB;
    framer->lz4.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
    return framer;
  }
  framer->zstd = ZSTD_createCCtx ();
  if (framer->zstd == NULL
      || ZSTD_isError (ZSTD_CCtx_setParameter (framer->zstd, ZSTD_c_compressionLevel,
                                               level != 0 ? level : ZSTD_CLEVEL_DEFAULT))
      || ZSTD_isError (ZSTD_CCtx_setParameter (framer->zstd, ZSTD_c_checksumFlag, 1))) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "zstd does not take level %d", level);
    vma_framer_free (framer);
    return NULL;
  }
  return framer;
}

void
vma_framer_free (VmaFramer *framer)
{
  ZSTD_freeCCtx (framer->zstd);
  g_free (framer);
}

gsize
vma_framer_bound (VmaFramer *framer, gsize size)
{
  return framer->kind == VMA_COMPRESS_LZ4 ? LZ4F_compressFrameBound (size, &framer->lz4)
                                          : ZSTD_compressBound (size);
}

gsize
vma_framer_compress (VmaFramer *framer, const guint8 *data, gsize size, guint8 *out, gsize room,
                     GError **error)
{
  gsize n;
  gboolean failed;

  if (framer->kind == VMA_COMPRESS_LZ4) {
    LZ4F_preferences_t preferences = framer->lz4;
    preferences.frameInfo.contentSize = size;
    n = LZ4F_compressFrame (out, room, data, size, &preferences);
    failed = LZ4F_isError (n);
  } else {
    n = ZSTD_compress2 (framer->zstd, out, room, data, size);
    failed = ZSTD_isError (n);
  }
  if (!failed)
    return n;
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "cannot compress: %s",
               framer->kind == VMA_COMPRESS_LZ4 ? LZ4F_getErrorName (n) : ZSTD_getErrorName (n));
  return 0;
}

GByteArray *
vma_seek_table (VmaCompression kind, GArray *frames)
{
  /* The format counts frames in 32 bits, and sizes of a skippable frame too: 2 PiB of archive. */
  if (kind != VMA_COMPRESS_ZSTD || frames->len > G_MAXUINT32 / sizeof (VmaFrameSizes) - 2)
    return NULL;

  gsize content = frames->len * sizeof (VmaFrameSizes) + FOOTER_SIZE;
  GByteArray *table = g_byte_array_sized_new ((guint) (8 + content));
  g_byte_array_set_size (table, (guint) (8 + content));
  vma_put_le32 (table->data, SKIPPABLE_MAGIC);
  vma_put_le32 (table->data + 4, (guint32) content);
  guint8 *at = table->data + 8;
  for (guint i = 0; i < frames->len; i++, at += 8) {
    const VmaFrameSizes *frame = &g_array_index (frames, VmaFrameSizes, i);
    vma_put_le32 (at, frame->compressed);
    vma_put_le32 (at + 4, frame->size);
  }
  vma_put_le32 (at, frames->len);
  at[4] = 0; /* no checksums in the table: each frame has its own */
  vma_put_le32 (at + 5, SEEK_MAGIC);
  return table;
}
