/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Content hashes of what a pass puts out, in pieces that can be checked by themselves.
 *
 * The trouble is that a checkpoint may be announced long after its bytes went by, and a piece must
 * not lie across it.  But a checkpoint always is where an output call ended: so pieces of about a MiB
 * are cut while no checkpoint is due, and at each output call once one is.
 *
 * Owns its memory, which is bounded whatever the stream does.  One thread.
 */
#pragma once

#include "source/sidecar.h"

typedef struct VmaPieces VmaPieces;

/* For output that begins at `start`, where a checkpoint is. */
VmaPieces *vma_pieces_new (guint64 start, guint64 spacing);
void vma_pieces_free (VmaPieces *pieces);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaPieces, vma_pieces_free)

/* The bytes of one output call. */
void vma_pieces_add (VmaPieces *pieces, const guint8 *bytes, gsize size);

/*
 * Takes the pieces from the last checkpoint up to `out`, where the next one is.  NULL where no piece
 * ends there: then there can be no checkpoint.
 */
GArray *vma_pieces_take (VmaPieces *pieces, guint64 out);
