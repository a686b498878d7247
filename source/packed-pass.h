/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one forward pass over a compressed file (or the walk over its headers), on a thread of its own.
 *
 * It begins when somebody first reads where no checkpoint is known, at the last one that is.  Its
 * output goes into a ring, where the scanner, which reads forwards just behind it, finds it: so
 * decoding and scanning overlap, and nothing is decoded twice.  Its checkpoints go to the sidecar.
 *
 * It is driven by demand: it runs ahead of the furthest byte that was asked for, by as much as was
 * asked for so far and by no more than fits the ring.  Reading an archive's header therefore touches
 * only the first bytes of the file.  A reader that wants bytes between the last checkpoint and the
 * ring waits until they are behind a checkpoint; for it, the pass runs on without bound.
 *
 * Where the stream is damaged, everything before the damage stays readable, and reads behind it fail
 * with the error of the pass.  When the system refuses a read, those who wait get the error, and the
 * next reader starts the pass again.
 *
 * Does not own the file and the sidecar, which must outlive it.
 * Locking: all functions may be called from any thread; free() when no other call is under way.
 */
#pragma once

#include "source/codec.h"
#include "source/packed-file.h"
#include "source/sidecar.h"

typedef struct VmaPackedPass VmaPackedPass;

VmaPackedPass *vma_packed_pass_new (const VmaPackedFile *file, const VmaCodec *codec,
                                    const VmaCodecLimits *limits, VmaSidecar *sidecar,
                                    gboolean follow);

/* Ends the thread and waits for that. */
void vma_packed_pass_free (VmaPackedPass *pass);

typedef enum {
  VMA_PASS_COPIED, /* bytes came from the ring */
  VMA_PASS_CHUNK,  /* it is in a closed chunk */
  VMA_PASS_END,    /* the archive ends at or before it */
  VMA_PASS_FAILED,
} VmaPassResult;

/*
 * Finds byte `offset` of the archive, waiting until the pass has come there.  VMA_PASS_COPIED: the
 * first *n (at least one) of `size` bytes there are in `buffer`.
 */
VmaPassResult vma_packed_pass_read (VmaPackedPass *pass, void *buffer, gsize size, guint64 offset,
                                    gsize *n, GCancellable *cancellable, GError **error);

/* The size of the archive, or VMA_SIZE_UNKNOWN. */
guint64 vma_packed_pass_total (VmaPackedPass *pass);

/* Bytes of the compressed file behind the pass. */
guint64 vma_packed_pass_position (VmaPackedPass *pass);

/* Chunk `index` of the sidecar is broken: stops the pass, and forgets it and what follows.  FALSE (with
 * no error set) where that cannot be done, or another thread is doing it. */
gboolean vma_packed_pass_rewind (VmaPackedPass *pass, guint64 index);
