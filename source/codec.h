/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a compression format must provide so that an archive inside it can be read at random.
 *
 * A codec knows how to decode from a checkpoint, and how to find checkpoints; source/packed.c does
 * everything else for all of them: the pass over the file, the sidecar that keeps the checkpoints,
 * the cache of decoded chunks, waiting and read-ahead.  A codec does no I/O of its own: input is
 * handed to it.
 *
 * Two kinds.  A *pass* codec (zstd, gzip) must decode the whole stream once, and emits checkpoints as
 * it goes.  A *walk* codec (lzop, lz4, the zstd seekable format) finds them by looking at headers
 * alone.  A codec may be both and tell from the file which way to go.
 *
 * Locking: a VmaPass belongs to one thread; decode() is called by any number of threads at once.
 */
#pragma once

#include <gio/gio.h>

/* A place from which decoding can be taken up. */
typedef struct {
  guint64 in;    /* offset in the compressed file of the first byte to decode */
  guint64 out;   /* offset in the archive of the first byte it gives */
  GBytes *state; /* what the codec needs besides; NULL for a fresh start (frame, member, block) */

  /* Where the next checkpoint is in the compressed file, if decode() is about all up to there and
   * must end at it: where nothing but a table says so.  0: nobody knows, or a hash will prove it. */
  guint64 next;
} VmaCheckpoint;

typedef struct {
  guint64 memory;  /* bytes a decoder may take at most, windows included */
  guint64 spacing; /* bytes of archive from checkpoint to checkpoint, about */
} VmaCodecLimits;

/* Where a pass delivers.  FALSE (with the error set) ends the pass. */
typedef struct {
  gpointer data;
  /* The next bytes of the archive, in order. */
  gboolean (*output) (gpointer data, const guint8 *bytes, gsize size, GError **error);
  /* A checkpoint, in ascending order.  It may come after the output behind it (a codec may have to
   * see what later blocks use), but an output() call must have ended exactly at its `out`: content
   * hashes are cut there.  The callee copies it. */
  gboolean (*checkpoint) (gpointer data, const VmaCheckpoint *checkpoint, GError **error);
} VmaPassSink;

typedef struct VmaPass VmaPass;       /* each codec's own structures */
typedef struct VmaDecoder VmaDecoder;

/* Random access to the compressed file, for decode() and walk().  Short only at its end. */
typedef struct {
  gpointer data;
  gssize (*read) (gpointer data, void *buffer, gsize size, guint64 offset, GError **error);
  guint64 size; /* of the compressed file; G_MAXUINT64 while it grows */
} VmaCodecInput;

typedef struct {
  const char *kind; /* "zstd" */

  /* Whether the file is of this kind, from its first bytes. */
  gboolean (*probe) (const guint8 *head, gsize size);

  /* Starts a pass, at the beginning of the file or at a checkpoint that an earlier one emitted. */
  VmaPass *(*pass_new) (const VmaCheckpoint *from, const VmaCodecLimits *limits,
                        const VmaPassSink *sink, GError **error);
  /* Feeds the next bytes of the file, any number.  Errors name offsets in the compressed file:
   * VMA_ERROR_DAMAGED (broken, checksum mismatch), VMA_ERROR_UNSUPPORTED (limits, dictionaries). */
  gboolean (*pass_feed) (VmaPass *pass, const guint8 *bytes, gsize size, GError **error);
  /* The file ended here: emits what is pending; an incomplete frame is VMA_ERROR_DAMAGED. */
  gboolean (*pass_end) (VmaPass *pass, GError **error);
  void (*pass_free) (VmaPass *pass);

  /* Finds all checkpoints from headers alone, or returns FALSE with VMA_ERROR_UNSUPPORTED where the
   * file needs a pass, which then starts at the last checkpoint emitted.  *total is the size of the
   * archive.  NULL where the codec cannot. */
  gboolean (*walk) (const VmaCodecInput *input, const VmaCodecLimits *limits,
                    const VmaPassSink *sink, guint64 *total, GCancellable *cancellable,
                    GError **error);

  /* Decodes exactly out[0..size) from a checkpoint on. */
  gboolean (*decode) (const VmaCheckpoint *from, const VmaCodecInput *input,
                      const VmaCodecLimits *limits, guint8 *out, gsize size, GError **error);

  /* Bytes of archive from checkpoint to checkpoint where the user has no wish; 0 is 13 MiB. */
  guint64 spacing;

  /*
   * The same as decode() in steps, each taking up where the last one ended, so that a reader gets the
   * front of a chunk before its back is decoded.  Optional (all three or none).  A decoder belongs to
   * one thread at a time; `input` and `limits` outlive it, the checkpoint need not.
   */
  VmaDecoder *(*decoder_new) (const VmaCheckpoint *from, const VmaCodecInput *input,
                              const VmaCodecLimits *limits, GError **error);
  gboolean (*decoder_read) (VmaDecoder *decoder, guint8 *out, gsize size, GError **error);
  void (*decoder_free) (VmaDecoder *decoder);
} VmaCodec;
