/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is where in a compressed block (RFC 8878, 3.1.1.3): the literals section with its Huffman
 * description, and the sequences section with its table descriptions and its bitstream.
 *
 * Pure functions over bytes, any thread.  The results point into the caller's buffer.
 */
#pragma once

#include "source/zstd/fse.h"

#include <glib.h>

/* A description of Huffman weights is one byte and at most 128 more. */
#define VMA_ZSTD_HUFFMAN_DESCRIPTION_MAX 129

typedef struct {
  guint32 literals;      /* bytes that the literals section gives */
  const guint8 *huffman; /* the description in this block, or NULL */
  gsize huffman_size;
  gsize size; /* of the section: the sequences section follows */
} VmaZstdLiteralsSection;

/* How a block says which table an alphabet has. */
typedef enum {
  VMA_ZSTD_MODE_PREDEFINED,
  VMA_ZSTD_MODE_RLE,
  VMA_ZSTD_MODE_FSE,
  VMA_ZSTD_MODE_REPEAT,
} VmaZstdMode;

typedef struct {
  guint32 count; /* of sequences; where it is 0, nothing else is set */
  gsize mode_at; /* where in the section the byte of modes is */
  struct {
    VmaZstdMode mode;
    const guint8 *description; /* RLE, FSE */
    gsize size;
  } tables[VMA_ZSTD_ALPHABETS];
  const guint8 *bits;
  gsize bits_size;
} VmaZstdSequencesSection;

/* FALSE where the section is not valid. */
gboolean vma_zstd_literals_section_parse (const guint8 *body, gsize size,
                                          VmaZstdLiteralsSection *section);
gboolean vma_zstd_sequences_section_parse (const guint8 *data, gsize size,
                                           VmaZstdSequencesSection *section);

/* Two bits of the byte of modes. */
guint vma_zstd_mode_shift (VmaZstdAlphabet alphabet);
