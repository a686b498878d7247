/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints of one compressed file, kept on disk.
 *
 * A sidecar is a journal in the cache directory, named after the identity of the compressed file.
 * Checkpoints are appended while the file is indexed; when the index is complete, a compact table
 * goes to the end, and the next program that opens the file needs no pass.  What was left incomplete
 * is taken up again at its last good checkpoint.  A damaged or foreign sidecar is thrown away with a
 * note, never trusted: every record carries a hash that is seeded with the identity.
 *
 * Checkpoint i begins chunk i, which ends where checkpoint i + 1 (or the end) is.  A record holds a
 * checkpoint and the content hashes of the chunk that ends there.  States and hashes stay on disk and
 * are read when needed; 24 bytes a checkpoint are in memory.
 *
 * Two processes: whoever indexes holds a lock on NAME.part, and renames it to NAME when it is
 * complete.  Another one that comes meanwhile works with an unnamed file of its own.  NAME itself is
 * never written to.  A crash leaves NAME.part, whose good front the next program goes on with.
 *
 * Locking: all functions may be called from any thread; append() and finish() from one at a time.
 */
#pragma once

#include "source/codec.h"
#include "source/source.h"

typedef struct VmaSidecar VmaSidecar;

/* A stretch of a chunk's content that can be checked by itself. */
typedef struct {
  guint32 size;
  guint8 hash[16]; /* XXH3-128, canonical */
} VmaPiece;

/* What is needed to decode a chunk and to check it. */
typedef struct {
  VmaCheckpoint from;
  guint64 size;
  VmaPiece *pieces; /* together `size` bytes; NULL where nothing was decoded when it was found */
  guint n_pieces;
} VmaSidecarChunk;

void vma_sidecar_chunk_free (VmaSidecarChunk *chunk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaSidecarChunk, vma_sidecar_chunk_free)

/* What a sidecar is bound to. */
typedef struct {
  VmaSourceIdentity identity;
  const char *kind;
  guint64 spacing;
} VmaSidecarKey;

/*
 * Opens the sidecar of `key` in `directory`, new or with what an earlier one left.  Without a
 * directory (or where it cannot be written, with a note) it is an unnamed file that ends with it.
 * It always holds checkpoint 0, the beginning of the file.
 */
VmaSidecar *vma_sidecar_open (const char *directory, const VmaSidecarKey *key, GError **error);
void vma_sidecar_free (VmaSidecar *sidecar);

/*
 * From now on unnamed files for which there is no directory come from `open_file` (a descriptor, or -1)
 * and not from where temporary files go: a program may be confined.  Before there are threads.
 */
void vma_sidecar_set_temporary (int (*open_file) (gpointer data), gpointer data);

/* An unnamed file where temporary files go; -1 and errno. */
int vma_sidecar_open_temporary (void);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaSidecar, vma_sidecar_free)

/* Whether it knows the whole file: then nothing may be appended. */
gboolean vma_sidecar_is_complete (VmaSidecar *sidecar);

/* The number of checkpoints, and where in the archive the last chunk that is closed ends. */
guint64 vma_sidecar_count (VmaSidecar *sidecar, guint64 *closed);

/* Appends a checkpoint behind all others, with the content of the chunk that ends there. */
gboolean vma_sidecar_append (VmaSidecar *sidecar, const VmaCheckpoint *checkpoint,
                             const VmaPiece *pieces, guint n_pieces, GError **error);

/* The archive ends at `out`: closes the last chunk and makes the sidecar permanent. */
gboolean vma_sidecar_finish (VmaSidecar *sidecar, guint64 in, guint64 out, const VmaPiece *pieces,
                             guint n_pieces, GError **error);

/* Closes the last chunk at `out` for this run only: beyond it the file is damaged. */
void vma_sidecar_abort (VmaSidecar *sidecar, guint64 out, const VmaPiece *pieces, guint n_pieces);

/* The closed chunk that holds byte `offset` of the archive.  FALSE where there is none (yet). */
gboolean vma_sidecar_find (VmaSidecar *sidecar, guint64 offset, guint64 *index, guint64 *out,
                           guint64 *size);

/* Where closed chunk `index` lies.  FALSE where there is none. */
gboolean vma_sidecar_get (VmaSidecar *sidecar, guint64 index, guint64 *out, guint64 *size);

/* Reads the last checkpoint: a pass goes on there.  Damaged ones are cut off first. */
VmaSidecarChunk *vma_sidecar_last (VmaSidecar *sidecar, GError **error);

/*
 * Reads closed chunk `index`.  VMA_ERROR_DAMAGED with a message about the sidecar where its record is
 * broken; vma_sidecar_cut() makes it usable again.
 */
VmaSidecarChunk *vma_sidecar_read (VmaSidecar *sidecar, guint64 index, GError **error);

/*
 * Forgets all from checkpoint `index` on (at least the first stays), takes the file out of the cache,
 * and is ready to append.  For a sidecar found damaged while no pass is running.
 */
gboolean vma_sidecar_cut (VmaSidecar *sidecar, guint64 index, GError **error);
