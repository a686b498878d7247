/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool map: where the bytes of a disk stand in the archive, as `qemu-img map` tells of an image.
 *
 * An archive that is damaged has a map too: what cannot be read is missing.
 */
#include "base/json-put.h"
#include "image/find.h"
#include "image/image.h"
#include "tool/command.h"
#include "tool/confine.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "vma/error.h"

#include <stdio.h>
#include <string.h>

typedef struct {
  gboolean as_json;
  gboolean first;    /* no span of this disk was printed yet */
  const char *file;  /* the archive */
  guint64 missing;   /* bytes, of all disks */
} Printer;

static void
print_span (Printer *printer, const VmaSpan *span)
{
  guint64 length = span->end - span->start;

  if (printer->as_json) {
    printf ("%s{ \"start\": %" G_GUINT64_FORMAT ", \"length\": %" G_GUINT64_FORMAT
            ", \"depth\": 0, \"present\": %s, \"zero\": %s, \"data\": %s",
            printer->first ? "" : ",\n", span->start, length,
            span->kind == VMA_SPAN_MISSING ? "false" : "true",
            span->kind == VMA_SPAN_ZERO ? "true" : "false",
            span->kind == VMA_SPAN_DATA ? "true" : "false");
    if (span->kind == VMA_SPAN_DATA)
      printf (", \"offset\": %" G_GUINT64_FORMAT, span->source);
    printf (" }");
  } else if (span->kind == VMA_SPAN_DATA)
    printf ("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER
            "x%s\n",
            span->start, length, span->source, printer->file);
  else if (span->kind == VMA_SPAN_MISSING)
    printf ("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%-16s%s\n", span->start, length,
            "missing", printer->file);
  printer->first = FALSE;
  if (span->kind == VMA_SPAN_MISSING)
    printer->missing += length;
}

/* Whether `next`, which follows `span` on the disk, can be told in one with it. */
static gboolean
belong_together (const VmaSpan *span, const VmaSpan *next)
{
  return span->kind == next->kind
         && (span->kind != VMA_SPAN_DATA || span->source + (span->end - span->start) == next->source);
}

static gboolean
print_disk (Printer *printer, VmaImage *image, GError **error)
{
  VmaSpan span, next;
  guint64 size;

  printer->first = TRUE;
  if (!vma_image_size (image, &size, tool_cancellable (), error))
    return FALSE;
  for (guint64 at = 0; at < size; at = next.end) {
    if (g_cancellable_is_cancelled (tool_cancellable ())) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    if (!vma_image_span (image, at, &next, tool_cancellable (), error))
      return FALSE;
    if (at > 0 && belong_together (&span, &next))
      span.end = next.end;
    else {
      if (at > 0)
        print_span (printer, &span);
      span = next;
    }
  }
  if (size > 0)
    print_span (printer, &span);
  return TRUE;
}

/* One disk, or all of them, each under its name. */
static gboolean
print_map (Printer *printer, VmaArchive *archive, const VmaDevice *only, GError **error)
{
  const GPtrArray *devices = vma_archive_header (archive)->devices;
  guint n = 0;

  if (!printer->as_json)
    printf ("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
  else if (only == NULL)
    printf ("{");
  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    const char *name = vma_names_device (vma_archive_names (archive), device->id);

    if (only != NULL && only != device)
      continue;
    if (printer->as_json && only == NULL) {
      g_autofree char *quoted = vma_json_quote (name);
      printf ("%s%s: ", n > 0 ? ",\n" : "", quoted);
    } else if (!printer->as_json && only == NULL)
      printf ("%s:\n", name);
    if (printer->as_json)
      printf ("[");
    if (!print_disk (printer, vma_archive_image (archive, device->id), error))
      return FALSE;
    if (printer->as_json)
      printf ("]");
    n++;
  }
  if (printer->as_json)
    printf (only == NULL ? "}\n" : "\n");
  return TRUE;
}

static int
map (const char *path, const char *disk, const char *cache_option, gboolean as_json)
{
  g_autofree char *cache = tool_cache_dir (cache_option);
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = tool_open (path, cache, TRUE, &error);
  const VmaDevice *only = NULL;

  if (archive == NULL)
    return tool_fail (error, NULL);
  if (vma_source_is_sequential (vma_archive_source (archive)))
    return tool_usage_error ("map", "needs a file, not a pipe");
  if (disk != NULL) {
    only = vma_archive_find_disk (archive, disk, &error);
    if (only == NULL)
      return tool_fail (error, NULL);
  }
  if (!tool_index_archive (archive, &error))
    return tool_fail (error, NULL);

  Printer printer = { .as_json = as_json, .file = path };
  if (!print_map (&printer, archive, only, &error))
    return tool_fail (error, NULL);
  if (printer.missing > 0) {
    fflush (stdout);
    tool_error ("note: %s: %" G_GUINT64_FORMAT " bytes are missing (" TOOL_ADVICE_LIST ")", path,
                printer.missing);
  }
  return TOOL_OK;
}

int
tool_map (int argc, char **argv)
{
  g_autofree char *output = NULL, *cache = NULL;
  const GOptionEntry entries[] = {
    { "output", 0, 0, G_OPTION_ARG_FILENAME, &output, "How it is printed (default: human)",
      "human|json" },
    TOOL_INDEX_CACHE_OPTION (&cache),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE [DISK]",
    .about = "Shows where the data of a disk stand in the archive, as qemu-img map does; of all disks\n"
             "where none is named.  Zeros have no line; in JSON they have.  What an archive has\n"
             "lost is \"missing\", in JSON \"present\": false.",
    .entries = entries, .min = 1, .max = 2,
  };
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  if (output != NULL && strcmp (output, "human") != 0 && strcmp (output, "json") != 0)
    return tool_usage_error (argv[0], "--output is human or json, not '%s'", output);
  tool_confine_to (arguments[0], cache);
  tool_interrupt_start ();
  return map (arguments[0], arguments[1], cache, g_strcmp0 (output, "json") == 0);
}
