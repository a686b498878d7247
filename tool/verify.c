/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool verify: goes through the whole archive, and reads all of it.
 *
 * What can be found: everything that is wrong with a header, clusters that are missing or there twice,
 * bytes lost or gained, and what the medium cannot read.  The format has no sums over the data; where
 * `vmatool index --checksums` took some, these are checked.
 */
#include "base/json-put.h"
#include "tool/command.h"
#include "tool/confine.h"
#include "tool/interrupt.h"
#include "tool/loss.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/reader.h"
#include "tool/verbose.h"
#include "vma/error.h"

#include <stdio.h>
#include <string.h>

/* More threads do not read a file faster. */
#define MAX_DEFAULT_JOBS 4

typedef struct {
  gboolean verbose, salvage, as_json, quick;
  int jobs;
  char *index_cache;
} Options;

static gboolean
is_pipe (VmaArchive *archive)
{
  return vma_source_is_sequential (vma_archive_source (archive));
}

/*
 * Threads for the reader.  Only a plain file is as fast at any place as at the next: a compressed one is
 * best read forwards.
 */
static guint
reader_jobs (VmaArchive *archive, const Options *options)
{
  if (is_pipe (archive) || options->jobs == 1)
    return 0;
  if (options->jobs > 1)
    return (guint) options->jobs;
  if (strcmp (vma_source_kind (vma_archive_source (archive)), "plain") != 0)
    return 0;
  guint n = MIN (g_get_num_processors (), MAX_DEFAULT_JOBS);
  return n > 1 ? n : 0;
}

/* Goes through all extents.  FALSE with the failure, the archive's path in front. */
static gboolean
walk (VmaArchive *archive, ToolReader *reader, const Options *options, GError **error)
{
  g_autoptr (VmaScanner) scanner = vma_archive_scanner_new (archive);
  guint64 size = vma_source_size (vma_archive_source (archive));
  /* Without a known size only a read of the data shows whether they are there. */
  gboolean read = !options->quick || size == VMA_SIZE_UNKNOWN;
  const VmaExtent *extent;
  ToolVerbose verbose;
  guint64 offset;
  int more;

  if (!read)
    vma_scanner_headers_only (scanner);
  tool_progress_start ("verifying", size != VMA_SIZE_UNKNOWN ? size : 0);
  tool_verbose_start (&verbose, vma_archive_header (archive), options->verbose);
  while ((more = vma_scanner_next (scanner, &extent, &offset, tool_cancellable (), error)) > 0) {
    if (read
        && !tool_reader_add (reader, offset + VMA_EXTENT_HEADER_SIZE, offset + extent->size, error))
      return FALSE;
    if (!read)
      tool_progress_set (offset);
    tool_verbose_extent (&verbose, extent);
  }
  if (more < 0
      || !vma_index_complete (vma_archive_index (archive), !options->salvage, error)) {
    vma_archive_prefix_error (archive, error);
    return FALSE;
  }
  if (!tool_reader_finish (reader, error))
    return FALSE;
  tool_progress_end ();
  tool_verbose_summary (&verbose);
  return TRUE;
}

static void
print_json (const char *path, VmaArchive *archive, const GError *error, const GPtrArray *losses,
            const GArray *unreadable, gboolean ok)
{
  g_autoptr (JsonBuilder) json = json_builder_new ();

  json_builder_begin_object (json);
  vma_json_put_string (json, "archive", path);
  vma_json_put_bool (json, "ok", ok);
  vma_json_put_string (json, "error", error != NULL ? error->message : NULL);
  if (archive != NULL) {
    VmaIndexCounts counts;
    vma_index_get_counts (vma_archive_index (archive), &counts);
    vma_json_put_bool (json, "checksums", vma_archive_checksums (archive) != NULL);
    vma_json_put_int (json, "extents", counts.extents);
    vma_json_put_int (json, "bytes", counts.end);
  }
  if (losses != NULL)
    tool_loss_json (archive, losses, unreadable, json);
  json_builder_end_object (json);
  vma_json_print (json);
}

