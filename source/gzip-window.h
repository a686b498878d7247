/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a gzip checkpoint: the bits of a byte that deflate has not used yet, the member's crc32
 * and length so far, and of the 32 KiB window before it those bytes that are used behind it.
 *
 * Which they are, a stock inflate tells when it decodes the next 32 KiB three times with dictionaries
 * of our making: position p of the window holds the low byte of p, then its high byte, then the
 * complement of that.  Where the last two outputs differ, the byte was copied from the window, and the
 * first two outputs say from which place.
 *
 * One thread for each object.
 */
#pragma once

#include <glib.h>

#define GZIP_WINDOW 32768u

/* Enough input for a window's worth of output of any sensible encoder; where it is not, all of the
 * window is kept. */
#define GZIP_LOOK_AHEAD (256u << 10)

typedef struct {
  guint bits;     /* of `byte`, the upper ones, that are still to be decoded */
  guint8 byte;
  guint32 crc, size;
  guint window_size;
  guint8 window[GZIP_WINDOW];
} GzipState;

/*
 * Packs a state.  `input` is what follows in the file, enough to give `produced` bytes; if that is not
 * a whole window's worth, `all` says whether the member goes on behind it (then all is kept).
 */
GBytes *gzip_state_pack (const GzipState *state, const guint8 *input, gsize input_size,
                         gsize produced, gboolean all);

/* FALSE where it is not what gzip_state_pack() makes. */
gboolean gzip_state_unpack (GBytes *bytes, GzipState *state);
