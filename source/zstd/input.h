/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A buffer over VmaCodecInput for those who read headers and blocks one after the other.
 *
 * Owns its buffer; one thread.
 */
#pragma once

#include "source/codec.h"

typedef struct {
  const VmaCodecInput *input;
  guint64 at;     /* offset in the file of the next byte */
  guint8 *buffer; /* of which [start, end) were read and not yet skipped */
  gsize room;
  gsize start;
  gsize end;
} VmaZstdInput;

void vma_zstd_input_init (VmaZstdInput *in, const VmaCodecInput *input, guint64 at);
void vma_zstd_input_clear (VmaZstdInput *in);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (VmaZstdInput, vma_zstd_input_clear)

/*
 * Up to `size` bytes at `at` in one piece; fewer only at the end of the file.  NULL and an error.
 * Valid until the next call.
 */
const guint8 *vma_zstd_input_peek (VmaZstdInput *in, gsize size, gsize *got, GError **error);

/* As many, or VMA_ERROR_DAMAGED where the file ends before. */
const guint8 *vma_zstd_input_need (VmaZstdInput *in, gsize size, GError **error);

/* Goes on. */
void vma_zstd_input_skip (VmaZstdInput *in, guint64 size);
