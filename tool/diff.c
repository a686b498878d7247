/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool diff: which clusters of which disks differ between two archives.
 *
 * Disks are matched by name.  What is zero in both is not read.
 */
#include "base/json-put.h"
#include "image/image.h"
#include "tool/command.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/size.h"
#include "vma/error.h"

#include <stdio.h>
#include <string.h>

/* As diff(1) has it. */
enum { SAME = 0, DIFFERENT = 1, TROUBLE = 2 };

#define STEP (16u * VMA_CLUSTER_SIZE)

typedef struct {
  guint64 start, end; /* bytes of the disk, in whole clusters but for the disk's end */
} Range;

typedef struct {
  VmaArchive *a, *b;
  guint8 *buffer_a, *buffer_b; /* STEP bytes */
  gboolean as_json;
  JsonBuilder *json;
  gboolean different;
} Diff;

/* The ranges that differ in one pair of disks, merged as they come. */
static void
add_range (GArray *ranges, guint64 start, guint64 end)
{
  if (ranges->len > 0) {
    Range *last = &g_array_index (ranges, Range, ranges->len - 1);
    if (last->end == start) {
      last->end = end;
      return;
    }
  }
  Range range = { start, end };
  g_array_append_val (ranges, range);
}

/* Compares bytes [start, start + size), at most STEP of them, of both disks, cluster by cluster. */
static gboolean
compare_step (Diff *diff, VmaImage *a, VmaImage *b, guint64 start, gsize size, GArray *ranges,
              GError **error)
{
  if (vma_image_pread (a, diff->buffer_a, size, start, tool_cancellable (), error) < 0
      || vma_image_pread (b, diff->buffer_b, size, start, tool_cancellable (), error) < 0)
    return FALSE;
  if (memcmp (diff->buffer_a, diff->buffer_b, size) == 0)
    return TRUE;
  for (gsize at = 0; at < size; at += VMA_CLUSTER_SIZE) {
    gsize n = MIN (VMA_CLUSTER_SIZE, size - at);
    if (memcmp (diff->buffer_a + at, diff->buffer_b + at, n) != 0)
      add_range (ranges, start + at, start + at + n);
  }
  return TRUE;
}

/* How far from `offset` on (a cluster's start) whole clusters are zero in both; `offset` where they are not. */
static gboolean
skip_zeros (VmaImage *a, VmaImage *b, guint64 offset, guint64 size, guint64 *to, GError **error)
{
  guint64 end_a, end_b;

  if (!vma_image_next_data (a, offset, &end_a, tool_cancellable (), error)
      || !vma_image_next_data (b, offset, &end_b, tool_cancellable (), error))
    return FALSE;
  guint64 end = MIN (end_a, end_b);
  *to = end >= size ? size : end - end % VMA_CLUSTER_SIZE;
  *to = MAX (*to, offset);
  return TRUE;
}

/* The part that both disks have; what one of them has more counts as different. */
static GArray *
compare_disks (Diff *diff, VmaImage *a, VmaImage *b, guint64 size_a, guint64 size_b, GError **error)
{
  g_autoptr (GArray) ranges = g_array_new (FALSE, FALSE, sizeof (Range));
  guint64 size = MIN (size_a, size_b), at = 0;

  while (at < size) {
    guint64 data;
    if (!skip_zeros (a, b, at, size, &data, error))
      return NULL;
    tool_progress_add (data - at);
    at = data;
    gsize n = (gsize) MIN (STEP, size - at);
    if (n > 0 && !compare_step (diff, a, b, at, n, ranges, error))
      return NULL;
    tool_progress_add (n);
    at += n;
  }
  if (size_a != size_b)
    add_range (ranges, size, MAX (size_a, size_b));
  return g_steal_pointer (&ranges);
}

