/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page of a cluster map in its two forms: dense (an array of entries) and runs.
 *
 * A run stands for clusters with one mask whose data follow one another without a gap, as a
 * sequential writer leaves them: up to 59 clusters (an extent) in 10 bytes.  Zero, missing and bad
 * clusters make runs too.  Pure; a VmaRuns never changes once packed.
 */
#pragma once

#include "index/entry.h"

/* 256 MiB of disk; 32 KiB in dense form. */
#define VMA_PAGE_CLUSTERS 4096u

typedef struct {
  guint32 n;
  VmaEntry entries[]; /* n: the first cluster's of each run; after them n guint16: its number in the page */
} VmaRuns;

/*
 * Packs entries[0..VMA_PAGE_CLUSTERS).  The result is freed with g_free(); NULL where the dense form
 * is not larger.
 */
VmaRuns *vma_runs_pack (const VmaEntry *entries);

/* The entry of cluster i < VMA_PAGE_CLUSTERS: O(log n). */
VmaEntry vma_runs_get (const VmaRuns *runs, guint i);

/* As vma_runs_get(); *end is the first cluster after i that belongs to another run. */
VmaEntry vma_runs_get_run (const VmaRuns *runs, guint i, guint *end);

/* Bytes in memory. */
gsize vma_runs_size (const VmaRuns *runs);
