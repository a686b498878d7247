/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our nodes in QEMU's block graph.  For disk N of the job with prefix P:
 *
 *   device -> P cbwN [copy-before-write] -> file:   what stood below the device
 *                                        -> target: P cowN [file MOUNT/NAME.cow]
 *   P snapN [snapshot-access] -> P cbwN          what is copied, and exported
 *   P rawN [file MOUNT/NAME.raw]                 where the background job P jobN copies to
 *   P expN                                       the NBD export of P snapN
 *
 * For the job's thread; nothing is kept here, QEMU itself is asked what there is.
 */
#pragma once

#include "backup/disks.h"

typedef struct {
  VmaQmp *qmp; /* may be another connection after one was lost */
  VmaFeatures features;
  char *prefix;      /* see backup/names.h */
  GPtrArray *disks;  /* VmaDisk */
  guint cbw_timeout; /* seconds */
  char *nbd_socket;  /* set by vma_graph_export(); NULL: none */
} VmaGraph;

char *vma_graph_name (const VmaGraph *graph, const char *role, guint disk);

/* A node over a file of our mount; before the stop for "cow". */
gboolean vma_graph_add_file (VmaGraph *graph, const char *role, guint disk, const char *path,
                             GError **error);

/*
 * The filter and the snapshot, with the guest stopped.  `bitmap` NULL: the point in time is of the
 * whole disk; else only of what this bitmap of the disk's node has.
 */
gboolean vma_graph_insert (VmaGraph *graph, guint disk, const char *bitmap, GError **error);

/*
 * Puts `upper` in the place that the disk's device or raw node reads and writes.  A device that has
 * gone is no error.
 */
gboolean vma_graph_switch (VmaQmp *qmp, const char *qdev, const char *parent, const char *node,
                           GError **error);

/*
 * A background copy.  `sync` full, top, or, if there is one, what `bitmap` of the snapshot has.
 * With `hold` it stays when it is done ("pending") until it gets job-finalize.
 */
JsonNode *vma_graph_copy (VmaGraph *graph, guint disk, const char *sync, const char *bitmap,
                          guint64 speed, gboolean hold);
/*
 * Starts all of them, at once: QEMU waits for every request to end before it starts one, and with
 * it the guest, and requests of a copy that runs already end only when the archive takes them.
 * `copies`, an array, is taken.
 */
gboolean vma_graph_start_copies (VmaGraph *graph, JsonNode *copies, GError **error);

/*
 * Exports all snapshots, read-only: their URIs, NULL where it could not be done (*note says why;
 * the caller frees it).  bitmaps[disk], where it is not NULL, is exported with its disk.
 */
char **vma_graph_export (VmaGraph *graph, const char *const *bitmaps, char **note);
