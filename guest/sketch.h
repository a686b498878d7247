/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stretch of a disk as a descriptor, for libraries that want one: an anonymous sparse file of the same
 * size, into which parts are copied.  The rest reads as zeros, so what the library is after must have
 * been filled in before.
 *
 * What the archive cannot give is not left as zeros in silence: vma_sketch_problem() tells.  One thread.
 */
#pragma once

#include "image/image.h"

typedef struct VmaSketch VmaSketch;

VmaSketch *vma_sketch_new (VmaImage *image, guint64 offset, guint64 length, GError **error);
void vma_sketch_free (VmaSketch *sketch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaSketch, vma_sketch_free)

/* Copies what of [offset, offset + size) lies inside.  FALSE only when cancelled. */
gboolean vma_sketch_fill (VmaSketch *sketch, guint64 offset, guint64 size,
                          GCancellable *cancellable, GError **error);

/* Reads back; bytes that do not exist are zeros. */
void vma_sketch_read (VmaSketch *sketch, void *buffer, gsize size, guint64 offset);

int vma_sketch_fd (const VmaSketch *sketch);

/* The first thing that could not be copied, with the archive's name in front; or NULL. */
const char *vma_sketch_problem (const VmaSketch *sketch);