static int
failed (const char *path, VmaArchive *archive, const Options *options, const GError *error)
{
  tool_progress_end ();
  if (options->as_json)
    print_json (path, archive, error, NULL, NULL, FALSE);
  return tool_fail (error, options->salvage ? NULL : TOOL_ADVICE_LIST);
}

/* The report of --salvage. */
static int
report_losses (VmaArchive *archive, ToolReader *reader, const Options *options)
{
  const GArray *unreadable = tool_reader_unreadable (reader);
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) losses = tool_loss_find (archive, unreadable, &error);

  if (losses == NULL)
    return failed (vma_archive_path (archive), archive, options, error);

  guint damaged = vma_index_damage_count (vma_archive_index (archive));
  guint disks = tool_loss_count (losses);
  gboolean ok = damaged == 0 && disks == 0 && unreadable->len == 0;
  if (options->as_json)
    print_json (vma_archive_path (archive), archive, NULL, losses, unreadable, ok);
  else if (ok)
    printf ("%s: nothing is lost\n", vma_archive_path (archive));
  else
    tool_loss_print (archive, losses, unreadable);
  if (ok)
    return TOOL_OK;
  if (disks > 0)
    tool_error ("%s: %u of %u disks have lost data (" TOOL_ADVICE_MOUNT ")",
                vma_archive_path (archive), disks, losses->len);
  else
    tool_error ("%s: damaged, but no disk is known to have lost data",
                vma_archive_path (archive));
  return TOOL_FAILED;
}

static int
verify (const char *path, const Options *options)
{
  g_autoptr (GError) error = NULL;

  /* Never the saved index: the headers themselves are to be seen. */
  g_autofree char *cache = tool_cache_dir (options->index_cache);
  const VmaArchiveOptions archive_options
      = { .salvage = options->salvage, .checksums_dir = options->quick ? NULL : cache };
  g_autoptr (VmaArchive) archive = tool_open_with (path, &archive_options, &error);
  if (archive == NULL)
    return failed (path, NULL, options, error);
  if (options->salvage && is_pipe (archive))
    return tool_usage_error ("verify", "--salvage needs a file: a pipe cannot be searched");

  g_autoptr (ToolReader) reader
      = tool_reader_new (archive, reader_jobs (archive, options), options->salvage);
  if (!walk (archive, reader, options, &error))
    return failed (path, archive, options, error);

  tool_save_index (archive, cache);
  if (options->salvage)
    return report_losses (archive, reader, options);
  if (options->as_json)
    print_json (path, archive, NULL, NULL, NULL, TRUE);
  return TOOL_OK;
}

int
tool_verify (int argc, char **argv)
{
  Options options = { 0 };
  const GOptionEntry entries[] = {
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &options.verbose, "Print progress and a summary", NULL },
    { "salvage", 0, 0, G_OPTION_ARG_NONE, &options.salvage,
      "Go on behind damage, and list what is lost", NULL },
    { "quick", 0, 0, G_OPTION_ARG_NONE, &options.quick, "Only the headers, not the data", NULL },
    { "jobs", 'j', 0, G_OPTION_ARG_INT, &options.jobs, "Threads that read (default: as it suits)",
      "N" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &options.as_json, "Print the result as JSON", NULL },
    TOOL_INDEX_CACHE_OPTION (&options.index_cache),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "ARCHIVE|-",
    .about = "Checks every header of an archive, that each cluster of each disk is there once, and\n"
             "that all data can be read.  The format has no checksums over the data;\n"
             "those that `vmatool index` took are checked.\n"
             "The index that comes of it is saved for the next mount.",
    .entries = entries, .min = 1, .max = 1,
  };
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments != NULL && options.jobs < 0)
    status = tool_usage_error (argv[0], "--jobs must not be negative");
  else if (arguments != NULL && options.as_json && options.verbose)
    status = tool_usage_error (argv[0], "either --json or -v");
  else if (arguments != NULL) {
    tool_confine_to (arguments[0], options.index_cache);
    tool_interrupt_start ();
    status = verify (arguments[0], &options);
  }
  g_free (options.index_cache);
  return status;
}
