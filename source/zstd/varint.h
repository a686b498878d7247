/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers of any size in byte strings: seven bits a byte, the lowest first.
 *
 * A VmaCursor walks over untrusted bytes: once something did not fit, `bad` is set and all further
 * reads give nothing.  Inline, any thread.
 */
#pragma once

#include <glib.h>

typedef struct {
  const guint8 *data;
  gsize size;
  gboolean bad;
} VmaCursor;

static inline void
vma_varint_append (GByteArray *to, guint64 value)
{
  guint8 bytes[10];
  guint n = 0;

  do {
    bytes[n++] = (guint8)(value & 0x7F) | (value > 0x7F ? 0x80 : 0);
    value >>= 7;
  } while (value != 0);
  g_byte_array_append (to, bytes, n);
}

static inline guint64
vma_cursor_varint (VmaCursor *cursor)
{
  guint64 value = 0;

  for (guint shift = 0; shift < 64 && !cursor->bad; shift += 7) {
    if (cursor->size == 0)
      break;
    guint8 byte = *cursor->data++;
    cursor->size--;
    if (shift == 63 && byte > 1)
      break;
    value |= (guint64)(byte & 0x7F) << shift;
    if (byte < 0x80)
      return value;
  }
  cursor->bad = TRUE;
  return 0;
}

/* The next `size` bytes, or NULL. */
static inline const guint8 *
vma_cursor_bytes (VmaCursor *cursor, guint64 size)
{
  const guint8 *at = cursor->data;

  if (cursor->bad || size > cursor->size) {
    cursor->bad = TRUE;
    return NULL;
  }
  cursor->data += size;
  cursor->size -= (gsize)size;
  return at;
}
