/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A compressed archive as a source that can be read at random, for any codec.
 *
 * Owns the compressed file, the sidecar with the checkpoints, the pass that makes them, the cache of
 * decoded chunks, and the threads of all these.  A read goes, in this order, to the ring of the pass,
 * to a chunk (decoded from its front as far as needed, checked against its content hashes), or waits
 * for the pass.  Readers that go forwards get the next chunks decoded ahead.
 *
 * Memory: cache_size for chunks (and one chunk more for each thread that reads), 8 MiB for the ring
 * while the pass runs (32 when following), what the codec takes for the pass and for each chunk being
 * decoded (limits.memory at most), and 24 bytes a checkpoint.
 *
 * Locking: as all sources, usable by any number of threads.
 */
#pragma once

#include "source/codec.h"
#include "source/packed-file.h"
#include "source/source.h"

typedef struct {
  const char *sidecar_directory; /* where checkpoints are kept; NULL: for this run only */
  guint64 cache_size;            /* bytes of decoded chunks; 0: 256 MiB */
  guint64 memory_limit;          /* for a decoder, and for one chunk; 0: 1 GiB */
  guint64 spacing;               /* of checkpoints; 0: what suits the codec */
  gboolean follow;               /* the file is still being written */
} VmaPackedOptions;

/*
 * Takes over `file`, also where it fails.  `options` may be NULL for the defaults.  The source is
 * complete: its ops (with the codec's kind) are set and it has one reference.
 */
VmaSource *vma_packed_source_new (VmaPackedFile file, const VmaCodec *codec,
                                  const VmaPackedOptions *options, GError **error);

/* How far the pass has come in the compressed file of `size` bytes, for progress reports.  FALSE
 * where `source` is no packed one. */
gboolean vma_packed_source_progress (VmaSource *source, guint64 *position, guint64 *size);
