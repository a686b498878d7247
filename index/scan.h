/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scan: follows the chain of extent headers through an archive and fills an index.
 *
 * Owns the position and a window of header bytes.  A scanner belongs to one thread, which is the one
 * that fills the index.  A caller that wants the data too (extract, verify) reads an extent's data
 * between two calls.
 *
 * An extent enters the index when the header after it (or the end of the archive) stands where it
 * must: bytes lost or gained inside an extent's data show only there.
 *
 * With salvage, a broken place is recorded as damage and the scan goes on at the next sound header; an
 * extent in which bytes were lost or gained is spoiled as a whole.
 */
#pragma once

#include "index/index.h"
#include "source/source.h"

typedef struct VmaScanner VmaScanner;

/* Borrows its arguments, which must outlive it.  Goes on where the index ends (vma_index_get_counts()).  Salvage needs a source that is not sequential. */
VmaScanner *vma_scanner_new (VmaSource *source, const VmaHeader *header, VmaIndex *index,
                             gboolean salvage);
void vma_scanner_free (VmaScanner *scanner);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaScanner, vma_scanner_free)

/*
 * The caller will not read the data between the headers: where reads take long, headers may be fetched
 * ahead by threads (index/ahead.h).
 */
void vma_scanner_headers_only (VmaScanner *scanner);

/*
 * The next extent: 1 and *extent (valid until the next call) and its header's offset; 0 at the end of
 * the archive; -1 and an error, "extent at N: ..." (VMA_ERROR_DAMAGED, _IO, _CANCELLED, _UNSUPPORTED).
 */
int vma_scanner_next (VmaScanner *scanner, const VmaExtent **extent, guint64 *offset,
                      GCancellable *cancellable, GError **error);

/*
 * Goes through all that is left and ends the index, COMPLETE or FAILED.  Returns FALSE with the failure.
 * Without salvage a missing cluster is a failure.
 */
gboolean vma_scanner_run (VmaScanner *scanner, GCancellable *cancellable, GError **error);
