/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One live backup: from a running guest to an archive.
 *
 * Owns the connection to QEMU and the target (backup/target.h), and keeps to the one order in which
 * the point in time is fixed and everything is taken back.  Whatever happens, the guest runs on if
 * it ran before, and QEMU is left without our nodes as long as it can be reached.
 *
 * Locking: run() is for one thread; describe(), set_speed() and the cancellable may be used by any
 * others meanwhile.
 */
#pragma once

#include "backup/guard.h"
#include "backup/target.h"

#include <json-glib/json-glib.h>

typedef enum {
  VMA_SYNC_FULL,
  VMA_SYNC_TOP,  /* what the topmost image of each disk has; the rest is `base` */
  VMA_SYNC_NONE, /* no archive, only the view */
} VmaSync;

/* Plain values; they must outlive the job. */
typedef struct {
  const char *id, *qmp;
  const char *output;                     /* as in writer/output.h */
  const char *shown_output, *shown_mount; /* for people and programs elsewhere */
  VmaCompression compression;
  const VmaTargetConfig *configs;
  guint n_configs;
  const char *const *devices, *const *exclude; /* NULL: the default */
  guint64 speed;                               /* bytes a second and disk; 0: no limit */
  const char *mount;                           /* of the view, or NULL */
  const char *base, *bitmap;                   /* NULL: not incremental; no bitmap */
  gboolean delta, vmstate;
  VmaSync sync;
  guint cbw_timeout; /* seconds */
  const char *scratch;
  guint64 scratch_size;
  VmaScratchFull on_full;
} VmaJobOptions;

typedef struct VmaJob VmaJob;

/*
 * What a job tells while it runs, in its thread: "BACKUP_STARTED" when the point in time is fixed,
 * "BACKUP_PROGRESS" some times a second.  `note` is not NULL for a line of text that people should
 * see, then without an event.
 */
typedef void (*VmaJobTell) (gpointer data, const char *event, const char *note);

VmaJob *vma_job_new (const VmaJobOptions *options, VmaGuard *guard, VmaJobTell tell, gpointer data);
void vma_job_free (VmaJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaJob, vma_job_free)

/* All of it.  Errors do not name the output.  VMA_ERROR_CANCELLED where it was cancelled. */
gboolean vma_job_run (VmaJob *job, GCancellable *cancellable, GError **error);

/* Of the background copies, from now on. */
void vma_job_set_speed (VmaJob *job, guint64 speed);

/* As docs/vmabackup-protocol.md has it, "BackupInfo". */
JsonNode *vma_job_describe (VmaJob *job);

/* The sums over all disks, for a progress bar. */
void vma_job_get_progress (VmaJob *job, VmaTargetProgress *sum);
