/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool repack: writes an archive anew: in another order, with other compression, without some disks,
 * with another config, or put together from two damaged copies.
 *
 * Disk by disk, clusters ascending, through the index (the default), or as the clusters come, in one
 * pass and bounded memory (pipes, --order=keep).
 */
#include "image/delta.h"
#include "image/find.h"
#include "tool/command.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/repack-copy.h"
#include "tool/writer-options.h"
#include "vma/error.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef struct {
  char **configs;  /* NAME=PATH: added, or put in the place of one */
  char **drop_configs;
  char **drives;   /* only these disks */
  char **drop;     /* all but these */
  char *order, *merge, *base, *cache;
  ToolWriterArguments writer;
} Options;

static gboolean
listed (char **names, VmaArchive *archive, const VmaDevice *device)
{
  for (guint i = 0; names != NULL && names[i] != NULL; i++)
    if (vma_archive_find_disk (archive, names[i], NULL) == device)
      return TRUE;
  return FALSE;
}

static gboolean
check_drives (char **names, VmaArchive *archive, GError **error)
{
  for (guint i = 0; names != NULL && names[i] != NULL; i++)
    if (vma_archive_find_disk (archive, names[i], error) == NULL)
      return FALSE;
  return TRUE;
}

/* The option that replaces or adds the config of this name, or NULL. */
static const char *
replacement (char **configs, const char *name)
{
  gsize length = strlen (name);

  for (guint i = 0; configs != NULL && configs[i] != NULL; i++)
    if (strncmp (configs[i], name, length) == 0 && configs[i][length] == '=')
      return configs[i] + length + 1;
  return NULL;
}

static gboolean
add_config_file (VmaWriter *writer, const char *name, const char *path, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_autofree char *data = NULL;
  gsize size;

  if (g_file_get_contents (path, &data, &size, &local))
    return vma_writer_add_config (writer, name, (const guint8 *) data, size, error);
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_IO, local->message);
  return FALSE;
}

/* The archive's configs, with what the options change; new ones last. */
static gboolean
add_configs (VmaWriter *writer, VmaArchive *archive, const Options *options, GError **error)
{
  const GPtrArray *configs = vma_archive_header (archive)->configs;
  g_autoptr (GHashTable) done = g_hash_table_new (g_str_hash, g_str_equal);

  for (guint i = 0; i < configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (configs, i);
    const char *path = replacement (options->configs, config->name);
    gsize size;
    const guint8 *data = g_bytes_get_data (config->data, &size);

    g_hash_table_add (done, config->name);
    /* With its base below it, it is no delta any more. */
    if (vma_archive_base (archive) != NULL && strcmp (config->name, VMA_DELTA_CONFIG) == 0)
      continue;
    if (options->drop_configs != NULL
        && g_strv_contains ((const char *const *) options->drop_configs, config->name))
      continue;
    if (path != NULL ? !add_config_file (writer, config->name, path, error)
                     : !vma_writer_add_config (writer, config->name, data, size, error))
      return FALSE;
  }
  for (guint i = 0; options->configs != NULL && options->configs[i] != NULL; i++) {
    const char *equals = strchr (options->configs[i], '=');
    g_autofree char *name = equals != NULL
                                ? g_strndup (options->configs[i], (gsize) (equals - options->configs[i]))
                                : g_path_get_basename (options->configs[i]);
    const char *path = equals != NULL ? equals + 1 : options->configs[i];

    if (!g_hash_table_contains (done, name) && !add_config_file (writer, name, path, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
add_streams (VmaWriter *writer, ToolRepack *repack, const Options *options, GError **error)
{
  const GPtrArray *devices = vma_archive_header (repack->archive)->devices;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);

    if ((options->drives != NULL && !listed (options->drives, repack->archive, device))
        || listed (options->drop, repack->archive, device))
      continue;
    guint8 id = vma_writer_register_stream (writer, device->name, device->size, error);
    if (id == 0)
      return FALSE;
    repack->streams[device->id] = id;
  }
  return TRUE;
}

/* The other copy of a damaged archive. */
static VmaArchive *
open_other (const char *path, VmaArchive *archive, const char *cache, GError **error)
{
  g_autoptr (VmaArchive) other = tool_open (path, cache, TRUE, error);

  if (other == NULL)
    return NULL;
  if (memcmp (vma_archive_header (other)->uuid, vma_archive_header (archive)->uuid, VMA_UUID_SIZE)
      != 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "%s: is no copy of %s: it has another uuid", path, vma_archive_path (archive));
    return NULL;
  }
  return tool_index_archive (other, error) ? g_steal_pointer (&other) : NULL;
}

/* A delta by itself has gaps, which would come up as damage. */
static gboolean
check_whole (VmaArchive *archive, GError **error)
{
  guint8 uuid[VMA_UUID_SIZE];

  if (!vma_delta_base_uuid (vma_archive_header (archive), uuid))
    return TRUE;
  g_autofree char *text = tool_uuid_text (uuid);
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "%s: has only what changed since the archive with the uuid %s (give it with --base)",
               vma_archive_path (archive), text);
  return FALSE;
}

