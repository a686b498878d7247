/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuzz/repair.h"

#include "fuzz/input.h"
#include "vma/bytes.h"

#include <lz4.h>
#include <lzo/lzo1x.h>
#include <string.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

/* Of one stream; what gives more is left as it is. */
#define REPAIR_MAX (8u << 20)

static guint8 decoded[REPAIR_MAX];

/* --- gzip -------------------------------------------------------------------------------------- */

static gsize
skip_string (const guint8 *file, gsize size, gsize at)
{
  while (at < size && file[at] != 0)
    at++;
  return at + 1;
}

static gsize
gzip_header (guint8 *file, gsize size, gsize at)
{
  guint flags = file[at + 3];
  gsize start = at;

  at += 10;
  if ((flags & 4) != 0 && at + 2 <= size)
    at += 2u + vma_get_le16 (file + at);
  if ((flags & 8) != 0)
    at = skip_string (file, size, at);
  if ((flags & 16) != 0)
    at = skip_string (file, size, at);
  if ((flags & 2) != 0 && at + 2 <= size) {
    guint16 sum = (guint16)crc32 (0, file + start, (uInt)(at - start));
    file[at++] = (guint8)sum;
    file[at++] = (guint8)(sum >> 8);
  }
  return at;
}

static void
repair_gzip (guint8 *file, gsize size)
{
  for (gsize at = 0; at + 18 <= size && file[at] == 0x1f && file[at + 1] == 0x8b;) {
    z_stream z = { 0 };

    at = gzip_header (file, size, at);
    if (at >= size || inflateInit2 (&z, -15) != Z_OK)
      return;
    z.next_in = file + at;
    z.avail_in = (uInt)(size - at);
    z.next_out = decoded;
    z.avail_out = REPAIR_MAX;
    int result = inflate (&z, Z_FINISH);
    gsize n = z.total_out;
    at = size - z.avail_in;
    inflateEnd (&z);
    if (result != Z_STREAM_END || at + 8 > size)
      return;
    vma_put_le32 (file + at, (guint32)crc32 (0, decoded, (uInt)n));
    vma_put_le32 (file + at + 4, (guint32)n);
    at += 8;
  }
}

/* --- lz4 --------------------------------------------------------------------------------------- */

/* The blocks of a frame; returns where the content's sum stands, or 0. */
static gsize
lz4_blocks (guint8 *file, gsize size, gsize at, guint flags, gsize *total)
{
  while (at + 4 <= size) {
    guint32 word = vma_get_le32 (file + at), n = word & 0x7fffffff;
    gboolean stored = word >> 31 != 0;

    at += 4;
    if (word == 0)
      return at;
    if (n > size - at || n > REPAIR_MAX - *total)
      return 0;
    int got = (int)n;
    if (stored)
      memcpy (decoded + *total, file + at, n);
    else {
      gsize window = (flags & 0x20) != 0 ? 0 : MIN (*total, 65536);
      got = LZ4_decompress_safe_usingDict ((const char *)file + at, (char *)decoded + *total,
                                           (int)n, (int)(REPAIR_MAX - *total),
                                           (const char *)decoded + *total - window, (int)window);
    }
    if (got < 0)
      return 0;
    at += n;
    if ((flags & 0x10) != 0 && at + 4 <= size) {
      vma_put_le32 (file + at, XXH32 (file + at - n, n, 0));
      at += 4;
    }
    *total += (gsize)got;
  }
  return 0;
}

static void
repair_lz4 (guint8 *file, gsize size)
{
  for (gsize start = 0, at; size - start >= 19 && vma_get_le32 (file + start) == 0x184d2204;
       start = at) {
    guint flags = file[start + 4];
    gsize total = 0;
    gsize header = 6 + ((flags & 8) != 0 ? 8 : 0) + ((flags & 1) != 0 ? 4 : 0);

    file[start + header] = (guint8)(XXH32 (file + start + 4, header - 4, 0) >> 8);
    at = lz4_blocks (file, size, start + header + 1, flags, &total);
    if (at == 0)
      return;
    if ((flags & 8) != 0) {
      vma_put_le64 (file + start + 6, total);
      file[start + header] = (guint8)(XXH32 (file + start + 4, header - 4, 0) >> 8);
    }
    if ((flags & 4) != 0) {
      if (size - at < 4)
        return;
      vma_put_le32 (file + at, XXH32 (decoded, total, 0));
      at += 4;
    }
  }
}

