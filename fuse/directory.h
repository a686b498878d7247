/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory full of archives, each shown as a directory.
 *
 * Owns an entry for each archive that there is, and of these the ones that are open.  An archive is
 * opened when somebody asks for what is in it, by one of a few threads, and closed again when it
 * was not used for a while; not more than a bounded number are open at once.  Its index is started
 * by the first who waits for it.
 *
 * Inode numbers: the upper bits are the serial number of an entry, the lower ones count the nodes
 * of its tree; 0 is the serial number of the directory itself.  An entry stands for one file with
 * one content: where either changes, it becomes another entry, and a serial number is never used
 * twice.  As the same archive always makes the same tree, an archive may be closed and opened again
 * whatever the kernel remembers of it.  Only open files (and requests) keep it open.  What the
 * kernel remembers of an entry that is gone is answered with ESTALE; files that were open stay
 * readable where the file was deleted or replaced, and give EIO where it was written to.
 *
 * The directory is looked at again when somebody asks what is in it (no notification would tell of
 * changes made by other machines), at most once a second unless it has changed.
 *
 * Locking: a mutex for the entries, never held during I/O or calls of libfuse; another one keeps
 * two looks at the directory apart, and comes first.  Any thread.
 */
#pragma once

#include "fuse/request.h"

/* NULL and an error where the directory cannot be read.  The options must outlive it. */
VmaDirectory *vma_directory_new (const char *path, const VmaMountOptions *options, GError **error);

/* Answers all requests that wait, now and from now on, and waits for what is under way. */
void vma_directory_stop (VmaDirectory *directory);
void vma_directory_free (VmaDirectory *directory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaDirectory, vma_directory_free)

const char *vma_directory_path (VmaDirectory *directory);
const VmaMountOptions *vma_directory_options (VmaDirectory *directory);

/* The directory's attributes; the last that are known, where it cannot be reached now. */
void vma_directory_stat (VmaDirectory *directory, struct stat *st);

/* Has a request about the inode `request->ino` served, when what it is about is open. */
void vma_directory_route (VmaDirectory *directory, const VmaRequest *request);

/* The mounted archive of a file that is open. */
VmaMounted *vma_directory_of_open_file (VmaDirectory *directory, fuse_ino_t ino);

/* Whether an inode belongs to the directory itself, not to an archive. */
gboolean vma_directory_is_top (fuse_ino_t ino);

/* The archive that is shown as `name` / whose directory is inode `ino`: inode number and file.
 * FALSE: there is none. */
gboolean vma_directory_find (VmaDirectory *directory, const char *name, fuse_ino_t *ino,
                             struct stat *file);
gboolean vma_directory_find_ino (VmaDirectory *directory, fuse_ino_t ino, struct stat *file);

/* What there is: the names, and the inode numbers in the same order.  FALSE: it cannot be read now.
 */
typedef struct {
  GPtrArray *names;
  GArray *inos; /* fuse_ino_t */
} VmaListing;

gboolean vma_directory_list (VmaDirectory *directory, VmaListing *listing);
void vma_listing_clear (VmaListing *listing);

/* The text of .vmafs/status (JSON) and .vmafs/errors (directory-status.c). */
GBytes *vma_directory_status (VmaDirectory *directory);
GBytes *vma_directory_error_list (VmaDirectory *directory);
