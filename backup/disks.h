/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of a guest: which there are, what they are called in an archive, which are meant.
 */
#pragma once

#include "backup/abilities.h"

typedef struct {
  char *name;   /* in the archive: "drive-scsi0" */
  char *qdev;   /* path of the device, for qom-set; NULL in a qemu-storage-daemon */
  char *node;   /* what stands below the device */
  char *parent; /* the raw node over it that is reopened, where there is no device */
  char *file;   /* of the image, as QEMU names it, or NULL */
  guint64 size;
} VmaDisk;

void vma_disk_free (VmaDisk *disk);

/*
 * VmaDisk, in QEMU's order: the writable ones with a medium, or those that `devices` names, without
 * those that `exclude` names (by name in the archive, device, qdev id or node).  Errors: two of one
 * name, a name that nothing has, nothing left, a disk that a live backup has already.
 */
GPtrArray *vma_disks_find (VmaQmp *qmp, const VmaFeatures *features, const char *const *devices,
                           const char *const *exclude, GError **error);
