/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a compressed file forwards through a codec's input, in pieces of any size.
 *
 * A plain structure on its user's stack or in its decoder; one thread.
 */
#pragma once

#include "source/codec.h"

typedef struct {
  const VmaCodecInput *input;
  guint64 offset; /* of the next byte */
  gsize chunk;    /* bytes read at once, if they are there */
  guint8 *buffer;
  gsize room, begin, end; /* buffer[begin..end) is ahead of `offset` */
} VmaReader;

void vma_reader_init (VmaReader *reader, const VmaCodecInput *input, guint64 offset, gsize chunk);
void vma_reader_clear (VmaReader *reader);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (VmaReader, vma_reader_clear)

/* The next `size` bytes, in the buffer; valid until the next call.  NULL at an error, which is
 * VMA_ERROR_DAMAGED where the file ends before. */
const guint8 *vma_reader_peek (VmaReader *reader, gsize size, GError **error);

/* The next bytes, at least one: *size of them, 0 at the end of the file.  NULL at an error. */
const guint8 *vma_reader_peek_some (VmaReader *reader, gsize *size, GError **error);

/* Whether the file ends at the next byte.  FALSE with *error set, too. */
gboolean vma_reader_at_end (VmaReader *reader, GError **error);

/* Goes forward, past bytes that need not have been read. */
void vma_reader_skip (VmaReader *reader, guint64 size);
