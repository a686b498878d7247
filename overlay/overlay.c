/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/overlay.h"

#include "base/io.h"
#include "index/lock.h"
#include "overlay/overlay-impl.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Reads the bitmap of a disk, of which most is a hole. */
static gboolean
load_map (VmaOverlay *overlay, VmaOverlayDisk *disk, const VmaOverlayPlace *place, GError **error)
{
  guint8 bits[VMA_BLOCK_MAP_PAGE];
  guint64 end = place->map_offset + place->map_size;

  for (guint64 at = place->map_offset; at < end; at += sizeof bits) {
    off_t data = lseek (overlay->fd, (off_t)at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
      break;
    if (data > 0) /* else it has no notion of holes */
      at = (guint64)data / sizeof bits * sizeof bits;
    if (at >= end)
      break;
    if (!vma_scratch_read (overlay->fd, bits, sizeof bits, at, error))
      return FALSE;
    vma_block_map_load (disk->map, (at - place->map_offset) / sizeof bits, bits);
  }
  return TRUE;
}

static gboolean
open_disk (VmaOverlay *overlay, VmaArchive *archive, guint i, GError **error)
{
  const VmaOverlayPlace *place = &overlay->layout.places[i];
  VmaOverlayDisk *disk = &overlay->disks[i];

  disk->overlay = overlay;
  disk->image = vma_archive_image (archive, place->device);
  disk->size = place->size;
  disk->blocks = place->size / VMA_BLOCK_SIZE + (place->size % VMA_BLOCK_SIZE != 0);
  disk->fd = overlay->fd;
  disk->data_offset = place->data_offset;
  pthread_mutex_init (&disk->hidden_lock, NULL);
  for (guint j = 0; j < VMA_OVERLAY_LOCKS; j++)
    pthread_mutex_init (&disk->locks[j], NULL);
  overlay->n_disks++;
  disk->map = vma_block_map_new (disk->blocks, error);
  return disk->map != NULL && (overlay->file == NULL || load_map (overlay, disk, place, error));
}

/* A delta's content is that of its bases, too. */
static gboolean
add_identity (VmaArchive *base, VmaSourceIdentity *identity, GError **error)
{
  guint8 bytes[16 + 8 + 16 + 16];
  VmaSourceIdentity below;

  for (; base != NULL; base = vma_archive_base (base)) {
    if (!vma_source_identity (vma_archive_source (base), &below, error))
      return FALSE;
    memcpy (bytes, identity->head, 16);
    vma_put_le64 (bytes + 16, below.size);
    memcpy (bytes + 24, below.head, 16);
    memcpy (bytes + 40, below.tail, 16);
    vma_put_le64 (identity->head, XXH3_64bits_withSeed (bytes, sizeof bytes, 0));
    vma_put_le64 (identity->head + 8, XXH3_64bits_withSeed (bytes, sizeof bytes, 1));
  }
  return TRUE;
}

static gboolean
open_scratch (VmaOverlay *overlay, const VmaOverlayPrepared *prepared, VmaArchive *archive,
              GError **error)
{
  g_autofree guint8 *header = g_malloc (VMA_OVERLAY_HEADER_SIZE);
  VmaSourceIdentity identity;

  if (overlay->file == NULL)
    overlay->fd = vma_scratch_open_temporary (prepared->fd, &overlay->layout, error);
  else if (vma_source_identity (vma_archive_source (archive), &identity, error)
           && add_identity (vma_archive_base (archive), &identity, error)) {
    vma_overlay_header (&overlay->layout, vma_archive_header (archive), &identity, header);
    overlay->fd
        = vma_scratch_open (overlay->file, prepared, &overlay->layout, header, &overlay->created,
                            error);
  } else if (prepared->fd >= 0)
    close (prepared->fd);
  return overlay->fd >= 0;
}

VmaOverlay *
vma_overlay_open (const char *file, VmaArchive *archive, GError **error)
{
  return vma_overlay_open_prepared (file, &(const VmaOverlayPrepared){ .fd = -1 }, archive, error);
}

VmaOverlay *
vma_overlay_open_prepared (const char *file, const VmaOverlayPrepared *prepared,
                           VmaArchive *archive, GError **error)
{
  g_autoptr (VmaOverlay) overlay = g_new0 (VmaOverlay, 1);

  overlay->fd = -1;
  overlay->file = file != NULL ? g_canonicalize_filename (file, NULL) : NULL;
  pthread_mutex_init (&overlay->lock, NULL);
  pthread_cond_init (&overlay->synced, NULL);
  vma_overlay_layout (&overlay->layout, vma_archive_header (archive));
  overlay->disks = g_new0 (VmaOverlayDisk, overlay->layout.n);
  if (!open_scratch (overlay, prepared, archive, error))
    return NULL;
  for (guint i = 0; i < overlay->layout.n; i++)
    if (!open_disk (overlay, archive, i, error)) {
      if (overlay->file != NULL)
        g_prefix_error (error, "%s: ", overlay->file);
      return NULL;
    }
  return g_steal_pointer (&overlay);
}

static void
stop_flusher (VmaOverlay *overlay)
{
  if (overlay->flusher != NULL)
    vma_flusher_free (g_steal_pointer (&overlay->flusher), TRUE);
}

void
vma_overlay_free (VmaOverlay *overlay)
{
  stop_flusher (overlay);
  for (guint i = 0; i < overlay->n_disks; i++) {
    VmaOverlayDisk *disk = &overlay->disks[i];
    for (guint j = 0; j < VMA_OVERLAY_LOCKS; j++)
      pthread_mutex_destroy (&disk->locks[j]);
    pthread_mutex_destroy (&disk->hidden_lock);
    g_clear_pointer (&disk->map, vma_block_map_free);
  }
  if (overlay->created)
    unlink (overlay->file);
  if (overlay->fd >= 0)
    close (overlay->fd);
  g_clear_error (&overlay->failure);
  pthread_cond_destroy (&overlay->synced);
  pthread_mutex_destroy (&overlay->lock);
  g_free (overlay->disks);
  g_free (overlay->file);
  g_free (overlay);
}

void
vma_overlay_keep (VmaOverlay *overlay)
{
  overlay->created = FALSE;
}

VmaOverlayDisk *
vma_overlay_disk (VmaOverlay *overlay, guint8 device)
{
  for (guint i = 0; i < overlay->n_disks; i++)
    if (overlay->layout.places[i].device == device)
      return &overlay->disks[i];
  return NULL;
}

/* --- sync ------------------------------------------------------------------------------------- */

/* A page of a bitmap, as it is to be written. */
typedef struct {
  guint64 offset; /* in the file */
  guint8 bits[VMA_BLOCK_MAP_PAGE];
} ChangedPage;

/* So many pages, of 128 MiB of disk each, are saved at a time. */
#define BATCH 256

static gboolean
flush_data (VmaOverlay *overlay, GError **error)
{
  if (fdatasync (overlay->fd) == 0)
    return TRUE;
  vma_scratch_set_error (error, errno, "cannot write the scratch file to its medium");
  return FALSE;
}

static gboolean
write_pages (VmaOverlay *overlay, const ChangedPage *pages, guint n, GError **error)
{
  for (guint i = 0; i < n; i++) {
    if (!vma_io_pwrite_all (overlay->fd, pages[i].bits, sizeof pages[i].bits, pages[i].offset)) {
      vma_scratch_set_error (error, errno, "cannot write the map");
      return FALSE;
    }
  }
  return TRUE;
}

/* Copies up to BATCH changed pages, of disk `*disk` from `*page` on. */
static guint
take_pages (VmaOverlay *overlay, guint *disk, guint64 *page, ChangedPage *pages)
{
  guint n = 0;

  while (n < BATCH && *disk < overlay->n_disks)
    if (vma_block_map_take_changed (overlay->disks[*disk].map, page, pages[n].bits)) {
      pages[n++].offset = overlay->layout.places[*disk].map_offset + *page * VMA_BLOCK_MAP_PAGE;
      ++*page;
    } else {
      ++*disk;
      *page = 0;
    }
  return n;
}

/*
 * Data first, then the bits of those data: the bits are copied before the data are flushed, so that
 * what is set in the copy was written before.
 */
static gboolean
sync_all (VmaOverlay *overlay, GError **error)
{
  g_autofree ChangedPage *pages = NULL;
  guint disk = 0, n;
  guint64 page = 0;
  gboolean wrote = FALSE;

  if (overlay->file == NULL) /* has no map in the file: nobody will read it again */
    return flush_data (overlay, error);
  pages = g_new (ChangedPage, BATCH);
  do {
    n = take_pages (overlay, &disk, &page, pages);
    if ((n > 0 || !wrote)
        && (!flush_data (overlay, error) || !write_pages (overlay, pages, n, error)))
      return FALSE;
    wrote |= n > 0;
  } while (n == BATCH);
  return !wrote || flush_data (overlay, error);
}

/* One thread syncs for all who came before it began.  The caller holds the lock, which is let go.
 */
static void
run_sync (VmaOverlay *overlay)
{
  g_autoptr (GError) failure = NULL;

  overlay->syncing = TRUE;
  guint64 number = ++overlay->started;
  pthread_mutex_unlock (&overlay->lock);
  sync_all (overlay, &failure);
  pthread_mutex_lock (&overlay->lock);
  overlay->finished = number;
  overlay->syncing = FALSE;
  if (failure != NULL && overlay->failure == NULL)
    overlay->failure = g_steal_pointer (&failure);
  pthread_cond_broadcast (&overlay->synced);
}

gboolean
vma_overlay_sync (VmaOverlay *overlay, GError **error)
{
  VMA_LOCK (&overlay->lock);
  guint64 wanted = overlay->started + 1;

  while (overlay->finished < wanted && overlay->failure == NULL)
    if (overlay->syncing)
      pthread_cond_wait (&overlay->synced, &overlay->lock);
    else
      run_sync (overlay);
  if (overlay->failure == NULL)
    return TRUE;
  g_propagate_error (error, g_error_copy (overlay->failure));
  return FALSE;
}

gboolean
vma_overlay_close (VmaOverlay *overlay, GError **error)
{
  stop_flusher (overlay);
  return overlay->file == NULL || vma_overlay_sync (overlay, error);
}

void
vma_overlay_get_usage (VmaOverlay *overlay, VmaOverlayUsage *usage)
{
  struct stat st;

  *usage = (VmaOverlayUsage){ .file = overlay->file };
  for (guint i = 0; i < overlay->n_disks; i++) {
    usage->blocks += vma_block_map_count (overlay->disks[i].map);
    usage->written += atomic_load_explicit (&overlay->disks[i].written, memory_order_relaxed);
  }
  if (fstat (overlay->fd, &st) == 0)
    usage->allocated = (guint64)st.st_blocks * 512;
  VMA_LOCK (&overlay->lock);
  usage->syncs = overlay->finished;
  usage->failed = overlay->failure != NULL;
}