static void
print_ranges (Diff *diff, const char *name, guint64 size_a, guint64 size_b, const GArray *ranges)
{
  guint64 bytes = 0;

  for (guint i = 0; i < ranges->len; i++) {
    const Range *range = &g_array_index (ranges, Range, i);
    bytes += range->end - range->start;
  }
  diff->different |= ranges->len > 0;
  if (!diff->as_json) {
    g_autofree char *amount = tool_format_size (bytes);
    if (ranges->len > 0)
      printf ("%s: %s (%.2f %%) differ in %u ranges\n", name, amount,
              tool_percent (bytes, MAX (size_a, size_b)), ranges->len);
    if (size_a != size_b)
      printf ("%s: sizes differ: %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " bytes\n", name,
              size_a, size_b);
    for (guint i = 0; i < ranges->len; i++) {
      const Range *range = &g_array_index (ranges, Range, i);
      printf ("  %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT "\n", range->start, range->end);
    }
    return;
  }
  if (ranges->len == 0)
    return;
  json_builder_begin_object (diff->json);
  vma_json_put_string (diff->json, "disk", name);
  vma_json_put_int (diff->json, "size-a", size_a);
  vma_json_put_int (diff->json, "size-b", size_b);
  vma_json_put_int (diff->json, "different-bytes", bytes);
  vma_json_put_array (diff->json, "ranges");
  for (guint i = 0; i < ranges->len; i++) {
    const Range *range = &g_array_index (ranges, Range, i);
    json_builder_begin_object (diff->json);
    vma_json_put_int (diff->json, "start", range->start);
    vma_json_put_int (diff->json, "length", range->end - range->start);
    json_builder_end_object (diff->json);
  }
  json_builder_end_array (diff->json);
  json_builder_end_object (diff->json);
}

/* A disk or config that only one archive has. */
static void
print_only (Diff *diff, const char *kind, const char *name, VmaArchive *where)
{
  g_autofree char *shown = vma_name_escape (name);

  diff->different = TRUE;
  if (!diff->as_json) {
    printf ("%s %s: only in %s\n", kind, shown, vma_archive_path (where));
    return;
  }
  json_builder_begin_object (diff->json);
  vma_json_put_string (diff->json, kind, shown);
  vma_json_put_string (diff->json, "only-in", where == diff->a ? "a" : "b");
  json_builder_end_object (diff->json);
}

static const VmaDevice *
find_device (VmaArchive *archive, const char *name)
{
  const GPtrArray *devices = vma_archive_header (archive)->devices;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    if (strcmp (device->name, name) == 0)
      return device;
  }
  return NULL;
}

static const VmaConfig *
find_config (VmaArchive *archive, const char *name)
{
  const GPtrArray *configs = vma_archive_header (archive)->configs;

  for (guint i = 0; i < configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs, i);
    if (strcmp (config->name, name) == 0)
      return config;
  }
  return NULL;
}

static gboolean
diff_disk (Diff *diff, const VmaDevice *in_a, const VmaDevice *in_b, GError **error)
{
  VmaImage *a = vma_archive_image (diff->a, in_a->id), *b = vma_archive_image (diff->b, in_b->id);
  guint64 size_a, size_b;

  if (!vma_image_size (a, &size_a, tool_cancellable (), error)
      || !vma_image_size (b, &size_b, tool_cancellable (), error))
    return FALSE;
  g_autoptr (GArray) ranges = compare_disks (diff, a, b, size_a, size_b, error);
  if (ranges == NULL)
    return FALSE;
  g_autofree char *name = vma_name_escape (in_a->name);
  tool_progress_erase ();
  print_ranges (diff, name, size_a, size_b, ranges);
  return TRUE;
}

