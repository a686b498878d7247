/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool extract: writes configs and disks to files, or disks to targets that a map file names.
 *
 * Disks have temporary names until the whole archive has proved sound and all is on the medium.
 */
#include "base/json-put.h"
#include "image/find.h"
#include "image/image.h"
#include "tool/command.h"
#include "tool/copy.h"
#include "tool/interrupt.h"
#include "tool/mapfile.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/outdir.h"
#include "tool/progress.h"
#include "vma/error.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef struct {
  gboolean verbose, as_json;
  int jobs;
  char *drives, *map, *index_cache;
} Options;

typedef struct {
  const Options *options;
  VmaArchive *archive;
  ToolOutDir *dir;
  gboolean wanted[VMA_MAX_DEVICES]; /* by device id */
  ToolMap *map;                     /* of -r, or NULL */
  ToolCopy copy;
} Extraction;

/* Hostile names are refused before anything is made. */
static gboolean
check_names (VmaArchive *archive, GError **error)
{
  const char *escaped = vma_names_first_escaped (vma_archive_names (archive));

  if (escaped == NULL)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
               "%s: header at 0: the name of %s (as escaped) cannot be a file's: nothing was "
               "extracted (a mount shows it under this name)",
               vma_archive_path (archive), escaped);
  return FALSE;
}

/* -d */
static gboolean
choose_disks (Extraction *x, GError **error)
{
  const GPtrArray *devices = vma_archive_header (x->archive)->devices;

  if (x->options->drives == NULL) {
    for (guint i = 0; i < devices->len; i++)
      x->wanted[((const VmaDevice *) g_ptr_array_index (devices, i))->id] = TRUE;
    return TRUE;
  }
  g_auto (GStrv) names = g_strsplit (x->options->drives, ",", -1);
  for (guint i = 0; names[i] != NULL; i++) {
    if (names[i][0] == '\0')
      continue;
    const VmaDevice *device = vma_archive_find_disk (x->archive, names[i], error);
    if (device == NULL)
      return FALSE;
    x->wanted[device->id] = TRUE;
  }
  return TRUE;
}

static gboolean
write_configs (Extraction *x, GError **error)
{
  const GPtrArray *configs = vma_archive_header (x->archive)->configs;

  for (guint i = 0; i < configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs, i);
    if (!tool_out_dir_write (x->dir, vma_names_config (vma_archive_names (x->archive), i),
                             config->data, error))
      return FALSE;
  }
  return TRUE;
}

/* --- targets ----------------------------------------------------------------------------------- */

static gboolean
create_file (Extraction *x, const VmaDevice *device, GError **error)
{
  const char *name = vma_names_device (vma_archive_names (x->archive), device->id);
  g_autofree char *temporary = g_strconcat ("tmp-", name, NULL);
  g_autofree char *shown = tool_out_dir_shown (x->dir, temporary);
  guint64 size = device->is_vmstate ? TOOL_SIZE_LATER : device->size;

  x->copy.targets[device->id]
      = tool_target_create (tool_out_dir_fd (x->dir), temporary, shown, size, error);
  if (x->copy.targets[device->id] == NULL)
    return FALSE;
  tool_out_dir_add (x->dir, name);
  return TRUE;
}

static gboolean
open_mapped (Extraction *x, const VmaDevice *device, GError **error)
{
  const ToolMapLine *line = &x->map->lines[device->id];
  g_autofree char *name = vma_name_escape (device->name);

  if (line->skip)
    return TRUE;
  if (!line->mentioned) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "%s: no line for %s (skip=%s leaves it out)", x->options->map, name, name);
    return FALSE;
  }
  if (!x->options->as_json)
    printf ("map '%s' to '%s' (write zeros = %d)\n", name, line->path, line->write_zeros);
  ToolTarget *target = tool_target_open (line->path, device->size, line->write_zeros, error);
  if (target == NULL)
    return FALSE;
  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    if (x->copy.targets[id] != NULL && tool_target_is_same (x->copy.targets[id], target)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: %s is the target of two disks",
                   x->options->map, line->path);
      tool_target_free (target);
      return FALSE;
    }
  x->copy.targets[device->id] = target;
  return TRUE;
}

/*
 * Those who use a map start the program, read the list of disks from its output, make the targets, and
 * only then write the map, into a FIFO.  They also look into the configs before.
 */
static gboolean
read_map (Extraction *x, GError **error)
{
  if (!x->options->as_json)
    tool_print_listing (x->archive);
  x->map = tool_map_read (x->options->map, x->archive, error);
  return x->map != NULL;
}

static gboolean
open_targets (Extraction *x, GError **error)
{
  const GPtrArray *devices = vma_archive_header (x->archive)->devices;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    gboolean in_map = x->map != NULL
                      && (!device->is_vmstate || x->map->lines[device->id].mentioned);
    if (x->wanted[device->id]
        && !(in_map ? open_mapped (x, device, error) : create_file (x, device, error)))
      return FALSE;
  }
  fflush (stdout);
  return TRUE;
}

/* The size of a disk, known at the end. */
static guint64
final_size (Extraction *x, const VmaDevice *device)
{
  guint64 size = device->size;

  vma_image_size (vma_archive_image (x->archive, device->id), &size, NULL, NULL);
  return size;
}

static gboolean
finish_targets (Extraction *x, GError **error)
{
  const GPtrArray *devices = vma_archive_header (x->archive)->devices;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    if (x->copy.targets[device->id] != NULL
        && !tool_target_finish (x->copy.targets[device->id], final_size (x, device), error))
      return FALSE;
  }
  return TRUE;
}

