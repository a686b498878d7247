/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The saved index: an index kept in a cache directory, so that the next open needs no scan.
 *
 * Owns the file format.  A saved index is bound to an archive by size, mtime, uuid and hashes of its head
 * and tail; it is checksummed as a whole (what is read at once) and page by page (what is read when
 * touched), written under a temporary name and renamed.  It is disposable: whatever is wrong
 * with it, the answer is to scan again.
 *
 * File: a fixed header, LZ4-compressed map pages, and the LZ4-compressed table of them ("meta").
 * All integers little-endian.
 *
 * Locking: the functions may be called from any thread; two processes may store the same index at
 * once, and the last rename wins.
 */
#pragma once

#include "index/index.h"
#include "source/source.h"

typedef struct {
  VmaSourceIdentity source;
  guint8 uuid[VMA_UUID_SIZE];
} VmaIndexKey;

/* The directory to use by default: $XDG_CACHE_HOME/vmafs, root: /var/cache/vmafs.  Caller frees. */
char *vma_saved_index_default_dir (void);

/* Where the index of this archive is kept.  The caller frees it. */
char *vma_saved_index_path (const char *dir, const VmaIndexKey *key);

/*
 * Loads a saved index; its pages are read when they are touched.  The result is BUILDING still: the
 * caller completes it, or, where *partial is set because the scan was interrupted, lets a scanner go on
 * with it.  All pages of a partial one were checked.  NULL without an error where there is none; NULL with an error that says
 * what is wrong (stale, damaged) otherwise.
 */
VmaIndex *vma_saved_index_load (const char *path, const VmaIndexKey *key, const VmaHeader *header,
                                gboolean *partial, GError **error);

/*
 * Stores an index that is COMPLETE, or what an interrupted scan has found, which nobody goes on filling
 * meanwhile.  Makes the directory where needed.  Nothing is left behind on an error.
 */
gboolean vma_saved_index_store (const char *path, const VmaIndexKey *key, const VmaHeader *header,
                                VmaIndex *index, GCancellable *cancellable, GError **error);

/* Checks every checksum of a saved index, without an archive. */
gboolean vma_saved_index_verify (const char *path, GError **error);

/* What can be told of a saved index without its archive. */
typedef struct {
  VmaIndexKey key;
  guint64 file_size;
} VmaSavedIndexInfo;

gboolean vma_saved_index_info (const char *path, VmaSavedIndexInfo *info, GError **error);

/*
 * Removes the least recently used saved indexes of a directory until at most `max_bytes` remain, then
 * checksums (which cannot be made anew in the same way: they tell what the archive once was), and
 * temporary files over a day old.  Counts what it removed.
 */
gboolean vma_saved_index_prune (const char *dir, guint64 max_bytes, guint *removed,
                                guint64 *removed_bytes, GError **error);

#define VMA_SAVED_INDEX_SUFFIX ".vmaidx"
/* What a cache directory may grow to when an index is stored. */
#define VMA_SAVED_INDEX_MAX_BYTES (UINT64_C (4) << 30)
