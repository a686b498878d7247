/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/disk.h"

#include "index/lock.h"
#include "overlay/overlay-impl.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The run of blocks at `offset` that are, or are not, in the scratch file; `*end` in bytes of disk.
 */
static gboolean
run_at (VmaOverlayDisk *disk, guint64 offset, guint64 limit, guint64 *end)
{
  guint64 block = offset / VMA_BLOCK_SIZE, last = (limit - 1) / VMA_BLOCK_SIZE;
  gboolean own = vma_block_map_run (disk->map, block, last + 1, end);

  *end = MIN (*end * VMA_BLOCK_SIZE, limit);
  return own;
}

static gboolean
is_own (VmaOverlayDisk *disk, guint64 start, guint64 stop)
{
  guint64 end;

  return run_at (disk, start, stop, &end) && end == stop;
}

/* Bytes that are inside the disk. */
static guint64
inside (VmaOverlayDisk *disk, guint64 offset, guint64 size)
{
  return offset < disk->size ? MIN (size, disk->size - offset) : 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

static gboolean
read_below (VmaOverlayDisk *disk, guint8 *buffer, gsize size, guint64 offset,
            GCancellable *cancellable, GError **error)
{
  gssize n = vma_image_pread (disk->image, buffer, size, offset, cancellable, error);

  if (n >= 0 && (gsize)n < size)
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "overlay: the image below ends early");
  return n == (gssize)size;
}

gssize
vma_overlay_pread (VmaOverlayDisk *disk, void *buffer, gsize size, guint64 offset,
                   GCancellable *cancellable, GError **error)
{
  guint64 stop = offset + inside (disk, offset, size), end;

  for (guint64 at = offset; at < stop; at = end) {
    guint8 *to = (guint8 *)buffer + (at - offset);
    gboolean own = run_at (disk, at, stop, &end);
    gsize n = (gsize)(end - at);

    if (!(own ? vma_scratch_read (disk->fd, to, n, disk->data_offset + at, error)
              : read_below (disk, to, n, at, cancellable, error)))
      return -1;
  }
  return (gssize)(stop - offset);
}

/* --- locks ------------------------------------------------------------------------------------ */

/* The locks of a range, a bit each.  Taken in ascending order. */
static guint64
lock_range (VmaOverlayDisk *disk, guint64 start, guint64 stop)
{
  guint64 first = start / VMA_OVERLAY_REGION, last = (stop - 1) / VMA_OVERLAY_REGION;
  guint64 mask = 0;

  for (guint64 region = first; region <= last && region < first + VMA_OVERLAY_LOCKS; region++)
    mask |= G_GUINT64_CONSTANT (1) << (region % VMA_OVERLAY_LOCKS);
  for (guint i = 0; i < VMA_OVERLAY_LOCKS; i++)
    if ((mask >> i & 1) != 0)
      pthread_mutex_lock (&disk->locks[i]);
  return mask;
}

