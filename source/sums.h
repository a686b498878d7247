/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checksums over all of a plain archive, kept in the cache directory, so that bits which change later are
 * found: the format has none over the data of disks.
 *
 * Owns the file format, the file that is open, and what was found right since.  A file of sums is bound to
 * an archive by its uuid, size and time of change; not by its content, for a change of that is what it
 * is to find.  Whatever is wrong with the file itself, the answer is to read without checks, and to say so.
 * Sums tell what has changed by accident.  They are no protection against who can write to the cache.
 *
 * File, all integers little-endian: a header, XXH3-64 of each chunk, and XXH3-64 of each group of those.
 * The table of groups is read when the file is opened, the sums of a group when the first of its chunks is.
 *
 * Memory: 8 bytes and a bit for each chunk of the groups that were touched, 32.5 MiB for a TiB.
 *
 * Locking: any thread may call anything but open and free.  Chunks that were found right are looked up
 * without a lock.
 */
#pragma once

#include "source/source.h"

#define VMA_SUMS_SUFFIX ".vmasums"

/* What one sum stands for.  A smaller one makes first reads in random order cheaper, and the file larger. */
#define VMA_SUMS_CHUNK (256u * 1024u)

typedef struct VmaSums VmaSums;

typedef struct {
  guint8 uuid[16];
  guint64 size; /* of the archive, bytes */
  gint64 mtime_ns;
} VmaSumsKey;

/* Where the sums of this archive are kept.  The caller frees it. */
char *vma_sums_path (const char *dir, const VmaSumsKey *key);

/* Told of each part that was read; `done` bytes so far. */
typedef void (*VmaSumsProgress) (gpointer data, guint64 done);

/*
 * Reads all of `source` and stores its sums: under a temporary name until they are whole.  Makes the directory
 * where needed.  Nothing is left behind on an error.
 */
gboolean vma_sums_take (const char *path, const VmaSumsKey *key, VmaSource *source,
                        VmaSumsProgress progress, gpointer data, GCancellable *cancellable,
                        GError **error);

/*
 * Told of sums that turn out to be damaged while they are used; their chunks are not checked.  Any
 * thread, once.
 */
typedef void (*VmaSumsNote) (gpointer data, const char *message);

/* NULL without an error where there are none; with one that says what is wrong (stale, damaged). */
VmaSums *vma_sums_open (const char *path, const VmaSumsKey *key, VmaSumsNote note, gpointer data,
                        GError **error);
void vma_sums_free (VmaSums *sums);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaSums, vma_sums_free)

/* Whether a chunk has yet to be looked at; then `wanted` is what its sum has to be. */
gboolean vma_sums_must_check (VmaSums *sums, guint64 chunk, guint64 *wanted);
guint64 vma_sums_of (const void *chunk, gsize size);
void vma_sums_found_right (VmaSums *sums, guint64 chunk);

/* Bytes of the archive that were found right, and all of them. */
guint64 vma_sums_checked (VmaSums *sums);
guint64 vma_sums_size (VmaSums *sums);

/* What can be told of a file of sums without its archive. */
typedef struct {
  VmaSumsKey key;
  guint64 file_size;
} VmaSumsInfo;

gboolean vma_sums_info (const char *path, VmaSumsInfo *info, GError **error);

/* Whether the file of sums itself is whole. */
gboolean vma_sums_verify (const char *path, GError **error);
