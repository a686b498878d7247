/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks that can be written, over an archive that is not: what is written goes to a scratch file.
 *
 * Owns the scratch file, and the map of what is in it; both cover all disks of the archive.  The
 * file is sparse, and a block has its own place in it, so that writing one again needs no more
 * space.  With a name it can be opened again later, for the same archive; without one it is gone at
 * the end.
 *
 * A crash, of the program or of the machine, loses what was written after the last
 * vma_overlay_sync() that came back, and nothing else.  How: a block's bit in the file's map is
 * written only after its data are on the medium, and bits are only ever set.  A block that was
 * there before and is written again has, after a crash, its old or its new content, sector by
 * sector: as on a disk.
 *
 * Locking: any thread may call anything but open, close and free.
 */
#pragma once

#include "image/image.h"

typedef struct VmaOverlay VmaOverlay;
typedef struct VmaOverlayDisk VmaOverlayDisk; /* overlay/disk.h */

/*
 * Opens or makes `file`; NULL: a temporary one in $TMPDIR or /var/tmp.  The archive stays the
 * caller's and outlives the overlay.  Errors name the file.
 */
VmaOverlay *vma_overlay_open (const char *file, VmaArchive *archive, GError **error);

/*
 * The same in two steps, for a program that confines itself in between and then cannot make files:
 * the file is made beforehand, without a name, and gets that from a function of the caller's.
 */
typedef struct {
  int fd;                      /* -1: none; open does it all */
  int (*name) (gpointer data); /* links it to the overlay's name, on the medium; 0 or an errno */
  gpointer data;
} VmaOverlayPrepared;

/* A nameless file for it.  -1: it is there already, or such a file cannot be made. */
int vma_overlay_prepare (const char *file);

/* What vma_overlay_open() does, with `fd`, which it takes. */
VmaOverlay *vma_overlay_open_prepared (const char *file, const VmaOverlayPrepared *prepared,
                                       VmaArchive *archive, GError **error);

/* A prepared file's name: what VmaOverlayPrepared.name has to do.  0 or an errno. */
int vma_overlay_name (int fd, const char *file);

/* Where temporary ones are made. */
const char *vma_overlay_temporary_dir (void);

/* The mount stands: a file that was made for it stays.  Without this it is removed again.  Once. */
void vma_overlay_keep (VmaOverlay *overlay);

/* The disk over a device of the archive; NULL for vmstate, which stays as it is. */
VmaOverlayDisk *vma_overlay_disk (VmaOverlay *overlay, guint8 device);

/*
 * What was written before is on the medium when this comes back.  After a failure nobody knows what
 * is: then it fails for good.
 */
gboolean vma_overlay_sync (VmaOverlay *overlay, GError **error);

/*
 * From now on what was written is synced after so many seconds, also if nobody asks for it.  A
 * named file only.
 */
void vma_overlay_start_flusher (VmaOverlay *overlay, guint seconds);

/* The last sync of a named file.  No other call may be under way, but free() follows. */
gboolean vma_overlay_close (VmaOverlay *overlay, GError **error);
void vma_overlay_free (VmaOverlay *overlay);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaOverlay, vma_overlay_free)

typedef struct {
  const char *file;  /* absolute; NULL: a temporary one.  The overlay's */
  guint64 blocks;    /* that are not the archive's any more */
  guint64 allocated; /* bytes that the scratch file takes */
  guint64 written;   /* bytes since it was opened */
  guint64 syncs;
  gboolean failed; /* a sync failed */
} VmaOverlayUsage;

void vma_overlay_get_usage (VmaOverlay *overlay, VmaOverlayUsage *usage);
