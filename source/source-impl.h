/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an implementation of a source provides.  For the files of this folder only.
 */
#pragma once

#include "source/source.h"

#include <stdatomic.h>

typedef struct {
  const char *kind;
  gboolean sequential;
  guint requests; /* see vma_source_requests(); 0 is 1 */
  gboolean remote; /* see vma_source_is_remote() */
  gboolean checks_data; /* see vma_source_checks_data() */

  /* Takes over `fd` (which is at offset 0, or where a pipe's `head` bytes have been read already). */
  VmaSource *(*open) (int fd, const guint8 *head, gsize head_size, const VmaSourceOptions *options,
                      GError **error);

  /* As the functions of source.h.  `identity` and `interrupt` may be NULL. */
  gssize (*pread) (VmaSource *source, void *buffer, gsize size, guint64 offset, VmaReadHint hint,
                   GCancellable *cancellable, GError **error);
  guint64 (*size) (VmaSource *source);
  gboolean (*identity) (VmaSource *source, VmaSourceIdentity *identity, GError **error);
  void (*interrupt) (VmaSource *source);
  void (*free) (VmaSource *source);
} VmaSourceOps;

/* The first bytes of a file, by which its kind is known. */
#define VMA_PROBE_SIZE 64

/* The first member of every implementation's structure. */
struct VmaSource {
  const VmaSourceOps *ops;
  atomic_int refs;
};

extern const VmaSourceOps vma_file_source_ops;
extern const VmaSourceOps vma_pipe_source_ops;
