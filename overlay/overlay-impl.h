/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What overlay.c, disk.c and scratch.c share.  For this folder only. */
#pragma once

#include "overlay/block-map.h"
#include "overlay/disk.h"
#include "overlay/format.h"

#include <pthread.h>
#include <stdatomic.h>

/* Locks for the first write of a block: a lock is for each VMA_OVERLAY_REGION bytes, modulo. */
#define VMA_OVERLAY_LOCKS 64u
#define VMA_OVERLAY_REGION (1024u * 1024u)

typedef struct VmaFlusher VmaFlusher;

struct VmaOverlayDisk {
  VmaOverlay *overlay;
  VmaImage *image;
  guint64 size;
  guint64 blocks;
  int fd;              /* the overlay's */
  guint64 data_offset; /* of the disk's first byte in the scratch file */
  VmaBlockMap *map;
  pthread_mutex_t locks[VMA_OVERLAY_LOCKS];
  _Atomic gint64 mtime;
  _Atomic guint64 written;

  pthread_mutex_t hidden_lock; /* of what follows */
  guint64 hidden;              /* blocks stored in the archive that nobody sees any more */
  guint64 hidden_at;           /* ... when so many were in the map */
};

struct VmaOverlay {
  char *file; /* NULL: temporary */
  int fd;
  gboolean created; /* and not to be kept, so far */
  guint n_disks;
  VmaOverlayDisk *disks;
  VmaOverlayLayout layout;
  _Atomic guint64 changes; /* writes so far */
  VmaFlusher *flusher;     /* NULL: none */

  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t synced;
  gboolean syncing;
  guint64 started, finished; /* syncs */
  GError *failure;           /* of the first that failed */
};

/* A nameless file in $TMPDIR or /var/tmp, or `prepared` if that is one.  -1 and an error. */
int vma_scratch_open_temporary (int prepared, const VmaOverlayLayout *layout, GError **error);

/*
 * Opens `file` and locks it, or makes it with this header.  Waits a little for one that is still
 * in use.  -1 and an error that names the file.  *created: it is a new one.  What was prepared may
 * become it, and is taken.
 */
int vma_scratch_open (const char *file, const VmaOverlayPrepared *prepared,
                      const VmaOverlayLayout *layout,
                      const guint8 header[VMA_OVERLAY_HEADER_SIZE], gboolean *created,
                      GError **error);

/* Stops the thread, if it is `running`. */
void vma_flusher_free (VmaFlusher *flusher, gboolean running);

/* The whole of it, or an error; VMA_ERROR_NO_SPACE where it is for want of space. */
gboolean vma_scratch_read (int fd, void *buffer, gsize size, guint64 offset, GError **error);
void vma_scratch_set_error (GError **error, int errnum, const char *what);
