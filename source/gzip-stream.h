/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder for a sequence of gzip members, on top of raw inflate, so that it can be taken up in the
 * middle of a member.
 *
 * Owns an inflate state.  One thread.
 */
#pragma once

#include <glib.h>
#include <zlib.h>

typedef enum {
  GZIP_HEADER,  /* of a member */
  GZIP_DEFLATE, /* its data */
  GZIP_TRAILER, /* its crc32 and length */
  GZIP_BETWEEN, /* a member has ended */
  GZIP_PADDING, /* and only zeros may follow */
} GzipPhase;

typedef struct {
  GzipPhase phase;
  guint64 offset;    /* in the file of the next byte to feed */
  gboolean check;    /* whether crc32 and length are to be verified */
  guint32 crc, size; /* of the member's output so far */
  z_stream z;        /* data_type as zlib leaves it: where a block ends, see Z_BLOCK */
  guint8 last_byte;  /* the one before `offset` */

  /* In a header or trailer. */
  guint field;       /* of the header */
  guint32 field_at;  /* bytes of it done */
  guint8 flags;
  guint32 extra_size;
  guint32 header_crc;
  guint8 bytes[10];
} GzipStream;

/* FALSE and VMA_ERROR_UNSUPPORTED where there is no memory. */
gboolean gzip_stream_init (GzipStream *stream, guint64 offset, gboolean check, GError **error);
void gzip_stream_clear (GzipStream *stream);

/* Where a step ended. */
typedef enum {
  GZIP_STEP_MORE,     /* input used up, or output full */
  GZIP_STEP_BOUNDARY, /* at the end of a deflate block; only with `stop_at_blocks` */
  GZIP_STEP_MEMBER,   /* before the first byte of another member, which is the next input */
  GZIP_STEP_FAILED,   /* VMA_ERROR_DAMAGED, VMA_ERROR_UNSUPPORTED */
} GzipStep;

/* Consumes *in[0..*in_size) and fills *out[0..*out_size), moving all four on. */
GzipStep gzip_stream_step (GzipStream *stream, const guint8 **in, gsize *in_size, guint8 **out,
                           gsize *out_size, gboolean stop_at_blocks, GError **error);

/* Whether the file may end here. */
gboolean gzip_stream_may_end (const GzipStream *stream);
