/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The FSE tables of the sequences section (RFC 8878, 4.1): how a description is read, and how it
 * becomes a decoding table.  Only what sequences need; literals are never decoded here.
 *
 * Pure functions, any thread.  Nothing is owned.
 */
#pragma once

#include <glib.h>

/* The three alphabets, in the order in which a dictionary holds their tables. */
typedef enum {
  VMA_ZSTD_OFFSETS,
  VMA_ZSTD_MATCHES,
  VMA_ZSTD_LITERALS,
  VMA_ZSTD_ALPHABETS,
} VmaZstdAlphabet;

#define VMA_ZSTD_FSE_LOG_MAX 9
#define VMA_ZSTD_FSE_SYMBOLS_MAX 53

/* A description is at most (4 + 53 * (10 + 2)) bits. */
#define VMA_ZSTD_FSE_DESCRIPTION_MAX 96

typedef struct {
  guint log;                               /* of the table's size */
  guint symbols;                           /* how many of `counts` there are */
  gint16 counts[VMA_ZSTD_FSE_SYMBOLS_MAX]; /* states of each symbol; -1: less than one */
} VmaZstdCounts;

/* One state: what it stands for, and how the next one is found. */
typedef struct {
  guint32 base; /* the value, to which `extra` bits are added */
  guint8 extra;
  guint8 bits; /* to read for the next state, and add to `next` */
  guint16 next;
} VmaZstdState;

typedef struct {
  guint log;
  VmaZstdState states[1 << VMA_ZSTD_FSE_LOG_MAX];
} VmaZstdFse;

/* Reads a description.  Returns its size in bytes, 0 where it is not valid. */
gsize vma_zstd_counts_parse (const guint8 *data, gsize size, VmaZstdAlphabet alphabet,
                             VmaZstdCounts *counts);

/* Makes a decoding table of it. */
void vma_zstd_fse_build (VmaZstdFse *fse, VmaZstdAlphabet alphabet, const VmaZstdCounts *counts);

/* The table of one symbol that takes no bits.  FALSE where there is no such symbol. */
gboolean vma_zstd_fse_build_rle (VmaZstdFse *fse, VmaZstdAlphabet alphabet, guint8 symbol);

/* The description of the predefined table. */
const guint8 *vma_zstd_fse_predefined (VmaZstdAlphabet alphabet, gsize *size);