static void
unlock_range (VmaOverlayDisk *disk, guint64 mask)
{
  for (guint i = 0; i < VMA_OVERLAY_LOCKS; i++)
    if ((mask >> i & 1) != 0)
      pthread_mutex_unlock (&disk->locks[i]);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Writes all of iov[0..n), which it uses up; returns how much it was, and the error of the rest. */
static guint64
write_all (VmaOverlayDisk *disk, struct iovec *iov, int n, guint64 offset, GError **error)
{
  guint64 done = 0;

  for (int i = 0; i < n;) {
    if (iov[i].iov_len == 0) {
      i++;
      continue;
    }
    gssize step = pwritev (disk->fd, iov + i, n - i, (off_t)(disk->data_offset + offset + done));
    if (step < 0 && errno == EINTR)
      continue;
    if (step <= 0) {
      vma_scratch_set_error (error, step < 0 ? errno : ENOSPC, "cannot write the scratch file");
      break;
    }
    done += (guint64)step;
    for (gsize left = (gsize)step; left > 0;) {
      /* No more was written than there is.
       * NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
      gsize used = MIN (left, iov[i].iov_len);
      iov[i].iov_base = (guint8 *)iov[i].iov_base + used;
      iov[i].iov_len -= used;
      left -= used;
      i += left > 0;
    }
  }
  return done;
}

/* The bytes between a write and the edge of a block that is not there yet; they come from below. */
typedef struct {
  guint8 bytes[VMA_BLOCK_SIZE];
  guint64 start;
  gsize size;
} Padding;

static gboolean
read_padding (VmaOverlayDisk *disk, Padding *padding, guint64 start, guint64 stop,
              GCancellable *cancellable, GError **error)
{
  padding->start = start;
  padding->size = (gsize)(stop - start);
  return stop == start
         || read_below (disk, padding->bytes, padding->size, start, cancellable, error);
}

/* Where the paddings of a write to [start, stop) must begin and end: at edges of blocks. */
static guint64
padded_start (VmaOverlayDisk *disk, guint64 start)
{
  guint64 edge = start / VMA_BLOCK_SIZE * VMA_BLOCK_SIZE;

  return edge == start || is_own (disk, edge, edge + 1) ? start : edge;
}

static guint64
padded_stop (VmaOverlayDisk *disk, guint64 stop)
{
  guint64 edge = stop / VMA_BLOCK_SIZE * VMA_BLOCK_SIZE;

  return edge == stop || stop == disk->size || is_own (disk, edge, edge + 1)
             ? stop
             : MIN (edge + VMA_BLOCK_SIZE, disk->size);
}

/* Writes where some blocks are not there yet.  The caller holds the locks.  Bytes written. */
static guint64
write_first (VmaOverlayDisk *disk, const guint8 *buffer, guint64 start, guint64 stop,
             GCancellable *cancellable, GError **error)
{
  Padding head, tail;
  guint64 from = padded_start (disk, start), to = padded_stop (disk, stop);

  if (!read_padding (disk, &head, from, start, cancellable, error)
      || !read_padding (disk, &tail, stop, to, cancellable, error))
    return 0;
  struct iovec iov[] = {
    { .iov_base = head.bytes, .iov_len = head.size },
    { .iov_base = (guint8 *)buffer, .iov_len = (gsize)(stop - start) },
    { .iov_base = tail.bytes, .iov_len = tail.size },
  };
  guint64 end = from + write_all (disk, iov, G_N_ELEMENTS (iov), from, error);

  if (end < to) /* a block that was not there may have come in part: it does not count */
    end = MAX (from, end / VMA_BLOCK_SIZE * VMA_BLOCK_SIZE);
  if (end > from)
    vma_block_map_set (disk->map, from / VMA_BLOCK_SIZE, (end - 1) / VMA_BLOCK_SIZE + 1);
  end = MIN (end, stop);
  return end > start ? end - start : 0;
}

static void
note_change (VmaOverlayDisk *disk, guint64 written)
{
  atomic_store_explicit (&disk->mtime, g_get_real_time () / G_USEC_PER_SEC, memory_order_relaxed);
  atomic_fetch_add_explicit (&disk->written, written, memory_order_relaxed);
  atomic_fetch_add_explicit (&disk->overlay->changes, 1, memory_order_relaxed);
}

gssize
vma_overlay_pwrite (VmaOverlayDisk *disk, const void *buffer, gsize size, guint64 offset,
                    GCancellable *cancellable, GError **error)
{
  guint64 stop = offset + inside (disk, offset, size), done;
  g_autoptr (GError) failure = NULL;

  if (size == 0)
    return 0;
  if (stop == offset) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "overlay: behind the end of the disk");
    return -1;
  }
  if (is_own (disk, offset, stop)) {
    /* All there: nobody is filling these blocks up from below, and nobody ever will again. */
    struct iovec iov = { .iov_base = (void *)buffer, .iov_len = (gsize)(stop - offset) };
    done = write_all (disk, &iov, 1, offset, &failure);
  } else {
    guint64 locks = lock_range (disk, offset, stop);
    done = write_first (disk, buffer, offset, stop, cancellable, &failure);
    unlock_range (disk, locks);
  }
  if (done > 0) {
    note_change (disk, done);
    return (gssize)done;
  }
  g_propagate_error (error, g_steal_pointer (&failure));
  return -1;
}

/* --- zeros ------------------------------------------------------------------------------------ */

static gboolean
write_zeros (VmaOverlayDisk *disk, guint64 start, guint64 stop, GCancellable *cancellable,
             GError **error)
{
  static const guint8 zeros[VMA_BLOCK_SIZE];

  while (start < stop) {
    gsize n = (gsize)MIN (stop - start, sizeof zeros);
    gssize done = vma_overlay_pwrite (disk, zeros, n, start, cancellable, error);
    if (done < 0)
      return FALSE;
    start += (guint64)done;
  }
  return TRUE;
}

/* Whole blocks, or up to the end of the disk. */
static gboolean
punch (VmaOverlayDisk *disk, guint64 start, guint64 stop, GError **error)
{
  guint64 end_block = (stop - 1) / VMA_BLOCK_SIZE + 1;
  guint64 locks = lock_range (disk, start, stop);
  int failed
      = fallocate (disk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   (off_t)(disk->data_offset + start), (off_t)(end_block * VMA_BLOCK_SIZE - start));
  int reason = errno;

  if (failed == 0)
    vma_block_map_set (disk->map, start / VMA_BLOCK_SIZE, end_block);
  unlock_range (disk, locks);
  if (failed == 0)
    note_change (disk, 0);
  else if (reason == EOPNOTSUPP || reason == ENOSYS)
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "overlay: the file system of the scratch file cannot make holes");
  else
    vma_scratch_set_error (error, reason, "cannot make a hole in the scratch file");
  return failed == 0;
}

gboolean
vma_overlay_zero (VmaOverlayDisk *disk, guint64 offset, guint64 size, GCancellable *cancellable,
                  GError **error)
{
  guint64 stop = offset + inside (disk, offset, size);
  guint64 first = (offset + VMA_BLOCK_SIZE - 1) / VMA_BLOCK_SIZE * VMA_BLOCK_SIZE;
  guint64 last = stop == disk->size ? stop : stop / VMA_BLOCK_SIZE * VMA_BLOCK_SIZE;

  if (stop == offset)
    return TRUE;
  if (first >= last)
    return write_zeros (disk, offset, stop, cancellable, error);
  return write_zeros (disk, offset, first, cancellable, error) && punch (disk, first, last, error)
         && write_zeros (disk, last, stop, cancellable, error);
}

/* --- waiting ---------------------------------------------------------------------------------- */

gboolean
vma_overlay_is_ready_to_read (VmaOverlayDisk *disk, guint64 offset, gsize size)
{
  guint64 stop = offset + inside (disk, offset, size), end;

  for (guint64 at = offset; at < stop; at = end)
    if (!run_at (disk, at, stop, &end) && !vma_image_is_ready (disk->image, at, (gsize)(end - at)))
      return FALSE;
  return TRUE;
}

gboolean
vma_overlay_is_ready_to_write (VmaOverlayDisk *disk, guint64 offset, guint64 size)
{
  guint64 stop = offset + inside (disk, offset, size);

  if (stop == offset)
    return TRUE;
  guint64 from = padded_start (disk, offset), to = padded_stop (disk, stop);
  return (from == offset || vma_image_is_ready (disk->image, from, (gsize)(offset - from)))
         && (to == stop || vma_image_is_ready (disk->image, stop, (gsize)(to - stop)));
}

/* --- what is stored --------------------------------------------------------------------------- */

/* The first byte in [start, stop) of the scratch file that is data, or a hole; `stop` if none. */
static guint64
seek_own (VmaOverlayDisk *disk, gboolean hole, guint64 start, guint64 stop)
{
  off_t at = lseek (disk->fd, (off_t)(disk->data_offset + start), hole ? SEEK_HOLE : SEEK_DATA);

  if (at < 0)
    return !hole && errno == ENXIO ? stop : hole ? stop : start; /* in doubt it is data */
  return MIN ((guint64)at - disk->data_offset, stop);
}

static gboolean
seek_below (VmaOverlayDisk *disk, gboolean hole, guint64 start, guint64 stop, guint64 *found,
            GCancellable *cancellable, GError **error)
{
  VmaSpan span = { .end = start };

  do {
    start = span.end;
    if (start >= stop)
      break;
    if (!vma_image_span (disk->image, start, &span, cancellable, error))
      return FALSE;
  } while ((span.kind == VMA_SPAN_ZERO) != hole);
  *found = MIN (start, stop);
  return TRUE;
}

static gboolean
next_of (VmaOverlayDisk *disk, gboolean hole, guint64 offset, guint64 *found,
         GCancellable *cancellable, GError **error)
{
  guint64 end;

  for (guint64 at = offset; at < disk->size; at = end) {
    if (run_at (disk, at, disk->size, &end))
      *found = seek_own (disk, hole, at, end);
    else if (!seek_below (disk, hole, at, end, found, cancellable, error))
      return FALSE;
    if (*found < end)
      return TRUE;
  }
  *found = disk->size;
  return TRUE;
}

gboolean
vma_overlay_next_data (VmaOverlayDisk *disk, guint64 offset, guint64 *found,
                       GCancellable *cancellable, GError **error)
{
  return next_of (disk, FALSE, offset, found, cancellable, error);
}

gboolean
vma_overlay_next_hole (VmaOverlayDisk *disk, guint64 offset, guint64 *found,
                       GCancellable *cancellable, GError **error)
{
  return next_of (disk, TRUE, offset, found, cancellable, error);
}

/* Blocks of the archive in [start, stop) that are data, or unreadable.  Never waits for the index. */
static guint64
stored_below (VmaOverlayDisk *disk, guint64 start, guint64 stop, GCancellable *cancelled)
{
  guint64 blocks = 0;
  VmaSpan span;

  for (guint64 at = start;
       at < stop && vma_image_span (disk->image, at, &span, cancelled, NULL); at = span.end)
    if (span.kind != VMA_SPAN_ZERO)
      blocks += (MIN (span.end, stop) - at + VMA_BLOCK_SIZE - 1) / VMA_BLOCK_SIZE;
  return blocks;
}

/* Counted again only when blocks have come to the scratch file since. */
static guint64
count_hidden (VmaOverlayDisk *disk)
{
  VMA_LOCK (&disk->hidden_lock);
  guint64 count = vma_block_map_count (disk->map), end;

  if (count == disk->hidden_at)
    return disk->hidden;
  g_autoptr (GCancellable) cancelled = g_cancellable_new ();
  g_cancellable_cancel (cancelled);
  disk->hidden = 0;
  disk->hidden_at = count;
  for (guint64 at = 0; at < disk->size; at = end)
    if (run_at (disk, at, disk->size, &end))
      disk->hidden += stored_below (disk, at, end, cancelled);
  return disk->hidden;
}

guint64
vma_overlay_stored_blocks (VmaOverlayDisk *disk, guint64 below)
{
  VmaOverlayUsage usage;
  guint64 own = vma_block_map_count (disk->map), hidden;

  if (own == 0)
    return below;
  hidden = count_hidden (disk);
  vma_overlay_get_usage (disk->overlay, &usage);
  /* Never 0 where there may be data: that passes for an empty file. */
  own = MIN (own, MAX (1, usage.allocated / VMA_BLOCK_SIZE));
  return (below > hidden ? below - hidden : 0) + own;
}

gint64
vma_overlay_mtime (VmaOverlayDisk *disk)
{
  return atomic_load_explicit (&disk->mtime, memory_order_relaxed);
}
