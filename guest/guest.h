/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is on the disks of an archive: partitions, LVM volumes, and the file systems in them.
 *
 * A VmaGuest owns what was found; it does not change afterwards, and any thread may read it.  The
 * archive must outlive it.  Recognition is libblkid's; a guest writes what it likes on its disks, so
 * labels are to be escaped before they are printed (vma_name_escape()) and every range is checked here
 * to lie inside the disk.
 *
 * Reads a few MiB a volume, waiting for the index where it must: for whoever cannot wait, that is work for
 * a thread of its own.
 */
#pragma once

#include "image/image.h"

typedef enum {
  VMA_GUEST_WHOLE,     /* a disk without a partition table: all of it */
  VMA_GUEST_PARTITION,
  VMA_GUEST_LV,        /* a logical volume of LVM */
} VmaGuestKind;

/* A stretch of a logical volume. */
typedef struct {
  VmaImage *image;
  guint64 offset, length; /* bytes of the disk */
  char pv_uuid[64];
} VmaGuestPiece;

/* Strings are NULL where there is none; those from the disk hold no control characters' guarantee. */
typedef struct {
  VmaImage *image;
  VmaGuestKind kind;
  guint number;        /* of a partition, as Linux counts: logical ones from 5 on; otherwise 0 */
  char *name;          /* "p2", "whole", "VG/LV": unique on its disk, and fit to be shown */
  guint64 offset, length; /* bytes of the disk */
  gboolean is_window;  /* [offset, offset + length) is the volume; FALSE: extended, LV in pieces, bad */

  /*
   * A logical volume that is no window, but linear: its pieces, in order.  NULL where it is not, or where
   * a piece is on no disk that was looked at.
   */
  GArray *pieces; /* VmaGuestPiece */

  char *type;          /* of a partition: GUID, or "0x83" */
  char *part_label, *part_uuid;
  char *fs_type;       /* as libblkid calls it: ext4, xfs, LVM2_member, crypto_LUKS, swap, ... */
  char *fs_usage;      /* "filesystem", "raid", "crypto", "other" */
  char *fs_label, *fs_uuid, *fs_version;
  char *vg;            /* of a physical volume, or a logical one */
  char *problem;       /* why nothing, or not all, is known: one line without the archive's name */
} VmaGuestVolume;

typedef struct {
  VmaImage *image;
  char *table;         /* "gpt", "dos", ...; NULL: none */
  char *table_uuid;
  guint sector_size;   /* 512 or 4096: that the table is written for */
  GPtrArray *volumes;  /* VmaGuestVolume *, ascending */
  char *problem;       /* the disk's table could not be read; one line with the archive's name */
} VmaGuestDisk;

typedef struct {
  VmaArchive *archive;
  GPtrArray *disks;    /* VmaGuestDisk *, as in the header; vmstate is none */
} VmaGuest;

/*
 * Looks at all disks, or at one only (`only` != NULL).  What cannot be read is a `problem` of its disk
 * or volume; NULL with an error only when cancelled.
 */
VmaGuest *vma_guest_probe (VmaArchive *archive, VmaImage *only, GCancellable *cancellable,
                           GError **error);
void vma_guest_free (VmaGuest *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaGuest, vma_guest_free)

/*
 * What a user may ask for; NULL: does not matter.
 *
 * part: "2", "p2", "whole", "VG/LV", or "root", the file system that the guest has as its root.
 */
typedef struct {
  const char *part;
  const char *label; /* of the file system, or of a partition */
  const char *uuid;  /* likewise, in any case */
  gboolean accept_pieces; /* a logical volume in pieces will do */
} VmaGuestWanted;

/*
 * The one volume that fits.  Without any wish: the only one with a file system, or the root.  `rule`
 * (may be NULL) tells how a root was found: "the only one with /etc/os-release", a constant.  NULL with
 * VMA_ERROR_INVALID and a message that lists what there is.  The volume is a window, or has
 * `pieces` where these are accepted.
 */
const VmaGuestVolume *vma_guest_find (const VmaGuest *guest, const VmaGuestWanted *wanted,
                                      const char **rule, GCancellable *cancellable, GError **error);

/*
 * How a file system is mounted that was frozen in the middle of its life, and must not be written to:
 * "ro,noload".  A constant; "ro" for those without a particularity, NULL where `fs_type` is no file
 * system (swap, LVM2_member, crypto_LUKS, ...).
 */
const char *vma_guest_mount_options (const VmaGuestVolume *volume);

/* "disk-drive-scsi0.raw: p1 vfat, p2 ext4 \"root\"; ...": for messages.  The caller frees it. */
char *vma_guest_describe (const VmaGuest *guest);
