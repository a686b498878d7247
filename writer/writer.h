/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes an archive from clusters that come in any order, from any number of threads.
 *
 * In the terms of a backup driver: open, add configs, register streams (devices), dump clusters, close
 * the streams, complete.  A writer that is freed without having been completed leaves nothing behind.
 *
 * Owns the output, the extents being filled, and what it knows of each stream.
 *
 * Locking: configs and streams are added by one thread, before the first dump.  vma_writer_dump() and
 * the functions that ask may then be called by any number of threads at once; close, complete and free
 * by one, when no dump is under way.
 *
 * The first error of the output is final: every later call fails with it.
 */
#pragma once

#include "vma/format.h"

#include <glib.h>

typedef struct VmaWriter VmaWriter;

typedef enum {
  VMA_COMPRESS_NONE,
  VMA_COMPRESS_ZSTD, /* independent frames and a seek table: the zstd seekable format */
  VMA_COMPRESS_LZ4,  /* independent frames of independent blocks */
} VmaCompression;

typedef struct {
  const guint8 *uuid;         /* NULL: a random one */
  gint64 ctime;               /* seconds since the epoch; < 0: now */
  guint slots;                /* clusters an extent may hold, 1..59; 0: all 59 */
  VmaCompression compression;
  int level;                  /* 0: the library's default */
  guint threads;              /* that compress; 0: one a processor */
  gboolean readable;          /* keep a map, for vma_writer_read_cluster(); not with compression */
  gboolean maybe_readable;    /* with `readable`: a pipe is no error, just not readable */
  gboolean partial;           /* clusters may be left out: an archive that is read over another one */
} VmaWriterOptions;

/* `target` as in writer/output.h.  `options` may be NULL. */
VmaWriter *vma_writer_open (const char *target, const VmaWriterOptions *options, GError **error);
void vma_writer_free (VmaWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaWriter, vma_writer_free)

/* Errors as in vma/build.h; VMA_ERROR_INVALID after the first dump. */
gboolean vma_writer_add_config (VmaWriter *writer, const char *name, const guint8 *data,
                                gsize size, GError **error);

/* The new stream's id, 1..254; 0 on an error.  The name "vmstate" makes it one of unknown length. */
guint8 vma_writer_register_stream (VmaWriter *writer, const char *name, guint64 size,
                                   GError **error);

/*
 * Takes n clusters from `cluster` on: data[0..n * 64 KiB), where the last cluster of the stream may
 * end early, with its stream (the rest of its last block is taken as zeros).  NULL is all zeros, and costs next
 * to nothing.  `data` are used before this returns, and not kept.
 *
 * VMA_ERROR_INVALID: unknown or closed stream, cluster beyond the end, written already, or out of
 * order in vmstate: nothing of the call was taken then.  VMA_ERROR_IO: the output.
 */
gboolean vma_writer_dump (VmaWriter *writer, guint8 stream, guint64 cluster, guint64 n,
                          const void *data, GError **error);

/* No more will come.  VMA_ERROR_MISSING where clusters were never dumped (unless `partial`). */
gboolean vma_writer_close_stream (VmaWriter *writer, guint8 stream, GError **error);

/*
 * vma_writer_dump() in three steps, for callers that read in parallel and yet want the archive to be
 * the same each time: places are given out in the order of the calls of vma_writer_place().
 *
 * look() finds the zeros; place() takes places, with the errors of vma_writer_dump(); put(), which
 * must follow soon (readers and the extent wait for it), brings the data.
 */
typedef struct VmaFilling VmaFilling;

typedef struct {
  guint8 stream;
  guint64 cluster;
  guint n; /* at most as many as the slots of an extent */
  const guint8 *data;
  gsize size; /* of the data */
  guint16 masks[VMA_EXTENT_SLOTS];
  guint n_pieces;
  struct VmaPiece {
    VmaFilling *extent;
    guint first; /* slot */
    guint n;
  } pieces[2];
} VmaDump;

gboolean vma_writer_look (VmaWriter *writer, VmaDump *dump, guint8 stream, guint64 cluster,
                          guint n, const void *data, GError **error);
gboolean vma_writer_place (VmaWriter *writer, VmaDump *dump, GError **error);
gboolean vma_writer_put (VmaWriter *writer, VmaDump *dump, GError **error);

/*
 * Writes what is left, and waits until it is on the medium, or until the command that takes it has
 * ended.  All streams must be closed.
 */
gboolean vma_writer_sync (VmaWriter *writer, GError **error);

/* Gives the archive its name; syncs first where that was not done. */
gboolean vma_writer_complete (VmaWriter *writer, GError **error);

/*
 * By any thread at any time: tells a command to stop and removes a temporary file.  The writer can do
 * nothing more then; it is still to be freed.  With `at_once` the process is about to end, and the
 * command is killed.
 */
void vma_writer_cancel (VmaWriter *writer, gboolean at_once);

/* Bytes of one stream so far. */
typedef struct {
  guint64 total;       /* its size */
  guint64 transferred; /* dumped, zeros included */
  guint64 zero;        /* of these: blocks that are zero */
} VmaStreamProgress;

void vma_writer_get_progress (VmaWriter *writer, guint8 stream, VmaStreamProgress *progress);

/* Whether vma_writer_read_cluster() works. */
gboolean vma_writer_is_readable (VmaWriter *writer);

/* Bytes of archive so far, before compression; and written. */
guint64 vma_writer_archive_bytes (VmaWriter *writer);
guint64 vma_writer_written_bytes (VmaWriter *writer);

/*
 * Reads one cluster that was dumped, whether it is on disk or on its way there (then this waits).
 * `buffer` takes 64 KiB.  1; 0 where the cluster was not dumped yet; -1 on an error.  Works until free():
 * after complete() too, and, for what was written by then, after a failure.
 */
int vma_writer_read_cluster (VmaWriter *writer, guint8 stream, guint64 cluster, void *buffer,
                             GError **error);
