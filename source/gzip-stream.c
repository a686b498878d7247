/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/gzip-stream.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>

/* Bits of a header's flags, and the fields in their order. */
#define FLAG_CRC 0x02
#define FLAG_EXTRA 0x04
#define FLAG_NAME 0x08
#define FLAG_COMMENT 0x10
#define FLAGS_RESERVED 0xe0

enum { FIELD_FIXED, FIELD_EXTRA_SIZE, FIELD_EXTRA, FIELD_NAME, FIELD_COMMENT, FIELD_CRC, FIELD_END };

static const guint8 field_flags[FIELD_END]
    = { 0, FLAG_EXTRA, FLAG_EXTRA, FLAG_NAME, FLAG_COMMENT, FLAG_CRC };

#define TRAILER_SIZE 8u

/* zlib counts in unsigned int. */
#define STEP_MAX (1u << 30)

gboolean
gzip_stream_init (GzipStream *stream, guint64 offset, gboolean check, GError **error)
{
  *stream = (GzipStream){ .phase = GZIP_HEADER, .offset = offset, .check = check };
  if (inflateInit2 (&stream->z, -MAX_WBITS) != Z_OK) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "not enough memory to decode");
    return FALSE;
  }
  return TRUE;
}

void
gzip_stream_clear (GzipStream *stream)
{
  inflateEnd (&stream->z);
}

static gboolean
set_damaged (const GzipStream *stream, const char *what, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
               "gzip at %" G_GUINT64_FORMAT " of the file: %s", stream->offset, what);
  return FALSE;
}

static gboolean
check_fixed (const GzipStream *stream, GError **error)
{
  const guint8 *bytes = stream->bytes;

  if (bytes[0] != 0x1f || bytes[1] != 0x8b || bytes[2] != 8 || (bytes[3] & FLAGS_RESERVED) != 0)
    return set_damaged (stream, "this is not the header of a member", error);
  return TRUE;
}

/* Goes to the next field that the header has, the data if there is none. */
static void
next_field (GzipStream *stream)
{
  do
    stream->field++;
  while (stream->field < FIELD_END && (stream->flags & field_flags[stream->field]) == 0);
  stream->field_at = 0;
  if (stream->field < FIELD_END)
    return;
  stream->field = FIELD_FIXED;
  stream->header_crc = 0;
  stream->phase = GZIP_DEFLATE;
  stream->crc = stream->size = 0;
  inflateReset (&stream->z);
}

static gboolean
header_byte (GzipStream *stream, guint8 byte, GError **error)
{
  guint32 crc = stream->header_crc, at = stream->field_at++;

  stream->header_crc = (guint32) crc32 (crc, &byte, 1);
  switch (stream->field) {
  case FIELD_FIXED:
    stream->bytes[at] = byte;
    if (at < 9)
      return TRUE;
    stream->flags = stream->bytes[3];
    if (!check_fixed (stream, error))
      return FALSE;
    break;
  case FIELD_EXTRA_SIZE:
    stream->bytes[at] = byte;
    if (at < 1)
      return TRUE;
    stream->extra_size = vma_get_le16 (stream->bytes);
    next_field (stream);
    if (stream->extra_size > 0)
      return TRUE;
    break; /* over the empty field, too */
  case FIELD_EXTRA:
    if (stream->field_at < stream->extra_size)
      return TRUE;
    break;
  case FIELD_NAME:
  case FIELD_COMMENT:
    if (byte != 0)
      return TRUE;
    break;
  default: /* FIELD_CRC: the lower half of that of all before */
    stream->header_crc = crc;
    stream->bytes[at] = byte;
    if (at < 1)
      return TRUE;
    if (stream->check && vma_get_le16 (stream->bytes) != (crc & 0xffff))
      return set_damaged (stream, "checksum mismatch in the header of a member", error);
    break;
  }
  next_field (stream);
  return TRUE;
}