static gboolean
diff_disks (Diff *diff, GError **error)
{
  const GPtrArray *devices_a = vma_archive_header (diff->a)->devices;
  const GPtrArray *devices_b = vma_archive_header (diff->b)->devices;
  guint64 total = 0;

  for (guint i = 0; i < devices_a->len; i++)
    total += ((const VmaDevice *) g_ptr_array_index (devices_a, i))->size;
  tool_progress_start ("comparing", total);
  for (guint i = 0; i < devices_a->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices_a, i);
    const VmaDevice *other = find_device (diff->b, device->name);

    if (other == NULL)
      print_only (diff, "disk", device->name, diff->a);
    else if (!diff_disk (diff, device, other, error))
      return FALSE;
  }
  tool_progress_end ();
  for (guint i = 0; i < devices_b->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices_b, i);
    if (find_device (diff->a, device->name) == NULL)
      print_only (diff, "disk", device->name, diff->b);
  }
  return TRUE;
}

static void
diff_configs (Diff *diff)
{
  const GPtrArray *configs_a = vma_archive_header (diff->a)->configs;
  const GPtrArray *configs_b = vma_archive_header (diff->b)->configs;

  for (guint i = 0; i < configs_a->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs_a, i);
    const VmaConfig *other = find_config (diff->b, config->name);

    if (other == NULL)
      print_only (diff, "config", config->name, diff->a);
    else if (!g_bytes_equal (config->data, other->data)) {
      g_autofree char *name = vma_name_escape (config->name);
      diff->different = TRUE;
      if (!diff->as_json)
        printf ("config %s: differs\n", name);
      else {
        json_builder_begin_object (diff->json);
        vma_json_put_string (diff->json, "config", name);
        json_builder_end_object (diff->json);
      }
    }
  }
  for (guint i = 0; i < configs_b->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs_b, i);
    if (find_config (diff->a, config->name) == NULL)
      print_only (diff, "config", config->name, diff->b);
  }
}

static VmaArchive *
open_indexed (const char *path, const char *cache, GError **error)
{
  g_autoptr (VmaArchive) archive = tool_open (path, cache, FALSE, error);

  if (archive == NULL)
    return NULL;
  if (vma_source_is_sequential (vma_archive_source (archive))) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: needs a file, not a pipe", path);
    return NULL;
  }
  return tool_index_archive (archive, error) ? g_steal_pointer (&archive) : NULL;
}

static int
run (const char *path_a, const char *path_b, const char *cache_option, gboolean as_json)
{
  g_autofree char *cache = tool_cache_dir (cache_option);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) a = open_indexed (path_a, cache, &error);
  g_autoptr (VmaArchive) b = a != NULL ? open_indexed (path_b, cache, &error) : NULL;
  g_autofree guint8 *buffers = g_malloc (2 * STEP);
  g_autoptr (JsonBuilder) json = json_builder_new ();
  Diff diff = {
    .a = a,
    .b = b,
    .buffer_a = buffers,
    .buffer_b = buffers + STEP,
    .as_json = as_json,
    .json = json,
  };
  int failed;

  json_builder_begin_object (json);
  vma_json_put_array (json, "differences");
  if (b == NULL || !diff_disks (&diff, &error)) {
    tool_progress_end ();
    failed = tool_fail (error, TOOL_ADVICE_LIST);
    return failed == TOOL_FAILED ? TROUBLE : failed;
  }
  diff_configs (&diff);
  json_builder_end_array (json);
  vma_json_put_bool (json, "same", !diff.different);
  json_builder_end_object (json);
  if (as_json)
    vma_json_print (json);
  return diff.different ? DIFFERENT : SAME;
}

int
tool_diff (int argc, char **argv)
{
  g_autofree char *cache = NULL;
  gboolean as_json = FALSE;
  const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "Print the result as JSON", NULL },
    TOOL_INDEX_CACHE_OPTION (&cache),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE ARCHIVE",
    .about = "Shows which ranges of which disks differ between two archives, in whole clusters of\n"
             "64 KiB, and which disks and configs only one of them has.  Disks are matched by name.\n"
             "Exit status: 0 the same, 1 different, 2 trouble.",
    .entries = entries, .min = 2, .max = 2,
  };
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  tool_interrupt_start ();
  return run (arguments[0], arguments[1], cache, as_json);
}
