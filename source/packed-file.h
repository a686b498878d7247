/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The compressed file behind a packed source: a descriptor, or another source (on a server).
 *
 * A value to be copied around; it has one owner, who clears it.  Any thread may read.
 */
#pragma once

#include "source/source.h"

typedef struct {
  int fd; /* where `below` is NULL */
  VmaSource *below;
} VmaPackedFile;

void vma_packed_file_clear (VmaPackedFile *file);

/*
 * Reads some of `size` bytes, 0 at the end.  -1 and an error with the offset.  Goes on where it is
 * interrupted by a signal.
 */
gssize vma_packed_file_read (const VmaPackedFile *file, void *buffer, gsize size, guint64 offset,
                             GCancellable *cancellable, GError **error);

/* Its size now. */
guint64 vma_packed_file_size (const VmaPackedFile *file);

gboolean vma_packed_file_identity (const VmaPackedFile *file, VmaSourceIdentity *identity,
                                   GError **error);
