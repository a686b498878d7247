/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The archive header: identity, devices, configs.
 *
 * Owns the parsed form.  Pure: bytes in, structure out, no I/O.  A VmaHeader never changes after it
 * was parsed, so any number of threads may read it.  The byte layout is in vma(5), "HEADER".
 */
#pragma once

#include "vma/format.h"

#include <glib.h>

typedef struct {
  guint8 id;           /* 1..254, as extents name it */
  gboolean is_vmstate; /* RAM and device state: in order, of unknown length */
  guint64 size;        /* bytes; for vmstate only an estimate */
  guint64 clusters;    /* that many can be listed; for vmstate VMA_MAX_CLUSTERS */
  char *name;          /* as in the archive: hostile, never a path (see vma/names.h) */
} VmaDevice;

typedef struct {
  guint slot;  /* 0..255 in the header's tables */
  char *name;  /* as in the archive: hostile, never a path; not empty */
  GBytes *data;
} VmaConfig;

typedef struct {
  guint8 uuid[VMA_UUID_SIZE];
  gint64 ctime;                              /* seconds since the epoch */
  guint32 size;                              /* bytes; the first extent stands here */
  gboolean has_vmstate;                      /* one device at most is it: the first of that name */
  GPtrArray *devices;                        /* VmaDevice *, ascending id; owned */
  GPtrArray *configs;                        /* VmaConfig *, ascending slot; owned */
  const VmaDevice *by_id[VMA_MAX_DEVICES];   /* NULL where no such device */
} VmaHeader;

/*
 * From the first VMA_HEADER_FIXED_SIZE bytes: is this a VMA archive, and how long is its header?
 * Checks magic, version and the bounds of the size; nothing else can be checked before the rest is
 * there.  `available` may be smaller, which is an error that says so.  Returns 0 and sets `error`
 * (VMA_ERROR_NOT_VMA, VMA_ERROR_HEADER).
 */
guint32 vma_header_peek_size (const guint8 *data, gsize available, GError **error);

/*
 * Parses and checks a whole header.  `size` is what vma_header_peek_size() said.  The result is the
 * caller's; data are copied.  NULL and VMA_ERROR_HEADER with the byte offset of what is wrong.
 */
VmaHeader *vma_header_parse (const guint8 *data, gsize size, GError **error);

void vma_header_free (VmaHeader *header);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaHeader, vma_header_free)

/* Clusters needed for `size` bytes: rounds up.  Pure; size <= VMA_MAX_DEVICE_SIZE. */
static inline guint64
vma_clusters_for_size (guint64 size)
{
  return size / VMA_CLUSTER_SIZE + (size % VMA_CLUSTER_SIZE != 0);
}