static gboolean
run (const char *from, const char *to, const Options *options, gboolean keep_order, GError **error)
{
  g_autofree char *cache = tool_cache_dir (options->cache);
  /* In archive order the headers themselves are gone through: no saved index then. */
  const VmaArchiveOptions archive_options = {
    .salvage = options->merge != NULL,
    .base = options->base,
    .cache_dir = keep_order ? NULL : cache,
    .checksums_dir = cache,
  };
  g_autoptr (VmaArchive) archive = tool_open_with (from, &archive_options, error);
  g_autoptr (VmaArchive) other = NULL;
  VmaWriterOptions writer_options = { 0 };
  guint8 uuid[VMA_UUID_SIZE];

  if (archive == NULL)
    return FALSE;
  if (!check_drives (options->drives, archive, error)
      || !check_drives (options->drop, archive, error))
    return FALSE;
  if (options->base == NULL && !check_whole (archive, error))
    return FALSE;
  keep_order |= vma_source_is_sequential (vma_archive_source (archive));
  if (!keep_order && !tool_index_archive (archive, error))
    return FALSE;
  if (options->merge != NULL) {
    other = open_other (options->merge, archive, cache, error);
    if (other == NULL)
      return FALSE;
  }

  writer_options.ctime = vma_archive_header (archive)->ctime;
  if (!tool_writer_options (&options->writer, to, uuid, &writer_options, error))
    return FALSE;
  g_autoptr (VmaWriter) writer = vma_writer_open (to, &writer_options, error);
  if (writer == NULL)
    return FALSE;
  ToolRepack repack = { .archive = archive, .other = other, .writer = writer };
  return add_configs (writer, archive, options, error)
         && add_streams (writer, &repack, options, error)
         && (keep_order ? tool_repack_in_archive_order (&repack, error)
                        : tool_repack_by_disk (&repack, error))
         && vma_writer_complete (writer, error);
}

static void
options_clear (Options *options)
{
  g_strfreev (options->configs);
  g_strfreev (options->drop_configs);
  g_strfreev (options->drives);
  g_strfreev (options->drop);
  g_free (options->order);
  g_free (options->merge);
  g_free (options->base);
  g_free (options->cache);
  tool_writer_arguments_clear (&options->writer);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Options, options_clear)

int
tool_repack (int argc, char **argv)
{
  g_auto (Options) options = { 0 };
  const GOptionEntry entries[] = {
    { "drive", 'd', 0, G_OPTION_ARG_FILENAME_ARRAY, &options.drives, "Only this disk (repeatable)",
      "DISK" },
    { "drop", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.drop, "Without this disk (repeatable)",
      "DISK" },
    { "config", 'c', 0, G_OPTION_ARG_FILENAME_ARRAY, &options.configs,
      "Put this config in, or in the place of the one of its name", "[NAME=]PATH" },
    { "drop-config", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.drop_configs,
      "Without this config", "NAME" },
    { "order", 0, 0, G_OPTION_ARG_FILENAME, &options.order,
      "Disk by disk, ascending (default), or as in the archive", "disk|keep" },
    { "base", 0, 0, G_OPTION_ARG_FILENAME, &options.base,
      "ARCHIVE is a delta of this one: makes it whole", "ARCHIVE" },
    { "merge", 0, 0, G_OPTION_ARG_FILENAME, &options.merge,
      "Take what is lost from another copy of the archive", "ARCHIVE" },
    TOOL_WRITER_OPTIONS (&options.writer),
    TOOL_INDEX_CACHE_OPTION (&options.cache),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE|- TARGET",
    .about = "Writes an archive anew, disk by disk with ascending clusters, which is what stores that\n"
             "find equal data want.  A fixed --uuid makes the result depend on the content alone.\n"
             "TARGET is a new file, -, fd:N or exec:COMMAND.  From a pipe the order is kept.",
    .entries = entries, .min = 2, .max = 2,
  };
  g_autoptr (GError) error = NULL;
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  if (options.order != NULL && strcmp (options.order, "disk") != 0
      && strcmp (options.order, "keep") != 0)
    return tool_usage_error (argv[0], "--order is disk or keep, not '%s'", options.order);
  gboolean keep = g_strcmp0 (options.order, "keep") == 0;
  if (options.merge != NULL && (keep || strcmp (arguments[0], "-") == 0))
    return tool_usage_error (argv[0], "--merge needs a file, and goes disk by disk");
  if (options.base != NULL
      && (keep || options.merge != NULL || strcmp (arguments[0], "-") == 0))
    return tool_usage_error (argv[0], "--base needs a file, goes disk by disk, and without --merge");
  if (options.drives != NULL && options.drop != NULL)
    return tool_usage_error (argv[0], "either -d or --drop");
  tool_interrupt_start ();
  signal (SIGPIPE, SIG_IGN); /* an error of a write is enough */
  if (run (arguments[0], arguments[1], &options, keep, &error))
    return TOOL_OK;
  tool_progress_end ();
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_INVALID))
    return tool_usage_error (argv[0], "%s", error->message);
  return tool_fail (error, options.merge == NULL
                               ? "vmatool repack --merge takes what is lost from another copy"
                               : NULL);
}
