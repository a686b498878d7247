/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The input of a target that is a small program: taken byte by byte, zeros behind its end.  And
 * the check of what must hold, whatever the input is.
 */
#pragma once

#include <glib.h>
#include <stdlib.h>

/* Not g_error(), whose signal libFuzzer does not know. */
#define CHECK(what)                                                                                \
  do {                                                                                             \
    if (!(what)) {                                                                                 \
      g_printerr ("%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what);                        \
      abort ();                                                                                    \
    }                                                                                              \
  } while (0)

typedef struct {
  const guint8 *at;
  gsize left;
} Input;

static inline guint
get (Input *input)
{
  if (input->left == 0)
    return 0;
  input->left--;
  return *input->at++;
}

static inline guint
get16 (Input *input)
{
  guint high = get (input);

  return high * 256u + get (input);
}

/* Up to `size` bytes as they are; how many there were. */
static inline gsize
get_bytes (Input *input, gsize size, const guint8 **bytes)
{
  size = MIN (size, input->left);
  *bytes = input->at;
  input->at += size;
  input->left -= size;
  return size;
}
