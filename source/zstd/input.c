/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/input.h"

#include "source/zstd/frame.h"

#include "vma/error.h"

#include <string.h>

/* A block at least; more is fewer calls, and more that was not wanted. */
#define ROOM (256u << 10)

void
vma_zstd_input_init (VmaZstdInput *in, const VmaCodecInput *input, guint64 at)
{
  *in = (VmaZstdInput){ .input = input, .at = at, .room = ROOM };
}

void
vma_zstd_input_clear (VmaZstdInput *in)
{
  g_clear_pointer (&in->buffer, g_free);
}

const guint8 *
vma_zstd_input_peek (VmaZstdInput *in, gsize size, gsize *got, GError **error)
{
  g_return_val_if_fail (size <= in->room, NULL);
  if (in->buffer == NULL)
    in->buffer = g_malloc (in->room);
  if (in->end - in->start < size) {
    memmove (in->buffer, in->buffer + in->start, in->end - in->start);
    in->end -= in->start;
    in->start = 0;
  }
  while (in->end - in->start < size) {
    gssize more = in->input->read (in->input->data, in->buffer + in->end, in->room - in->end,
                                   in->at + (in->end - in->start), error);
    if (more < 0)
      return NULL;
    if (more == 0)
      break;
    in->end += (gsize)more;
  }
  *got = MIN (size, in->end - in->start);
  return in->buffer + in->start;
}

const guint8 *
vma_zstd_input_need (VmaZstdInput *in, gsize size, GError **error)
{
  gsize got;
  const guint8 *data = vma_zstd_input_peek (in, size, &got, error);

  if (data == NULL || got == size)
    return data;
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
               "offset %" G_GUINT64_FORMAT ": the file ends inside a frame", in->at);
  return NULL;
}

void
vma_zstd_input_skip (VmaZstdInput *in, guint64 size)
{
  gsize buffered = (gsize)MIN (size, in->end - in->start);

  in->start += buffered;
  in->at += size;
  if (buffered < size)
    in->start = in->end = 0;
}
