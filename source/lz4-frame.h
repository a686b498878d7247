/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of an lz4 frame.  Pure functions.
 */
#pragma once

#include <glib.h>

#define LZ4_MAGIC 0x184d2204u
#define LZ4_MAGIC_LEGACY 0x184c2102u
#define LZ4_MAGIC_SKIPPABLE 0x184d2a50u /* and the 15 behind it */
#define LZ4_HEADER_MAX 19u
#define LZ4_WINDOW 65536u

/* What the first two bytes of a frame's descriptor say. */
typedef struct {
  guint8 flags, sizes; /* those bytes */
  gboolean independent, block_checksum, content_size, content_checksum, dictionary;
  guint32 block_max;
} Lz4Frame;

/* FALSE and an error with `offset` in it where they are not those of a frame we can read. */
gboolean lz4_frame_parse_flags (guint8 flags, guint8 sizes, guint64 offset, Lz4Frame *frame,
                                GError **error);

/* Bytes of a frame's header, its magic and checksum included. */
gsize lz4_frame_header_size (const Lz4Frame *frame);

/* Proves a whole header. */
gboolean lz4_frame_check (const Lz4Frame *frame, const guint8 *header, guint64 offset,
                          GError **error);

/* The content size in a header that has one. */
guint64 lz4_frame_content_size (const guint8 *header);

/* Bytes of the data of a block, which is stored where *stored. */
guint32 lz4_block_size (guint32 word, gboolean *stored);

/* What an independent block decodes to, from its lengths alone; 0 where it is broken or gives more
 * than `max`. */
gsize lz4_block_measure (const guint8 *block, gsize size, gsize max);

gboolean lz4_set_damaged (guint64 offset, const char *what, GError **error);
gboolean lz4_set_unsupported (guint64 offset, const char *what, GError **error);
