/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LVM's physical volumes: the name of the volume group, and where its logical volumes stand.
 *
 * A logical volume in one piece on one physical volume (as installers make them) is a window on the disk
 * like a partition, which needs no device mapper.  Pure; input is hostile.
 */
#pragma once

#include <glib.h>

#define VMA_LVM_AREA_HEADER 512u
#define VMA_LVM_AREA_MAX    (16u * 1024 * 1024)

/* The first metadata area named by the label in the first 4 sectors.  FALSE where there is none. */
gboolean vma_lvm_find_area (const guint8 *head, gsize size, guint64 *offset, guint64 *length);

/* The current metadata in a whole area; wraps around in it.  NULL with VMA_ERROR_DAMAGED. */
GBytes *vma_lvm_area_text (const guint8 *area, gsize size, GError **error);

/* A stretch of a logical volume. */
typedef struct {
  char pv_uuid[64];       /* with its dashes; of any physical volume of the group */
  guint64 offset, length; /* bytes of the physical volume */
} VmaLvmPiece;

typedef struct {
  char *name;
  GArray *pieces; /* VmaLvmPiece, in order; NULL: not linear */
  gboolean is_window;
  guint64 offset, length; /* bytes of the physical volume; the length is known always */
  const char *layout;     /* "linear", "striped", "thin", ... where it is no window: why */
} VmaLvmVolume;

typedef struct {
  char *vg;
  GPtrArray *volumes; /* VmaLvmVolume *: those that begin on this physical volume */
} VmaLvmGroup;

/* `pv_uuid` with its dashes.  NULL with VMA_ERROR_DAMAGED. */
VmaLvmGroup *vma_lvm_parse (const char *text, gsize size, const char *pv_uuid, GError **error);
void vma_lvm_group_free (VmaLvmGroup *group);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaLvmGroup, vma_lvm_group_free)
