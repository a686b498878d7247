/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decodes lz4 frames block by block, from the beginning of the file, of a frame, or of a block.
 *
 * Reads through VmaReader where it decodes from a file; a pass, which is handed its input, keeps what
 * is incomplete itself and calls the same functions on it.
 *
 * Owns a buffer for a block and the 64 KiB before it.  One thread.
 */
#pragma once

#include "source/codec.h"
#include "source/lz4-frame.h"

typedef enum { LZ4_PART_MAGIC, LZ4_PART_BLOCK, LZ4_PART_CHECKSUM, LZ4_PART_SKIP } Lz4Part;

typedef struct {
  Lz4Part part;     /* what comes next */
  guint64 offset;   /* where in the file that is */
  guint64 skip;     /* bytes left of a skippable frame */
  Lz4Frame frame;
  guint64 content;  /* bytes the frame gave so far */
  guint64 declared; /* bytes it is to give, if it says so */
  gboolean whole;   /* its content was seen from its beginning */
  void *hash;       /* XXH32 of it */

  guint8 *buffer;   /* window, then block */
  gsize room;
  gsize window;     /* bytes in front of the block in `buffer` */
  gsize size;       /* of the block decoded last; taken away by lz4_stream_next() */
} Lz4Stream;

void lz4_stream_init (Lz4Stream *stream, guint64 offset);
void lz4_stream_clear (Lz4Stream *stream);

/* The state of a checkpoint between blocks, and back.  */
GBytes *lz4_stream_save (const Lz4Stream *stream);
gboolean lz4_stream_restore (Lz4Stream *stream, const VmaCheckpoint *from, GError **error);

/*
 * Decodes one part from bytes[0..size).  *need is 0 and *used are the bytes it took (and the output
 * is what lz4_stream_output() says), or *need is how many bytes there must be to go on.
 */
gboolean lz4_stream_step (Lz4Stream *stream, const guint8 *bytes, gsize size, gsize *used,
                          gsize *need, GError **error);

/* The block that the last step gave: *size bytes, 0 for none. */
const guint8 *lz4_stream_output (const Lz4Stream *stream, gsize *size);

/* Whether the file may end here. */
gboolean lz4_stream_may_end (const Lz4Stream *stream);