/* --- the whole --------------------------------------------------------------------------------- */

static gboolean
copy_disks (Extraction *x, GError **error)
{
  guint jobs = (guint) x->options->jobs;

  if (jobs < 2 || vma_source_is_sequential (vma_archive_source (x->archive))) {
    tool_verbose_start (&x->copy.verbose, vma_archive_header (x->archive), x->options->verbose);
    return tool_copy_in_archive_order (&x->copy, error);
  }
  if (!tool_index_archive (x->archive, error))
    return FALSE;
  tool_verbose_start (&x->copy.verbose, vma_archive_header (x->archive), x->options->verbose);
  return tool_copy_by_disk (&x->copy, jobs, error);
}

static gboolean
run (Extraction *x, const char *target, GError **error)
{
  x->dir = tool_out_dir_new (target, error);
  if (x->dir == NULL || !write_configs (x, error)
      || (x->options->map != NULL && !read_map (x, error)) || !open_targets (x, error)
      || !copy_disks (x, error) || !finish_targets (x, error))
    return FALSE;
  tool_progress_end ();
  return tool_out_dir_commit (x->dir, error);
}

static void
print_json (Extraction *x, const char *target)
{
  const VmaHeader *header = vma_archive_header (x->archive);
  const VmaNames *names = vma_archive_names (x->archive);
  g_autoptr (JsonBuilder) json = json_builder_new ();

  json_builder_begin_object (json);
  vma_json_put_string (json, "archive", vma_archive_path (x->archive));
  vma_json_put_string (json, "target", target);
  vma_json_put_array (json, "configs");
  for (guint i = 0; i < header->configs->len; i++) {
    g_autofree char *name = g_utf8_make_valid (vma_names_config (names, i), -1);
    json_builder_add_string_value (json, name);
  }
  json_builder_end_array (json);
  vma_json_put_array (json, "disks");
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    const char *path = x->map != NULL ? x->map->lines[device->id].path : NULL;
    if (x->copy.targets[device->id] == NULL)
      continue;
    json_builder_begin_object (json);
    vma_json_put_string (json, "name", device->name);
    vma_json_put_string (json, path != NULL ? "path" : "file",
                         path != NULL ? path : vma_names_device (names, device->id));
    vma_json_put_int (json, "size", final_size (x, device));
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
  json_builder_end_object (json);
  vma_json_print (json);
}

static int
extract (const char *path, const char *target, const Options *options)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *cache = tool_cache_dir (options->index_cache);
  /* In archive order the headers are gone through, and no index is needed. */
  const VmaArchiveOptions archive_options = {
    .cache_dir = options->jobs > 1 ? cache : NULL,
    .checksums_dir = cache,
  };
  Extraction x = { .options = options };
  gboolean ok;

  x.archive = tool_open_with (path, &archive_options, &error);
  x.copy.archive = x.archive;
  ok = x.archive != NULL && check_names (x.archive, &error) && choose_disks (&x, &error)
       && run (&x, target, &error);
  tool_progress_end ();
  if (ok && options->as_json)
    print_json (&x, target);
  else if (ok)
    tool_verbose_summary (&x.copy.verbose);

  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    g_clear_pointer (&x.copy.targets[id], tool_target_free);
  g_clear_pointer (&x.dir, tool_out_dir_free);
  g_clear_pointer (&x.map, tool_map_free);
  g_clear_pointer (&x.archive, vma_archive_free);
  return ok ? TOOL_OK : tool_fail (error, TOOL_ADVICE_MOUNT);
}

int
tool_extract (int argc, char **argv)
{
  Options options = { 0 };
  const GOptionEntry entries[] = {
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &options.verbose, "Print progress and a summary", NULL },
    { "drives", 'd', 0, G_OPTION_ARG_FILENAME, &options.drives, "Only these disks",
      "DISK,DISK..." },
    { "readmap", 'r', 0, G_OPTION_ARG_FILENAME, &options.map,
      "Where disks go: {0|1}:DEVNAME=PATH lines", "MAPFILE" },
    { "jobs", 'j', 0, G_OPTION_ARG_INT, &options.jobs, "Disks that are written at once", "N" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &options.as_json, "Print the result as JSON", NULL },
    TOOL_INDEX_CACHE_OPTION (&options.index_cache),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE|- TARGETDIR",
    .about = "Writes each disk as TARGETDIR/disk-DEVNAME.raw (sparse), and the configs.  TARGETDIR is\n"
             "made, and removed if this fails.  With -r disks go to existing raw files or block\n"
             "devices, and a line of MAPFILE is {0|1}:DEVNAME=PATH or skip=DEVNAME; 1 means that\n"
             "zeros must be written.  The list ends with \"done\".",
    .entries = entries, .min = 2, .max = 2,
  };
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments != NULL && options.jobs < 0)
    status = tool_usage_error (argv[0], "--jobs must not be negative");
  else if (arguments != NULL && options.as_json && options.verbose)
    status = tool_usage_error (argv[0], "either --json or -v");
  else if (arguments != NULL && g_strcmp0 (options.map, "-") == 0
           && strcmp (arguments[0], "-") == 0)
    status = tool_usage_error (argv[0], "archive and map cannot both be standard input");
  else if (arguments != NULL) {
    tool_interrupt_start ();
    signal (SIGPIPE, SIG_IGN); /* nobody listening any more is no reason to leave a mess */
    status = extract (arguments[0], arguments[1], &options);
  }
  g_free (options.drives);
  g_free (options.map);
  g_free (options.index_cache);
  return status;
}
