/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the analysis of a pass behind the decoder, in a thread of its own where there is a processor
 * for it.
 *
 * Blocks go in by a bounded queue, checkpoints come out by another.  All functions are for
 * the thread of the pass; the worker's own thread only ever touches the analysis, the records that
 * were submitted, and bytes of the ring that the decoder will not write before the queue has moved
 * on: the ring must have room for VMA_ZSTD_QUEUE + 2 blocks more than the window.
 *
 * One mutex guards the queues.  pthread's, which race detectors know.
 */
#pragma once

#include "source/zstd/analysis.h"

#define VMA_ZSTD_QUEUE 16

typedef struct VmaZstdWorker VmaZstdWorker;

VmaZstdWorker *vma_zstd_worker_new (const VmaCodecLimits *limits, const VmaZstdRing *ring,
                                    gboolean threaded, gboolean thorough);
void vma_zstd_worker_free (VmaZstdWorker *worker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaZstdWorker, vma_zstd_worker_free)

/* As in analysis.h; before anything else. */
void vma_zstd_worker_resume (VmaZstdWorker *worker, guint64 out, const VmaZstdCheckpoint *state);

/* A record to fill in for the next block, with or without its frame's header, and its submission.
 */
VmaZstdRecord *vma_zstd_worker_record (VmaZstdWorker *worker);
void vma_zstd_worker_submit (VmaZstdWorker *worker);

/* Waits until everything was looked at; the ring may be replaced then, if a frame ended. */
void vma_zstd_worker_flush (VmaZstdWorker *worker);

/* Everything was looked at, and the stream breaks off: what is open comes out. */
void vma_zstd_worker_cut (VmaZstdWorker *worker);

/* Hands what came out to the sink.  FALSE with the sink's error, or the analysis's. */
gboolean vma_zstd_worker_drain (VmaZstdWorker *worker, const VmaPassSink *sink, GError **error);

guint vma_zstd_worker_given_up (VmaZstdWorker *worker);
