/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sees to it that no request of QEMU stays without an answer, whatever the medium does.
 *
 * A hook write that took longer than the limit, or any request while the medium took nothing for so
 * long, makes the backup fail.  When it has failed, for whatever reason, all requests that are
 * still under way are answered at once, by a thread of this module: the one that works at a request
 * may be stuck for ever, and finds out later that its answer is not wanted any more.
 *
 * Owns its thread, and none of the requests.
 *
 * Locking: enter() and leave() by any thread; new and free by one.
 */
#pragma once

#include "backup/session.h"

typedef struct VmaDeadman VmaDeadman;

/* A request being worked at; lives on the stack of who does it. */
typedef struct {
  fuse_req_t req;
  gboolean hook;
  guint64
      written; /* answered as a write of so many bytes; 0: as one that has no answer but "done" */
  gboolean reads; /* answered with EIO: there is no such thing as made-up data */
  gint64 since;
  gboolean answered;
  gboolean early; /* answered by who does it, which goes on */
  GList link;
} VmaPending;

typedef struct {
  guint seconds;
  guint64 (*progress) (gpointer data); /* changes as long as the medium takes something */
  void (*too_late) (gpointer data, guint seconds); /* fails the backup */
  void (*answered) (gpointer data, guint n);       /* so many threads may be stuck */
  gpointer data;
} VmaDeadmanOptions;

VmaDeadman *vma_deadman_new (const VmaDeadmanOptions *options);
void vma_deadman_free (VmaDeadman *deadman); /* no request is under way */

/* Fill in req, hook, written, reads before. */
void vma_deadman_enter (VmaDeadman *deadman, VmaPending *pending);
/*
 * TRUE: answer it, though it is not done yet.  Nobody waits for it any more, but it may still get stuck,
 * which the limit for the medium tells.  FALSE: that has been done.
 */
gboolean vma_deadman_answer_early (VmaDeadman *deadman, VmaPending *pending);
/* TRUE: answer it.  FALSE: that has been done. */
gboolean vma_deadman_leave (VmaDeadman *deadman, VmaPending *pending);

/* The backup has failed: answers all that is under way. */
void vma_deadman_answer_all (VmaDeadman *deadman);
