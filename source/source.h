/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the bytes of an archive come from: one interface over plain files, pipes and compressed
 * files.  Offsets are always offsets in the archive itself, i.e. after decompression.
 *
 * Owns its file descriptors and whatever a format needs to seek.  A source knows nothing of extents.
 * All functions may be called from any number of threads at once, except on a source that
 * vma_source_is_sequential(): that one belongs to one thread.
 *
 * A new kind of source is one file with a VmaSourceOps, and one line in the table of source.c.
 */
#pragma once

#include <gio/gio.h>

typedef struct VmaSource VmaSource;

typedef enum {
  VMA_READ_DATA,  /* a reader's data: read-ahead is welcome */
  VMA_READ_INDEX, /* a header here and there: nothing around it will be wanted */
} VmaReadHint;

/* The size is not known (yet): a pipe, or a compressed file that was not read to its end. */
#define VMA_SIZE_UNKNOWN G_MAXUINT64

/* What compressed files can be told; 0 and NULL are the defaults of source/packed.h. */
typedef struct {
  const char *cache_dir; /* where decoder checkpoints are kept; NULL: for this run only */
  guint64 cache_size;    /* bytes of decoded data to keep */
  guint64 memory_limit;  /* bytes that one decoder may take */
  gboolean follow;       /* the file is still being written */
} VmaSourceOptions;

/*
 * Opens `path`, whose kind is found by its content.  "-" is standard input, which is sequential; an NBD URI
 * (source/nbd-uri.h) names an archive on a server.
 * `options` may be NULL.  NULL and an error (VMA_ERROR_IO, VMA_ERROR_UNSUPPORTED) without the path in
 * it.
 */
VmaSource *vma_source_open (const char *path, const VmaSourceOptions *options, GError **error);

VmaSource *vma_source_ref (VmaSource *source);
void vma_source_unref (VmaSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaSource, vma_source_unref)

/*
 * Reads up to `size` bytes at `offset`.  Short only at the end of the archive; 0 at or behind it.
 * -1 and VMA_ERROR_IO, VMA_ERROR_DAMAGED (a compressed stream is broken here) or VMA_ERROR_CANCELLED
 * with an error that names the offset.  On a sequential source offsets may not go backwards; what
 * lies between is skipped.  `cancellable` (may be NULL) ends a wait for data that are not there yet.
 */
gssize vma_source_pread (VmaSource *source, void *buffer, gsize size, guint64 offset,
                         VmaReadHint hint, GCancellable *cancellable, GError **error);

/*
 * Reads exactly `size` bytes or fails; an archive that ends inside is VMA_ERROR_DAMAGED.
 */
gboolean vma_source_pread_full (VmaSource *source, void *buffer, gsize size, guint64 offset,
                                VmaReadHint hint, GCancellable *cancellable, GError **error);

/* Bytes of archive, or VMA_SIZE_UNKNOWN. */
guint64 vma_source_size (VmaSource *source);

/* Whether it can only be read forwards, by one thread (a pipe). */
gboolean vma_source_is_sequential (VmaSource *source);

/*
 * How many reads it makes sense to have under way at once where one takes long: 1 where they would only
 * disturb each other, a few for a local file, many for a server far away.
 */
guint vma_source_requests (VmaSource *source);

/* Whether a read may take as long as a server on a network likes, and should not be waited for by many. */
gboolean vma_source_is_remote (VmaSource *source);

/*
 * Ends reads that wait for a server, now and from now on, with VMA_ERROR_CANCELLED: nobody needs their data any
 * more.  On other sources it does nothing.
 */
void vma_source_interrupt (VmaSource *source);

/* Whether what it reads is checked against sums of its own, as compressed files have them. */
gboolean vma_source_checks_data (VmaSource *source);

/* "plain", "pipe", "zstd", ...: for people. */
const char *vma_source_kind (VmaSource *source);

/*
 * What identifies the file behind the source, to bind a saved index to it.  FALSE where there is no
 * such thing (a pipe).
 */
typedef struct {
  guint64 size;     /* of the file, bytes */
  gint64 mtime_ns;
  guint8 head[16];  /* hash of the first 64 KiB of the file */
  guint8 tail[16];  /* of the last 64 KiB */
} VmaSourceIdentity;

gboolean vma_source_identity (VmaSource *source, VmaSourceIdentity *identity, GError **error);
