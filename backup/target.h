/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The point in time that a live backup collects: what QEMU writes into our mount becomes an
 * archive, and can be read while it does.
 *
 * Owns the mount that QEMU writes to, the view that people read, the scratch file, the reads
 * through to QEMU, and the writer of the archive.  Knows nothing of QMP: backup/job builds QEMU's
 * graph around it, and tells it here what becomes of it.
 *
 * Two files a disk, both of the disk's exact size:
 *
 *   NAME.cow   takes what the copy-before-write filter delivers; a guest's write waits for it
 *   NAME.raw   takes the background copy; may be as slow as it likes
 *
 * The first write of a cluster wins, over both files: all that comes later is acknowledged and
 * dropped.  QEMU never gets an error, and never waits for more than a request's time: whatever goes
 * wrong with us makes the backup fail, not the guest.  No thread that answers FUSE waits for QEMU.
 *
 * The background copy must be told to use few workers (x-perf, max-workers): QEMU's 64 threads serve the
 * guest too, and a process of ours that hangs as a whole would hold all of them.
 *
 * Life: new, serve, [show], then the job inserts its filters and says begin(); complete() or
 * fail(); the job takes its nodes out of QEMU; free().
 *
 * Locking: new, serve, show, complete and free are for one thread, the job's.  All others may be
 * called from any thread.
 */
#pragma once

#include "vma/format.h"
#include "writer/writer.h"

#include <gio/gio.h>
#include <sys/types.h>

typedef struct VmaTarget VmaTarget;

typedef struct {
  const char *name; /* of the device in the archive: "drive-scsi0" */
  guint64 size;     /* bytes, as QEMU has it */
} VmaTargetDisk;

typedef struct {
  const char *name;
  GBytes *data;
} VmaTargetConfig;

typedef enum {
  VMA_SCRATCH_WAIT, /* full: hook writes wait for the archive */
  VMA_SCRATCH_FAIL, /* full: the backup fails, at once */
} VmaScratchFull;

/* Plain values; everything is copied. */
typedef struct {
  const char *output; /* as in writer/output.h; NULL: no archive, only the view (needs scratch) */
  const guint8 *uuid; /* of the archive */
  VmaCompression compression;
  const VmaTargetDisk *disks;
  guint n_disks;
  const VmaTargetConfig *configs;
  guint n_configs;
  gboolean vmstate; /* the archive gets a vmstate stream, see vma_target_add_vmstate() */

  const char *scratch;  /* file (a temporary one next to it is made and removed), NULL: none */
  guint64 scratch_size; /* 0: no limit but its file system */
  VmaScratchFull on_full;

  gboolean view; /* vma_target_show() will be called: keeps all that it needs */

  const char *base;             /* incremental: what is never written comes from this archive */
  gboolean delta;               /* what is never written is left out: see vmafs -o base= */
  const gboolean *changed_only; /* per disk: FALSE in an incremental backup is a full copy */

  guint request_timeout; /* seconds until a request of QEMU is answered in any case; 0: 20 */
  gboolean allow_other;  /* QEMU runs as another user, */
  uid_t owner;           /* this one: the files are for it (and root) alone */

  /*
   * The first failure, unless it was vma_target_fail() or complete() that told of it; once, from
   * any thread.  The backup is over, QEMU was not told.
   */
  void (*failed) (gpointer data, const GError *error);
  gpointer data;
} VmaTargetOptions;

VmaTarget *vma_target_new (const VmaTargetOptions *options, GError **error);

/* Makes a private directory and mounts it for QEMU. */
gboolean vma_target_serve (VmaTarget *target, GError **error);
const char *vma_target_cow_path (VmaTarget *target, guint disk);
const char *vma_target_raw_path (VmaTarget *target, guint disk);
const char *vma_target_mountpoint (VmaTarget *target);

/* Mounts the view, read-only, at `mountpoint`: disk-NAME.raw, configs.  Reads wait until begin().
 */
gboolean vma_target_show (VmaTarget *target, const char *mountpoint, GError **error);

/*
 * The point in time is fixed: QEMU's filters are in place.  `uris` has an NBD URI for each disk
 * (nbd+unix:///EXPORT?socket=PATH), where the view reads what did not come yet; an entry may be
 * NULL, and reads of that disk then wait for the background copy.
 */
void vma_target_begin (VmaTarget *target, const char *const *uris);

/*
 * Before begin(), of a disk that is copied in part: the name of a bitmap that is exported with it, in which
 * exactly those clusters are dirty that the filter copies.  Without it the view shows such a disk as it is
 * collected, and all of it only in the end.
 */
void vma_target_set_bitmap (VmaTarget *target, guint disk, const char *bitmap);

/* No more read-through of this disk (its export is about to go): waits for the reads under way. */
void vma_target_end_read_through (VmaTarget *target, guint disk);

/*
 * The backup failed, for a reason that the job knows (a broken snapshot, a failed block job).  From
 * now on writes of QEMU are dropped, and the view gives EIO for what was not collected.
 */
void vma_target_fail (VmaTarget *target, const GError *error);
gboolean vma_target_has_failed (VmaTarget *target, GError **error);

/* RAM and device state, when they are there: reads `fd` to its end.  Before complete(). */
gboolean vma_target_add_vmstate (VmaTarget *target, int fd, GCancellable *cancellable,
                                 GError **error);

/*
 * QEMU has delivered everything: drains the scratch file, takes from the base what is to come from
 * there, checks that nothing is missing, and gives the archive its name.  An error leaves no
 * archive.
 */
gboolean vma_target_complete (VmaTarget *target, GCancellable *cancellable, GError **error);

typedef struct {
  guint64 total, transferred, zero; /* bytes, as in VmaStreamProgress */
  guint64 cow_bytes;                /* of these, by the hook */
  guint64 cow_requests;
  guint64 cow_ns, cow_max_ns; /* time a hook write took us: sum, longest */
  guint64 read_through_bytes;
} VmaTargetProgress;

void vma_target_get_progress (VmaTarget *target, guint disk, VmaTargetProgress *progress);
guint64
vma_target_scratch_bytes (VmaTarget *target); /* in the scratch file, not yet in the archive */

/* Unmounts (lazily, where something is still open), and takes back what was not completed. */
void vma_target_free (VmaTarget *target);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaTarget, vma_target_free)
