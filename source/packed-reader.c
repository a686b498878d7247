/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/packed-reader.h"

#include "vma/error.h"

#include <string.h>

void
vma_reader_init (VmaReader *reader, const VmaCodecInput *input, guint64 offset, gsize chunk)
{
  *reader = (VmaReader){ .input = input, .offset = offset, .chunk = chunk };
}

void
vma_reader_clear (VmaReader *reader)
{
  g_clear_pointer (&reader->buffer, g_free);
}

/* Has at least `size` bytes in the buffer, fewer only at the end of the file. */
static gboolean
fill (VmaReader *reader, gsize size, GError **error)
{
  gsize there = reader->end - reader->begin;
  /* Where the file grows, to read more than is needed is to wait for it. */
  gsize want = reader->input->size == G_MAXUINT64 ? size : MAX (size, reader->chunk);

  if (there >= size)
    return TRUE;
  if (reader->begin > 0 && there > 0)
    memmove (reader->buffer, reader->buffer + reader->begin, there);
  reader->begin = 0;
  reader->end = there;
  if (reader->room < want) {
    guint8 *buffer = g_try_realloc (reader->buffer, want);
    if (buffer == NULL) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "not enough memory to decode");
      return FALSE;
    }
    reader->buffer = buffer;
    reader->room = want;
  }
  gssize n = reader->input->read (reader->input->data, reader->buffer + there, want - there,
                                  reader->offset + there, error);
  if (n < 0)
    return FALSE;
  reader->end += (gsize) n;
  return TRUE;
}

const guint8 *
vma_reader_peek (VmaReader *reader, gsize size, GError **error)
{
  if (!fill (reader, size, error))
    return NULL;
  if (reader->end - reader->begin < size) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                 "the file ends at %" G_GUINT64_FORMAT ", inside compressed data",
                 reader->offset + (reader->end - reader->begin));
    return NULL;
  }
  return reader->buffer + reader->begin;
}

const guint8 *
vma_reader_peek_some (VmaReader *reader, gsize *size, GError **error)
{
  if (!fill (reader, 1, error))
    return NULL;
  *size = reader->end - reader->begin;
  return reader->buffer + reader->begin;
}

gboolean
vma_reader_at_end (VmaReader *reader, GError **error)
{
  return fill (reader, 1, error) && reader->end == reader->begin;
}

void
vma_reader_skip (VmaReader *reader, guint64 size)
{
  gsize there = reader->end - reader->begin;

  reader->offset += size;
  if (size < there)
    reader->begin += (gsize) size;
  else
    reader->begin = reader->end = 0;
}