static gboolean
trailer_byte (GzipStream *stream, guint8 byte, GError **error)
{
  stream->bytes[stream->field_at++] = byte;
  if (stream->field_at < TRAILER_SIZE)
    return TRUE;
  stream->field_at = 0;
  stream->phase = GZIP_BETWEEN;
  if (!stream->check)
    return TRUE;
  if (vma_get_le32 (stream->bytes) != stream->crc)
    return set_damaged (stream, "checksum mismatch (crc32) in the member that ends here", error);
  if (vma_get_le32 (stream->bytes + 4) != stream->size)
    return set_damaged (stream, "length mismatch in the member that ends here", error);
  return TRUE;
}

static gboolean
inflate_some (GzipStream *stream, const guint8 **in, gsize *in_size, guint8 **out, gsize *out_size,
              gboolean stop_at_blocks, gboolean *stuck, GError **error)
{
  z_stream *z = &stream->z;

  z->next_in = (guint8 *) *in;
  z->avail_in = (uInt) MIN (*in_size, STEP_MAX);
  z->next_out = *out;
  z->avail_out = (uInt) MIN (*out_size, STEP_MAX);
  int result = inflate (z, stop_at_blocks ? Z_BLOCK : Z_NO_FLUSH);
  gsize consumed = (gsize) (z->next_in - *in), made = (gsize) (z->next_out - *out);

  if (consumed > 0)
    stream->last_byte = z->next_in[-1];
  if (stream->check)
    stream->crc = (guint32) crc32_z (stream->crc, *out, made);
  stream->size += (guint32) made;
  stream->offset += consumed;
  *in += consumed;
  *in_size -= consumed;
  *out += made;
  *out_size -= made;
  *stuck = result == Z_BUF_ERROR;
  if (result == Z_STREAM_END)
    stream->phase = GZIP_TRAILER;
  else if (result == Z_MEM_ERROR)
    return set_damaged (stream, "not enough memory to decode", error);
  else if (result != Z_OK && result != Z_BUF_ERROR)
    return set_damaged (stream, z->msg != NULL ? z->msg : "invalid data", error);
  return TRUE;
}

/* One byte of what is not deflate data. */
static gboolean
step_byte (GzipStream *stream, guint8 byte, GError **error)
{
  gboolean ok = TRUE;

  switch (stream->phase) {
  case GZIP_HEADER:
    ok = header_byte (stream, byte, error);
    break;
  case GZIP_TRAILER:
    ok = trailer_byte (stream, byte, error);
    break;
  default:
    stream->phase = GZIP_PADDING;
    if (byte != 0)
      return set_damaged (stream, "something that is not gzip follows a member", error);
    break;
  }
  if (ok)
    stream->offset++;
  return ok;
}

static gboolean
is_at_block_end (const GzipStream *stream)
{
  /* 128: just behind a block, 64: it was the last one. */
  return (stream->z.data_type & (128 | 64)) == 128;
}

GzipStep
gzip_stream_step (GzipStream *stream, const guint8 **in, gsize *in_size, guint8 **out,
                  gsize *out_size, gboolean stop_at_blocks, GError **error)
{
  for (;;) {
    if (stream->phase == GZIP_DEFLATE) {
      gboolean stuck;
      if (!inflate_some (stream, in, in_size, out, out_size, stop_at_blocks, &stuck, error))
        return GZIP_STEP_FAILED;
      if (stream->phase != GZIP_DEFLATE)
        continue;
      if (stop_at_blocks && !stuck && is_at_block_end (stream))
        return GZIP_STEP_BOUNDARY;
      if (stuck || *out_size == 0 || *in_size == 0)
        return GZIP_STEP_MORE;
      continue;
    }
    if (*in_size == 0)
      return GZIP_STEP_MORE;
    if (stream->phase == GZIP_BETWEEN && **in == 0x1f) {
      stream->phase = GZIP_HEADER;
      return GZIP_STEP_MEMBER;
    }
    if (!step_byte (stream, **in, error))
      return GZIP_STEP_FAILED;
    (*in)++;
    (*in_size)--;
  }
}

gboolean
gzip_stream_may_end (const GzipStream *stream)
{
  return stream->phase == GZIP_BETWEEN || stream->phase == GZIP_PADDING;
}
