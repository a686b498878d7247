/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ext2, ext3 or ext4 file system inside a disk, opened for reading through libext2fs.
 *
 * libext2fs reads through an io_manager of ours, which reads the image: nothing is mounted, and nothing
 * outside the volume is ever read.  What the archive has lost is an error, told with the archive's words.
 * One thread at a time.
 */
#pragma once

#include "guest/guest.h"

#include <ext2fs/ext2fs.h>

typedef struct VmaExt VmaExt;

/* Whether the volume holds one. */
gboolean vma_ext_is (const VmaGuestVolume *volume);

/* The volume and its archive must outlive it.  NULL and an error with the archive's path. */
VmaExt *vma_ext_open (const VmaGuestVolume *volume, GCancellable *cancellable, GError **error);
void vma_ext_free (VmaExt *ext);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaExt, vma_ext_free)

ext2_filsys vma_ext_fs (VmaExt *ext);

/*
 * Why the journal of a file system that was in use could not be carried out: then what the guest wrote last
 * may be missing.  NULL: it was (in memory), or there was nothing to do.
 */
const char *vma_ext_journal_problem (VmaExt *ext);

/*
 * An error from what libext2fs returned: "ARCHIVE: DISK/PART: what: reason".  Where the archive could
 * not be read that is the reason.
 */
void vma_ext_set_error (VmaExt *ext, errcode_t code, GError **error, const char *format, ...)
    G_GNUC_PRINTF (4, 5);

/* Takes the data of a file: ascending, what is not given is a hole.  FALSE with an error stops. */
typedef gboolean (*VmaExtSink) (gpointer data, const void *bytes, gsize size, guint64 offset,
                                GError **error);

/* Reads a regular file, or another inode that has data.  Its size is EXT2_I_SIZE(). */
gboolean vma_ext_read (VmaExt *ext, ext2_ino_t ino, const char *shown, VmaExtSink sink, gpointer data,
                       GError **error);
