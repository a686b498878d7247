/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines of -v, as the reference tool prints them on stdout:
 *
 *   progress N% (read N bytes, duration N sec)
 *   total bytes read N, sparse bytes N (N%)
 *   space reduction due to 4K zero blocks N%
 *
 * "Read" are bytes of disk, whether stored or zero; "sparse" are zero clusters.
 *
 * Any thread may count.
 */
#pragma once

#include "vma/extent.h"
#include "vma/header.h"

#include <pthread.h>

typedef struct {
  gboolean enabled;
  guint64 total; /* bytes that the header promises */
  gint64 started;

  pthread_mutex_t lock; /* of what follows */
  guint64 read, sparse, zero_blocks;
  guint percent;
} ToolVerbose;

/* `verbose` needs no end: it owns nothing. */
void tool_verbose_start (ToolVerbose *verbose, const VmaHeader *header, gboolean enabled);

/* Counts; prints when another percent is full. */
void tool_verbose_extent (ToolVerbose *verbose, const VmaExtent *extent);
void tool_verbose_count (ToolVerbose *verbose, guint64 read, guint64 sparse, guint64 zero_blocks);

void tool_verbose_summary (const ToolVerbose *verbose);
