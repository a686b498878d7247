/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the analysis needs of a block that was decoded: where it was, what it gave, and a copy of
 * its sequences section.  Literals are left out: nothing is ever asked about them but their number.
 *
 * A record owns its copy, and is meant to be used again: the buffer stays.
 */
#pragma once

#include "source/zstd/frame.h"
#include "source/zstd/sections.h"

#include <glib.h>

typedef struct {
  guint64 in;    /* offset in the file of the block's header */
  guint64 next;  /* offset of what follows the block */
  guint64 out;   /* position of the first byte it gave */
  guint32 given; /* bytes it gave */
  gboolean last; /* of its frame */
  gboolean compressed;

  gboolean begins; /* its frame, whose header follows */
  guint64 frame_in;
  VmaZstdFrame frame;

  /* Of a compressed block. */
  gboolean
      valid; /* FALSE: libzstd made something of it, but its sections are not as they must be */
  guint32 literals;
  gsize huffman_size;
  guint8 huffman[VMA_ZSTD_HUFFMAN_DESCRIPTION_MAX];
  guint8 *sequences; /* with VMA_ZSTD_BITS_PAD readable bytes on both sides */
  gsize sequences_size;

  guint8 *buffer;
  gsize room;
} VmaZstdRecord;

/* Fills in what `body`, of a block that libzstd accepted, says. */
void vma_zstd_record_set_body (VmaZstdRecord *record, const VmaZstdBlock *block,
                               const guint8 *body);

void vma_zstd_record_clear (VmaZstdRecord *record);

/* Exchanges the contents, buffers included. */
void vma_zstd_record_swap (VmaZstdRecord *a, VmaZstdRecord *b);