/* --- lzop -------------------------------------------------------------------------------------- */

static guint32
lzop_sum (gboolean crc, const guint8 *bytes, gsize size)
{
  return (guint32)(crc ? crc32 (0, bytes, (uInt)size) : adler32 (1, bytes, (uInt)size));
}

/* Writes the sums that `flags` ask for. */
static gsize
lzop_put (guint8 *file, gsize at, gboolean adler, gboolean crc, const guint8 *bytes, gsize size)
{
  if (adler) {
    vma_put_be32 (file + at, lzop_sum (FALSE, bytes, size));
    at += 4;
  }
  if (crc) {
    vma_put_be32 (file + at, lzop_sum (TRUE, bytes, size));
    at += 4;
  }
  return at;
}

static void
lzop_blocks (guint8 *file, gsize size, gsize at, guint32 flags)
{
  while (size - at >= 8) {
    guint32 full = vma_get_be32 (file + at), packed = vma_get_be32 (file + at + 4);
    gboolean stored = packed >= full;
    gsize sums = at + 8, data = sums;

    for (guint i = 0; i < 4; i++)
      data += (flags & (guint[]){ 1, 0x100, 2, 0x200 }[i]) != 0 && (i < 2 || !stored) ? 4 : 0;
    if (full == 0 || full > REPAIR_MAX || data > size || packed > size - data || packed > full)
      return;
    lzo_uint got = REPAIR_MAX;
    if (stored)
      memcpy (decoded, file + data, full);
    else if (lzo1x_decompress_safe (file + data, packed, decoded, &got, NULL) != LZO_E_OK)
      return;
    sums = lzop_put (file, sums, (flags & 1) != 0, (flags & 0x100) != 0, decoded, full);
    if (!stored)
      lzop_put (file, sums, (flags & 2) != 0, (flags & 0x200) != 0, file + data, packed);
    at = data + packed;
  }
}

static void
repair_lzop (guint8 *file, gsize size)
{
  if (size < 45)
    return;
  gboolean recent = file[9] * 256u + file[10] >= 0x0940;
  gsize at = recent ? 17 : 14;
  guint32 flags = vma_get_be32 (file + at);
  at += ((flags & 0x800) != 0 ? 8u : 4u) + (recent ? 12 : 8);
  at += 1u + file[at];
  if (size - at < 4 || at > size)
    return;
  vma_put_be32 (file + at, lzop_sum ((flags & 0x1000) != 0, file + 9, at - 9));
  if ((flags & 0x40) == 0)
    lzop_blocks (file, size, at + 4, flags);
}

/* --- zstd -------------------------------------------------------------------------------------- */

static void
repair_zstd (guint8 *file, gsize size)
{
  for (gsize at = 0; at < size;) {
    gsize n = ZSTD_findFrameCompressedSize (file + at, size - at);

    if (ZSTD_isError (n))
      return;
    if (n > 8 && vma_get_le32 (file + at) == ZSTD_MAGICNUMBER && (file[at + 4] & 4) != 0) {
      /* The same frame without a sum. */
      g_autofree guint8 *bare = g_memdup2 (file + at, n - 4);
      bare[4] &= (guint8)~4;
      gsize got = ZSTD_decompress (decoded, REPAIR_MAX, bare, n - 4);
      if (!ZSTD_isError (got))
        vma_put_le32 (file + at + n - 4, (guint32)XXH64 (decoded, got, 0));
    }
    at += n;
  }
}

gboolean
repair_sums (guint8 *file, gsize size)
{
  g_autofree guint8 *old = g_memdup2 (file, size);

  if (size < 16)
    return FALSE;
  if (file[0] == 0x1f && file[1] == 0x8b)
    repair_gzip (file, size);
  else if (memcmp (file, "\x89LZO\0\r\n\x1a\n", 9) == 0)
    repair_lzop (file, size);
  else if (vma_get_le32 (file) == 0x184d2204)
    repair_lz4 (file, size);
  else
    repair_zstd (file, size);
  return memcmp (old, file, size) != 0;
}
