/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper: a small process beside the driver that mounts and unmounts for it.
 *
 * The driver confines itself before it looks at the archive, and then may neither mount nor
 * unmount, nor start fusermount3, which does so for users; and the mount is only made when the
 * archive turns out to be good.  So a child that never sees a byte of the archive is forked
 * before.  It waits for orders of one byte, and knows by itself what to mount where: whoever takes
 * over the driver can have the mount made or ended, a new overlay named, and get nameless temporary
 * files, and that is all.
 *
 * It ends with the driver.  If the driver dies without a word, the mount stays, as a dead one,
 * unless there is auto_unmount.
 *
 * Any thread may call any function but start and free.
 */
#pragma once

#include "fuse/options.h"

typedef struct VmaKeeper VmaKeeper;

/* Makes a FUSE session with all options of this mount; NULL: it said what was wrong. */
typedef struct fuse_session *(*VmaKeeperSession) (const VmaMountOptions *options, void *data);

/*
 * Forks; while there is one thread.  `new_session` makes the session that the keeper mounts.  NULL
 * and an error.
 */
VmaKeeper *vma_keeper_start (const VmaMountOptions *options, VmaKeeperSession new_session,
                             char **argv, GError **error);

/* Mounts.  The connection to the kernel, or -1, and then the reason was told on standard error. */
int vma_keeper_mount (VmaKeeper *keeper, int *readahead_fd);

/* A nameless file where temporary files go; -1 and errno. */
int vma_keeper_open_temporary (VmaKeeper *keeper);

/*
 * Gives the file that was prepared as an overlay its name; 0 or an errno.  If the mount never
 * becomes ready, the keeper takes the name away again.
 */
int vma_keeper_name_overlay (VmaKeeper *keeper);

/* The mount answers: the keeper lets go of the terminal where the driver does. */
void vma_keeper_ready (VmaKeeper *keeper);

/*
 * Unmounts, if it mounted; lazily, so that a mount in use ends when its last user has gone.  The
 * driver's own descriptor of the connection is closed before.  The keeper ends.
 */
void vma_keeper_unmount (VmaKeeper *keeper);

/* Ends the keeper, if it is there still, and waits for that. */
void vma_keeper_free (VmaKeeper *keeper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaKeeper, vma_keeper_free)
