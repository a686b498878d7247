/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An open archive: its source, header, file names, index, and an image per device.
 *
 * Owns all of them, and the thread that builds the index.  Errors carry the archive's path in front:
 * "backup.vma: extent at 3879424: checksum mismatch".
 *
 * Life: open (reads the header, loads a saved index if there is one), then start_index (a thread scans
 * where there was none).  A daemon forks between the two.  The archive is usable at once; reads of
 * what is not indexed yet wait.
 *
 * If a saved index turns out to be damaged while it is used, the archive is scanned anew and the reads
 * wait for that: vma_archive_index() may therefore change, and is asked for at each use.
 *
 * Locking: all functions but open and free may be called from any thread.
 */
#pragma once

#include "index/index.h"
#include "index/scan.h"
#include "source/source.h"
#include "source/sums.h"
#include "vma/header.h"
#include "vma/names.h"

typedef struct VmaArchive VmaArchive;
typedef struct VmaImage VmaImage;

/*
 * Takes what no caller is there to be told of: a note (VMA_ERROR_NOTE), or a failure of the scan in
 * its thread.  The message begins with the archive's path.  Any thread.
 */
typedef void (*VmaReport) (gpointer data, const GError *what);

typedef struct {
  gboolean salvage;
  const char *cache_dir; /* of saved indexes and checkpoints; NULL: none is read or written */
  const char *checksums_dir; /* where sums of plain archives are looked for, to check their data; NULL: none */
  gboolean quiet_checksums;  /* another program is about to tell of those that do not fit */
  guint64 cache_size, memory_limit; /* of compressed archives, see VmaSourceOptions; 0: default */
  const char *base;      /* what this one, a delta, lies over (image/delta.h); NULL: none */
  gboolean follow;       /* the archive is still being written: what is not there yet is waited for */
  VmaReport report;      /* may be NULL */
  gpointer report_data;
  GCancellable *cancellable; /* ends a wait for the header; may be NULL */
} VmaArchiveOptions;

/* `path` as in source/source.h.  "-" is a pipe: header and scanner work, images do not.  `options` may be NULL. */
VmaArchive *vma_archive_open (const char *path, const VmaArchiveOptions *options, GError **error);

/* Stops the scan and waits for its thread. */
void vma_archive_free (VmaArchive *archive);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaArchive, vma_archive_free)

/* Starts the scan in a thread unless a saved index was loaded.  Once. */
void vma_archive_start_index (VmaArchive *archive);

/*
 * Waits until the index is finished; `timeout_ms` < 0 is for ever.  FALSE with the failure, VMA_ERROR_CANCELLED, or, where
 * the time is over, without an error.
 */
gboolean vma_archive_wait_index (VmaArchive *archive, gint64 timeout_ms, GCancellable *cancellable,
                                 GError **error);

/*
 * From now on nobody waits for the index: if it fails, or has failed and nobody was told, the report
 * function gets the error.
 */
void vma_archive_report_index_failure (VmaArchive *archive);

/* A scanner that fills the archive's index in the caller's thread, instead of start_index. */
VmaScanner *vma_archive_scanner_new (VmaArchive *archive);

/* For messages: a URI's password is not in it. */
const char *vma_archive_path (VmaArchive *archive);
const VmaHeader *vma_archive_header (VmaArchive *archive);
const VmaNames *vma_archive_names (VmaArchive *archive);
VmaSource *vma_archive_source (VmaArchive *archive);
gboolean vma_archive_is_salvaging (VmaArchive *archive);

/* The index in use now; valid as long as the archive. */
VmaIndex *vma_archive_index (VmaArchive *archive);

/* The archive's base, or NULL.  Its index is started, waited for and freed with the archive's. */
VmaArchive *vma_archive_base (VmaArchive *archive);

/* Whether the index came from the cache; where it is kept (NULL: nowhere). */
gboolean vma_archive_index_was_loaded (VmaArchive *archive);
const char *vma_archive_index_path (VmaArchive *archive);

/*
 * The sums that its data are checked against (see source/sums.h), or NULL where there are none that fit; where
 * they are kept, NULL for an archive that can have none.  The caller frees the path.
 */
VmaSums *vma_archive_checksums (VmaArchive *archive);
char *vma_archive_checksums_path (VmaArchive *archive, const char *dir, VmaSumsKey *key);

/* The image of a device of the header. */
VmaImage *vma_archive_image (VmaArchive *archive, guint8 device);

/* Called by an image that met VMA_ENTRY_LOST in `index`: sees to it that another one takes its place. */
void vma_archive_replace_index (VmaArchive *archive, VmaIndex *index);

/* Puts the archive's path in front of an error, for those who read its source themselves. */
void vma_archive_prefix_error (VmaArchive *archive, GError **error);
