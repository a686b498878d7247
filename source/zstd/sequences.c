/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/sequences.h"

#include "vma/bytes.h"

#include <string.h>

struct VmaZstdSequencer {
  VmaZstdTable built[VMA_ZSTD_ALPHABETS]; /* what `fse` was made of */
  VmaZstdFse fse[VMA_ZSTD_ALPHABETS];
  VmaZstdSequence sequences[VMA_ZSTD_SEQUENCES_MAX];
};

/* A bitstream that is read from its last bit to its first; `left` may fall under 0. */
typedef struct {
  const guint8 *data;
  gint64 left;
} Bits;

VmaZstdSequencer *
vma_zstd_sequencer_new (void)
{
  return g_new0 (VmaZstdSequencer, 1);
}

void
vma_zstd_sequencer_free (VmaZstdSequencer *sequencer)
{
  g_free (sequencer);
}

static gboolean
build (VmaZstdSequencer *sequencer, VmaZstdAlphabet alphabet, const VmaZstdTable *table)
{
  VmaZstdTable *built = &sequencer->built[alphabet];
  VmaZstdFse *fse = &sequencer->fse[alphabet];
  const guint8 *description = table->description;
  gsize size = table->size;
  VmaZstdCounts counts;

  if (table->kind == VMA_ZSTD_TABLE_UNSET)
    return FALSE;
  if (built->kind == table->kind && built->size == table->size
      && memcmp (built->description, table->description, table->size) == 0)
    return TRUE;

  built->kind = VMA_ZSTD_TABLE_UNSET;
  if (table->kind == VMA_ZSTD_TABLE_RLE) {
    if (!vma_zstd_fse_build_rle (fse, alphabet, description[0]))
      return FALSE;
  } else {
    if (table->kind == VMA_ZSTD_TABLE_PREDEFINED)
      description = vma_zstd_fse_predefined (alphabet, &size);
    if (vma_zstd_counts_parse (description, size, alphabet, &counts) == 0)
      return FALSE;
    vma_zstd_fse_build (fse, alphabet, &counts);
  }
  *built = *table;
  return TRUE;
}

/* n <= 32.  Behind the beginning of the stream (`left` < 0) the value means nothing, but the read
 * is inside the padding as long as the caller looks at `left` once a sequence. */
static inline guint32
take (Bits *in, guint n)
{
  in->left -= n;
  guint64 word = vma_get_le64 (in->data + (in->left >> 3));
  return (guint32)(word >> (in->left & 7)) & (guint32)((G_GUINT64_CONSTANT (1) << n) - 1);
}

static gboolean
bits_begin (Bits *in, const guint8 *bits, gsize size)
{
  if (size == 0 || bits[size - 1] == 0)
    return FALSE;
  in->data = bits;
  in->left = (gint64)(size - 1) * 8 + g_bit_storage (bits[size - 1]) - 1; /* the top bit marks */
  return TRUE;
}

/* The offset that `value` stands for, after as many literals; the repeat offsets follow. */
static inline guint32
resolve (VmaZstdRepeats *repeats, guint32 value, guint32 literals)
{
  guint32 *r = repeats->offset;
  guint32 offset;
  guint32 which;

  if (value > 3) {
    offset = value - 3;
    r[2] = r[1];
    r[1] = r[0];
    r[0] = offset;
    return offset;
  }
  which = value - 1 + (literals == 0 ? 1 : 0);
  if (which == 0)
    return r[0];
  if (which == 3) {
    /* 0 is not valid, and libzstd (up to 1.5.5) goes on with 1. */
    offset = r[0] == 0 ? 0 : MAX (r[0] - 1, 1);
  } else {
    offset = r[which];
  }
  if (which != 1)
    r[2] = r[1];
  r[1] = r[0];
  r[0] = offset;
  return offset;
}

const VmaZstdSequence *
vma_zstd_sequencer_decode (VmaZstdSequencer *sequencer, const VmaZstdTables *tables,
                           const guint8 *bits, gsize size, guint32 count, VmaZstdRepeats *repeats,
                           guint32 *literals, guint32 *matches)
{
  VmaZstdRepeats r = *repeats;
  guint32 all_literals = 0;
  guint32 all_matches = 0;
  Bits in;

  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++)
    if (!build (sequencer, (VmaZstdAlphabet)i, &tables->fse[i]))
      return NULL;
  if (count > VMA_ZSTD_SEQUENCES_MAX || !bits_begin (&in, bits, size))
    return NULL;

  const VmaZstdState *of = sequencer->fse[VMA_ZSTD_OFFSETS].states;
  const VmaZstdState *ml = sequencer->fse[VMA_ZSTD_MATCHES].states;
  const VmaZstdState *ll = sequencer->fse[VMA_ZSTD_LITERALS].states;
  guint32 ll_at = take (&in, sequencer->fse[VMA_ZSTD_LITERALS].log);
  guint32 of_at = take (&in, sequencer->fse[VMA_ZSTD_OFFSETS].log);
  guint32 ml_at = take (&in, sequencer->fse[VMA_ZSTD_MATCHES].log);

  for (guint32 i = 0; i < count; i++) {
    const VmaZstdState *o = &of[of_at];
    const VmaZstdState *m = &ml[ml_at];
    const VmaZstdState *l = &ll[ll_at];
    VmaZstdSequence *sequence = &sequencer->sequences[i];

    /* At most 63 bits here and 26 below: the padding covers a sequence, not two. */
    if (in.left < 0)
      return NULL;
    guint32 value = o->base + take (&in, o->extra);
    sequence->match = m->base + take (&in, m->extra);
    sequence->literals = l->base + take (&in, l->extra);
    sequence->offset = resolve (&r, value, sequence->literals);
    all_literals += sequence->literals;
    all_matches += sequence->match;
    if (all_literals > VMA_ZSTD_BLOCK_MAX || all_matches > VMA_ZSTD_BLOCK_MAX)
      return NULL;
    if (i + 1 == count)
      break;
    ll_at = l->next + take (&in, l->bits);
    ml_at = m->next + take (&in, m->bits);
    of_at = o->next + take (&in, o->bits);
  }
  if (in.left != 0)
    return NULL;
  *repeats = r;
  *literals = all_literals;
  *matches = all_matches;
  return sequencer->sequences;
}
