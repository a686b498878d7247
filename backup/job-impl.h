/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of a job share: job.c has its course, job-freeze.c the point in time, job-watch.c
 * what is looked after while it runs, job-tell.c what others are told.
 */
#pragma once

#include "backup/graph.h"
#include "backup/job.h"
#include "backup/vmstate.h"

#include <pthread.h>
#include <stdatomic.h>

#define VMA_JOB_TICK_MS 200
#define VMA_JOB_ENDING_MS 1000 /* what a QEMU that is just ending is given */
#define VMA_JOB_NO_SPEED G_MAXUINT64

/* What we know of a disk besides VmaDisk. */
typedef struct {
  char *old, *next;     /* bitmaps; NULL: none */
  gboolean bitmap_runs; /* `next` is there */
  gboolean copying, done;
  guint64 done_at;
} VmaJobDisk;

struct VmaJob {
  VmaJobOptions options;
  VmaGuard *guard;
  VmaJobTell tell;
  gpointer tell_data;
  guint8 uuid[VMA_UUID_SIZE];
  VmaGraph graph; /* graph.qmp is ours */
  VmaJobDisk *states;
  VmaTarget *target;
  VmaMemory *memory;
  gboolean nodes_there;
  gboolean frozen; /* there is a point in time */
  int qemu;        /* pidfd of QEMU's process, or -1 */

  _Atomic guint64 new_speed; /* VMA_JOB_NO_SPEED: none */

  pthread_mutex_t lock; /* of what follows, and of `target` and `graph.disks` while others look */
  const char *status;
  char *error;
  gint64 start_ns, end_ns, pause_ns;
  guint64 speed;
  gboolean described; /* disks and target may be asked */
};

guint vma_job_n_disks (VmaJob *job);
const VmaDisk *vma_job_disk (VmaJob *job, guint i);

/* A line of text for people. */
void vma_job_note (VmaJob *job, const char *format, ...) G_GNUC_PRINTF (2, 3);
gboolean vma_job_fail_cancelled (GError **error); /* FALSE */

/* The connection was lost: tries for a while to get another one. */
gboolean vma_job_reconnect (VmaJob *job);
/* Whether that is sure; one that is just ending is given so long. */
gboolean vma_job_qemu_has_ended (VmaJob *job, int milliseconds);
gboolean vma_job_guest_is_running (VmaJob *job, gboolean *running, GError **error);

/* job-freeze.c, in this order; QEMU has nodes of ours from the first on. */
gboolean vma_job_add_files (VmaJob *job, GError **error);
gboolean vma_job_freeze (VmaJob *job, GCancellable *cancellable, GError **error);
void vma_job_begin (VmaJob *job);
gboolean vma_job_start_copies (VmaJob *job, GError **error); /* unless that was done */

/* job-watch.c: until all has been delivered. */
gboolean vma_job_watch (VmaJob *job, GCancellable *cancellable, GError **error);
