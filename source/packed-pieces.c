/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/packed-pieces.h"

#include <xxhash.h>

#define PIECE (1u << 20)
#define PIECE_MAX (1u << 30)

/* Cuts that wait for a checkpoint, at most; and pieces of a chunk before they are made larger. */
#define CUTS_MAX 65536u
#define PIECES_FINE 1024u

struct VmaPieces {
  guint64 start; /* of the chunk: the last checkpoint */
  guint64 end;   /* of the output so far */
  guint64 spacing;
  GArray *cuts;  /* of VmaPiece, from `start` on */
  XXH3_state_t *hash;
  guint64 open;  /* bytes hashed of the piece that is not cut yet */
};

VmaPieces *
vma_pieces_new (guint64 start, guint64 spacing)
{
  VmaPieces *pieces = g_new0 (VmaPieces, 1);

  pieces->start = pieces->end = start;
  pieces->spacing = spacing;
  pieces->cuts = g_array_new (FALSE, FALSE, sizeof (VmaPiece));
  pieces->hash = XXH3_createState ();
  XXH3_128bits_reset (pieces->hash);
  return pieces;
}

void
vma_pieces_free (VmaPieces *pieces)
{
  g_array_unref (pieces->cuts);
  XXH3_freeState (pieces->hash);
  g_free (pieces);
}

static void
append (VmaPieces *pieces, XXH128_hash_t hash, guint64 size)
{
  VmaPiece piece = { .size = (guint32) size };

  XXH128_canonicalFromHash ((XXH128_canonical_t *) piece.hash, hash);
  g_array_append_val (pieces->cuts, piece);
}

static void
cut (VmaPieces *pieces)
{
  append (pieces, XXH3_128bits_digest (pieces->hash), pieces->open);
  XXH3_128bits_reset (pieces->hash);
  pieces->open = 0;
}

/* A chunk may have no end (one block of a hostile stream): the further, the coarser. */
static guint64
piece_size (const VmaPieces *pieces)
{
  return CLAMP ((pieces->end - pieces->start) / PIECES_FINE, PIECE, PIECE_MAX);
}

static gboolean
checkpoint_is_due (const VmaPieces *pieces)
{
  return pieces->end - pieces->start >= pieces->spacing && pieces->cuts->len < CUTS_MAX;
}

void
vma_pieces_add (VmaPieces *pieces, const guint8 *bytes, gsize size)
{
  while (size > 0) {
    gsize room = (gsize) (piece_size (pieces) - MIN (pieces->open, piece_size (pieces) - 1));
    gsize n = MIN (size, room);
    pieces->end += n;
    if (pieces->open == 0 && (n == room || (n == size && checkpoint_is_due (pieces)))) {
      append (pieces, XXH3_128bits (bytes, n), n);
    } else {
      XXH3_128bits_update (pieces->hash, bytes, n);
      pieces->open += n;
      if (pieces->open >= piece_size (pieces) || (n == size && checkpoint_is_due (pieces)))
        cut (pieces);
    }
    bytes += n;
    size -= n;
  }
}

GArray *
vma_pieces_take (VmaPieces *pieces, guint64 out)
{
  guint64 at = pieces->start;
  guint n = 0;

  if (out == pieces->end && pieces->open > 0)
    cut (pieces);
  while (n < pieces->cuts->len && at < out)
    at += g_array_index (pieces->cuts, VmaPiece, n++).size;
  if (at != out)
    return NULL;

  GArray *taken = g_array_sized_new (FALSE, FALSE, sizeof (VmaPiece), n);
  g_array_append_vals (taken, pieces->cuts->data, n);
  g_array_remove_range (pieces->cuts, 0, n);
  pieces->start = out;
  return taken;
}
