/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/loss.h"

#include "image/image.h"
#include "tool/interrupt.h"
#include "tool/size.h"

#include <stdio.h>

static void
loss_free (gpointer data)
{
  ToolLoss *loss = data;

  g_array_unref (loss->ranges);
  g_free (loss);
}

static void
add_range (ToolLoss *loss, guint64 start, guint64 end)
{
  loss->lost += end - start;
  if (loss->ranges->len > 0) {
    ToolRange *last = &g_array_index (loss->ranges, ToolRange, loss->ranges->len - 1);
    if (last->end == start) {
      last->end = end;
      return;
    }
  }
  const ToolRange range = { start, end };
  g_array_append_val (loss->ranges, range);
}

/* The first of `ranges` that ends behind `at`. */
static guint
first_behind (const GArray *ranges, guint64 at)
{
  guint low = 0, high = ranges->len;

  while (low < high) {
    guint middle = low + (high - low) / 2;
    if (g_array_index (ranges, ToolRange, middle).end > at)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* What of a span's data stands where the archive cannot be read. */
static void
add_unreadable (ToolLoss *loss, const VmaSpan *span, const GArray *unreadable)
{
  guint64 end = span->source + (span->end - span->start);

  for (guint i = first_behind (unreadable, span->source); i < unreadable->len; i++) {
    const ToolRange *bad = &g_array_index (unreadable, ToolRange, i);
    if (bad->start >= end)
      break;
    guint64 from = MAX (bad->start, span->source), to = MIN (bad->end, end);
    add_range (loss, span->start + (from - span->source), span->start + (to - span->source));
  }
}

static gboolean
walk (VmaImage *image, ToolLoss *loss, const GArray *unreadable, GError **error)
{
  VmaSpan span;

  for (guint64 at = 0; at < loss->size; at = span.end) {
    if (!vma_image_span (image, at, &span, tool_cancellable (), error))
      return FALSE;
    if (span.kind == VMA_SPAN_MISSING)
      add_range (loss, span.start, span.end);
    else if (span.kind == VMA_SPAN_DATA && unreadable != NULL)
      add_unreadable (loss, &span, unreadable);
  }
  return TRUE;
}

GPtrArray *
tool_loss_find (VmaArchive *archive, const GArray *unreadable, GError **error)
{
  const GPtrArray *devices = vma_archive_header (archive)->devices;
  VmaIndex *index = vma_archive_index (archive);
  g_autoptr (GPtrArray) losses = g_ptr_array_new_with_free_func (loss_free);

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    VmaImage *image = vma_archive_image (archive, device->id);
    ToolLoss *loss = g_new0 (ToolLoss, 1);
    VmaDeviceCounts counts;

    loss->device = device;
    loss->ranges = g_array_new (FALSE, FALSE, sizeof (ToolRange));
    g_ptr_array_add (losses, loss);
    if (!vma_image_size (image, &loss->size, tool_cancellable (), error))
      return NULL;
    vma_index_get_device_counts (index, device->id, &counts);
    if ((device->is_vmstate || counts.bad > 0 || vma_index_missing (index, device->id) > 0
         || (unreadable != NULL && unreadable->len > 0))
        && !walk (image, loss, unreadable, error))
      return NULL;
  }
  return g_steal_pointer (&losses);
}

guint
tool_loss_count (const GPtrArray *losses)
{
  guint n = 0;

  for (guint i = 0; i < losses->len; i++)
    n += ((const ToolLoss *) g_ptr_array_index (losses, i))->lost > 0;
  return n;
}

void
tool_loss_print (VmaArchive *archive, const GPtrArray *losses, const GArray *unreadable)
{
  g_autoptr (GPtrArray) damage = vma_index_dup_damage (vma_archive_index (archive));

  for (guint i = 0; i < damage->len; i++) {
    const VmaDamage *place = g_ptr_array_index (damage, i);
    printf ("archive: damaged at %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT ": %s\n", place->start,
            place->end, place->reason);
  }
  for (guint i = 0; i < unreadable->len; i++) {
    const ToolRange *range = &g_array_index (unreadable, ToolRange, i);
    printf ("archive: unreadable at %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT "\n", range->start,
            range->end);
  }
  for (guint i = 0; i < losses->len; i++) {
    const ToolLoss *loss = g_ptr_array_index (losses, i);
    const char *name = vma_names_device (vma_archive_names (archive), loss->device->id);
    printf ("%s: lost %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes (%.3g%%)%s\n", name,
            loss->lost, loss->size, tool_percent (loss->lost, loss->size),
            loss->device->is_vmstate && damage->len > 0 ? ", and perhaps more at its end" : "");
    for (guint k = 0; k < loss->ranges->len; k++) {
      const ToolRange *range = &g_array_index (loss->ranges, ToolRange, k);
      printf ("%s: lost at %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT "\n", name, range->start,
              range->end);
    }
  }
}

static void
json_ranges (JsonBuilder *json, const char *name, const GArray *ranges)
{
  vma_json_put_array (json, name);
  for (guint i = 0; i < ranges->len; i++) {
    const ToolRange *range = &g_array_index (ranges, ToolRange, i);
    json_builder_begin_object (json);
    vma_json_put_int (json, "start", range->start);
    vma_json_put_int (json, "end", range->end);
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
}

void
tool_loss_json (VmaArchive *archive, const GPtrArray *losses, const GArray *unreadable,
                JsonBuilder *json)
{
  g_autoptr (GPtrArray) damage = vma_index_dup_damage (vma_archive_index (archive));

  vma_json_put_array (json, "damage");
  for (guint i = 0; i < damage->len; i++) {
    const VmaDamage *place = g_ptr_array_index (damage, i);
    json_builder_begin_object (json);
    vma_json_put_int (json, "start", place->start);
    vma_json_put_int (json, "end", place->end);
    vma_json_put_string (json, "reason", place->reason);
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
  json_ranges (json, "unreadable", unreadable);

  vma_json_put_array (json, "disks");
  for (guint i = 0; i < losses->len; i++) {
    const ToolLoss *loss = g_ptr_array_index (losses, i);
    json_builder_begin_object (json);
    vma_json_put_string (json, "name", loss->device->name);
    vma_json_put_string (json, "file",
                         vma_names_device (vma_archive_names (archive), loss->device->id));
    vma_json_put_int (json, "size", loss->size);
    vma_json_put_int (json, "lost", loss->lost);
    vma_json_put_double (json, "lost_percent", tool_percent (loss->lost, loss->size));
    json_ranges (json, "ranges", loss->ranges);
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
}
