/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk as it is now, of which only what has changed since a backup is read; the rest comes out of
 * that backup.
 *
 * What has changed, a dirty bitmap of QEMU tells, which the export shows as a metadata context.  It
 * is asked for once, as a whole.
 */
#include "tool/input-changes.h"

#include "source/nbd-client.h"
#include "tool/interrupt.h"
#include "vma/error.h"

#define CONTEXT "qemu:dirty-bitmap:"
#define DIRTY 1u

/* How much is asked about at once; servers may tell of less. */
#define STATUS_SIZE (1024u * 1024u * 1024u)

/* A hostile server must not fill the memory. */
#define MAX_RANGES (16u * 1024u * 1024u)

typedef struct {
  guint64 start, end;
} Range;

typedef struct {
  ToolInput base;
  VmaNbd *nbd;
  VmaImage *below;
  GArray *dirty; /* Range, ascending, not touching */
  guint64 known; /* while they are collected: up to where */
} ChangesInput;

/* --- the bitmap ------------------------------------------------------------------------------- */

static void
take_status (gpointer data, guint64 offset, const guint32 *pairs, gsize n)
{
  ChangesInput *input = data;

  for (gsize i = 0; i < n && offset == input->known && input->dirty->len < MAX_RANGES; i++) {
    Range range = { offset, MIN (offset + pairs[2 * i], input->base.size) };
    Range *last = input->dirty->len > 0
                      ? &g_array_index (input->dirty, Range, input->dirty->len - 1)
                      : NULL;

    if ((pairs[2 * i + 1] & DIRTY) != 0 && last != NULL && last->end == range.start)
      last->end = range.end;
    else if ((pairs[2 * i + 1] & DIRTY) != 0 && range.start < range.end)
      g_array_append_val (input->dirty, range);
    offset = input->known = range.end;
  }
}

static gboolean
read_bitmap (ChangesInput *input, const char *context, GError **error)
{
  while (input->known < input->base.size) {
    guint64 before = input->known, size = MIN (input->base.size - before, STATUS_SIZE);

    if (!vma_nbd_block_status (input->nbd, context, size, before, take_status, input, error))
      return FALSE;
    if (input->known == before || input->dirty->len >= MAX_RANGES) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                   "cannot find out what has changed at offset %" G_GUINT64_FORMAT ": %s", before,
                   input->known == before ? "no answer" : "too many pieces");
      return FALSE;
    }
  }
  return TRUE;
}

/* The first range that ends behind `offset`, or how many there are. */
static guint
find_range (const ChangesInput *input, guint64 offset)
{
  guint low = 0, high = input->dirty->len;

  while (low < high) {
    guint middle = (low + high) / 2;
    if (g_array_index (input->dirty, Range, middle).end > offset)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* Whether what stands at `offset` has changed; *end is up to where the answer holds. */
static gboolean
is_dirty (const ChangesInput *input, guint64 offset, guint64 *end)
{
  guint i = find_range (input, offset);
  const Range *range = i < input->dirty->len ? &g_array_index (input->dirty, Range, i) : NULL;
  gboolean dirty = range != NULL && range->start <= offset;

  *end = range == NULL ? input->base.size : dirty ? range->end : range->start;
  return dirty;
}

/* --- the disk --------------------------------------------------------------------------------- */

static gboolean
changes_read (ToolInput *base, void *buffer, gsize size, guint64 offset, GError **error)
{
  ChangesInput *input = (ChangesInput *) base;

  for (gsize done = 0, n; done < size; done += n) {
    guint64 at = offset + done, end;
    guint8 *to = (guint8 *) buffer + done;
    gboolean dirty = is_dirty (input, at, &end), ok;

    n = (gsize) MIN (size - done, end - at);
    ok = dirty ? vma_nbd_read (input->nbd, to, n, at, tool_cancellable (), error)
               : vma_image_pread (input->below, to, n, at, tool_cancellable (), error) == (gssize) n;
    if (!ok) {
      g_prefix_error (error, "%s: ", base->shown);
      return FALSE;
    }
  }
  return TRUE;
}

static gboolean
changes_next_data (ToolInput *base, guint64 offset, guint64 *start, guint64 *end, GError **error)
{
  ChangesInput *input = (ChangesInput *) base;

  for (guint64 at = offset; at < base->size; at = *end) {
    if (is_dirty (input, at, end)) {
      *start = at;
      return TRUE;
    }
    if (!vma_image_next_data (input->below, at, start, tool_cancellable (), error)) {
      g_prefix_error (error, "%s: ", base->shown);
      return FALSE;
    }
    if (*start < *end)
      return TRUE;
  }
  *start = *end = base->size;
  return TRUE;
}

static void
changes_free (ToolInput *base)
{
  ChangesInput *input = (ChangesInput *) base;

  g_clear_pointer (&input->nbd, vma_nbd_free);
  g_array_unref (input->dirty);
  g_free (input);
}

static const ToolInputOps changes_ops = { changes_read, changes_next_data, changes_free };

/* The disk of this name in the backup. */
static VmaImage *
find_below (VmaArchive *archive, const char *name, GError **error)
{
  const GPtrArray *devices = vma_archive_header (archive)->devices;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    if (!device->is_vmstate && g_strcmp0 (device->name, name) == 0)
      return vma_archive_image (archive, device->id);
  }
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s has no disk of that name",
               vma_archive_path (archive));
  return NULL;
}

static gboolean
open_changes (ChangesInput *input, const char *uri, const char *name, const char *bitmap,
              VmaArchive *archive, guint threads, GError **error)
{
  g_autofree char *context = g_strconcat (CONTEXT, bitmap, NULL);
  const VmaNbdOptions options = { .connections = threads, .context = context };

  input->below = find_below (archive, name, error);
  input->nbd = input->below != NULL ? vma_nbd_connect (uri, &options, error) : NULL;
  if (input->nbd == NULL)
    return FALSE;
  input->base.size = vma_nbd_size (input->nbd);
  guint64 size = vma_image_device (input->below)->size;
  if (size != input->base.size) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "is of %" G_GUINT64_FORMAT " bytes, and in %s it is of %" G_GUINT64_FORMAT
                 " (make a full backup)",
                 input->base.size, vma_archive_path (archive), size);
    return FALSE;
  }
  if (!vma_nbd_has_context (input->nbd, context)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "the server shows no bitmap '%s' with this export (make a full backup)", bitmap);
    return FALSE;
  }
  return read_bitmap (input, context, error);
}

ToolInput *
tool_input_changes (const char *uri, const char *name, const char *bitmap, VmaArchive *archive,
                    guint threads, GError **error)
{
  g_autofree char *display = vma_nbd_display (uri);
  ChangesInput *input = g_new0 (ChangesInput, 1);

  input->base.ops = &changes_ops;
  input->base.format = "nbd";
  input->base.shown = g_strdup_printf ("disk '%s' (%s)", name, display);
  input->dirty = g_array_new (FALSE, FALSE, sizeof (Range));
  if (open_changes (input, uri, name, bitmap, archive, threads, error))
    return &input->base;
  g_prefix_error (error, "%s: ", input->base.shown);
  tool_input_free (&input->base);
  return NULL;
}
