/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounded cache of decoded chunks, each decoded from its front as far as somebody needs it.
 *
 * Owns the chunks' memory, the threads that read ahead, and decoders that stopped half-way ("parked").
 * How a chunk is decoded is the owner's affair: it gives a `fill` function.  A chunk is filled by one
 * thread at a time; others that want more of it wait, and go on as soon as their bytes are there.
 * Different chunks are filled in parallel.  What is valid never changes, so it is copied out without
 * the lock, from a chunk that is pinned.
 *
 * The bound counts whole chunks.  It is exceeded by those in use at this moment, one a reading thread, and
 * by one that waits to be used again.
 *
 * Locking: all functions may be called from any thread; free() when no other call is under way.
 */
#pragma once

#include <gio/gio.h>

typedef struct VmaChunks VmaChunks;

typedef struct {
  gpointer data;
  /*
   * Extends chunk `key`, of which bytes[0..have) are valid, to at least `want` (at most `size`) bytes
   * and returns how far it came; 0 and an error where it did not get to `want` (what was valid stays).
   * *parked is what an earlier call left behind for this chunk, or NULL; the call may leave it, change
   * it, or free it.
   */
  gsize (*fill) (gpointer data, guint64 key, guint8 *bytes, gsize size, gsize have, gsize want,
                 gpointer *parked, GError **error);
  void (*park_free) (gpointer parked);
  /* Whether it is as cheap in several calls as in one. */
  gboolean in_steps;
} VmaChunksOps;

/* At most `bytes` of decoded data, `n_threads` (0: none) for reading ahead, `n_parked` decoders. */
VmaChunks *vma_chunks_new (const VmaChunksOps *ops, guint64 bytes, guint n_threads, guint n_parked);

/* Ends reading ahead, after the fill() calls under way. */
void vma_chunks_free (VmaChunks *chunks);

/*
 * Copies bytes [from, from + n) of chunk `key`, which has `size` bytes, decoding what is not there
 * yet.  `cancellable` may be NULL.
 */
gboolean vma_chunks_read (VmaChunks *chunks, guint64 key, gsize size, gsize from, void *buffer,
                          gsize n, GCancellable *cancellable, GError **error);

/* Asks for a chunk to be decoded to its end in the background.  Does nothing where the cache is too
 * small for that, or busy. */
void vma_chunks_prefetch (VmaChunks *chunks, guint64 key, gsize size);

/* How many chunks of `size` bytes it makes sense to prefetch. */
guint vma_chunks_depth (VmaChunks *chunks, gsize size);
