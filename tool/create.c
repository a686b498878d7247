/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool create: makes an archive of disks at rest.
 */
#include "base/json-put.h"
#include "source/nbd-uri.h"
#include "tool/command.h"
#include "tool/configs.h"
#include "tool/create-copy.h"
#include "tool/input-changes.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/size.h"
#include "tool/writer-options.h"
#include "vma/error.h"
#include "vma/header.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
  gboolean verbose, as_json;
  char **configs, **drives;
  char *speed;
  char *base, *bitmap, *index_cache;
  ToolWriterArguments writer;
} Options;

/* What the options say, checked. */
typedef struct {
  VmaWriterOptions writer;
  guint8 uuid[VMA_UUID_SIZE];
  guint64 speed;
} Settings;

typedef struct {
  const char *target;
  const Options *options;
  const Settings *settings;
  VmaWriter *writer;
  VmaArchive *base; /* of --base */
  GArray *disks; /* ToolDisk */
  ToolVerbose verbose;
  gulong on_cancel;
} Creation;

/* --- the command line -------------------------------------------------------------------------- */

/* TOOL_OK, or the mistake's status. */
static int
parse_settings (const char *command, const char *target, const Options *options, Settings *settings)
{
  g_autoptr (GError) error = NULL;

  settings->writer.ctime = -1;
  if (!tool_writer_options (&options->writer, target, settings->uuid, &settings->writer, &error))
    return tool_usage_error (command, "%s", error->message);
  if (options->speed != NULL && !tool_parse_size (options->speed, &settings->speed))
    return tool_usage_error (command, "--speed: '%s' is no size", options->speed);
  return TOOL_OK;
}

/* --- what goes in ------------------------------------------------------------------------------ */

/* What has changed since the base. */
static ToolInput *
open_changes (Creation *c, const char *uri, const char *name, guint threads, GError **error)
{
#ifdef HAVE_LIBNBD
  if (vma_nbd_is_uri (uri))
    return tool_input_changes (uri, name, c->options->bitmap, c->base, threads, error);
#else
  (void) c;
  (void) threads;
#endif
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
               "disk '%s' (%s): --bitmap needs an NBD export, which shows what has changed", name,
               uri);
  return NULL;
}

static gboolean
open_base (Creation *c, GError **error)
{
  g_autofree char *cache = tool_cache_dir (c->options->index_cache);

  if (c->options->base == NULL)
    return TRUE;
  c->base = tool_open (c->options->base, cache, FALSE, error);
  return c->base != NULL && tool_index_archive (c->base, error);
}

/* [format=F:][NAME=]PATH; without a name it is diskN, N being the disk's place from 0. */
static gboolean
add_disk (Creation *c, const char *text, guint threads, GError **error)
{
  g_autofree char *format = NULL;
  ToolDisk disk = { 0 };

  if (g_str_has_prefix (text, "format=")) {
    const char *value = text + strlen ("format=");
    const char *colon = strchr (value, ':');
    if (colon == NULL || colon == value) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: should be format=F:NAME=PATH", text);
      return FALSE;
    }
    format = g_strndup (value, (gsize) (colon - value));
    text = colon + 1;
  }
  disk.name = tool_take_name (&text);
  if (disk.name == NULL)
    disk.name = g_strdup_printf ("disk%u", c->disks->len);
  disk.path = vma_nbd_display (text);
  if (c->base == NULL)
    disk.input = tool_input_open (text, format, disk.name, threads, error);
  else
    disk.input = open_changes (c, text, disk.name, threads, error);
  g_array_append_val (c->disks, disk);
  return disk.input != NULL;
}

static gboolean
open_disks (Creation *c, char **arguments, GError **error)
{
  char **drives = c->options->drives;
  guint n = g_strv_length (arguments) + (drives != NULL ? g_strv_length (drives) : 0);
  guint threads = tool_create_threads (n);

  if (n > VMA_LAST_DEVICE) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "an archive has room for %u disks",
                 VMA_LAST_DEVICE);
    return FALSE;
  }
  for (guint i = 0; drives != NULL && drives[i] != NULL; i++)
    if (!add_disk (c, drives[i], threads, error))
      return FALSE;
  for (guint i = 0; arguments[i] != NULL; i++)
    if (!add_disk (c, arguments[i], threads, error))
      return FALSE;
  return TRUE;
}

static gboolean
add_config (Creation *c, const char *text, GError **error)
{
  g_autofree char *name = NULL;
  g_autoptr (GBytes) data = NULL;
  gsize size;

  if (!tool_read_config (text, &name, &data, error))
    return FALSE;
  const guint8 *bytes = g_bytes_get_data (data, &size);
  return vma_writer_add_config (c->writer, name, bytes, size, error);
}

static gboolean
register_all (Creation *c, GError **error)
{
  for (guint i = 0; c->options->configs != NULL && c->options->configs[i] != NULL; i++)
    if (!add_config (c, c->options->configs[i], error))
      return FALSE;
  for (guint i = 0; i < c->disks->len; i++) {
    ToolDisk *disk = &g_array_index (c->disks, ToolDisk, i);
    disk->stream = vma_writer_register_stream (c->writer, disk->name, disk->input->size, error);
    if (disk->stream == 0)
      return FALSE;
    c->verbose.total += vma_clusters_for_size (disk->input->size) * VMA_CLUSTER_SIZE;
  }
  return TRUE;
}

/* --- the run ----------------------------------------------------------------------------------- */

static void
on_cancelled (GCancellable *cancellable G_GNUC_UNUSED, gpointer data)
{
  vma_writer_cancel (data, FALSE);
}

/* The process is about to end. */
static void
clean_up (gpointer data)
{
  vma_writer_cancel (data, TRUE);
}

static gboolean
open_writer (Creation *c, GError **error)
{
  if (strcmp (c->target, "-") == 0 && isatty (STDOUT_FILENO)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "standard output is a terminal, which is no place for an archive");
    return FALSE;
  }
  c->writer = vma_writer_open (c->target, &c->settings->writer, error);
  if (c->writer == NULL)
    return FALSE;
  tool_interrupt_set_cleanup (clean_up, c->writer);
  c->on_cancel = g_cancellable_connect (tool_cancellable (), G_CALLBACK (on_cancelled), c->writer,
                                        NULL);
  return TRUE;
}

static gboolean
copy_disks (Creation *c, GError **error)
{
  ToolCreateCopy copy = {
    .writer = c->writer,
    .disks = (ToolDisk *) (void *) c->disks->data,
    .n_disks = c->disks->len,
    .speed = c->settings->speed,
    .cancellable = tool_cancellable (),
    .verbose = &c->verbose,
  };

  tool_progress_start ("creating", c->verbose.total);
  if (!tool_create_copy (&copy, error))
    return FALSE;
  for (guint i = 0; i < c->disks->len; i++)
    if (!vma_writer_close_stream (c->writer, copy.disks[i].stream, error))
      return FALSE;
  return TRUE;
}

static gboolean
run (Creation *c, char **arguments, GError **error)
{
  if (!open_base (c, error) || !open_disks (c, arguments, error) || !open_writer (c, error) || !register_all (c, error)
      || !copy_disks (c, error) || !vma_writer_sync (c->writer, error))
    return FALSE;
  tool_progress_end ();
  /* What is left is short: the name, or nothing at all. */
  if (!tool_interrupt_finish ()) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
    return FALSE;
  }
  return vma_writer_complete (c->writer, error);
}

static void
print_json (Creation *c)
{
  g_autoptr (JsonBuilder) json = json_builder_new ();

  json_builder_begin_object (json);
  vma_json_put_string (json, "archive", c->target);
  vma_json_put_int (json, "bytes", vma_writer_archive_bytes (c->writer));
  vma_json_put_int (json, "written", vma_writer_written_bytes (c->writer));
  vma_json_put_double (json, "seconds",
                       (double) (g_get_monotonic_time () - c->verbose.started) / G_USEC_PER_SEC);
  vma_json_put_array (json, "disks");
  for (guint i = 0; i < c->disks->len; i++) {
    const ToolDisk *disk = &g_array_index (c->disks, ToolDisk, i);
    VmaStreamProgress progress;

    vma_writer_get_progress (c->writer, disk->stream, &progress);
    json_builder_begin_object (json);
    vma_json_put_string (json, "name", disk->name);
    vma_json_put_string (json, "path", disk->path);
    vma_json_put_string (json, "format", disk->input->format);
    vma_json_put_int (json, "size", progress.total);
    vma_json_put_int (json, "zero", progress.zero);
    json_builder_end_object (json);
  }
  json_builder_end_array (json);
  json_builder_end_object (json);
  vma_json_print (json);
}

static void
clear_disk (gpointer data)
{
  ToolDisk *disk = data;

  g_free (disk->name);
  g_free (disk->path);
  g_clear_pointer (&disk->input, tool_input_free);
}

static void
close_writer (Creation *c)
{
  if (c->writer == NULL)
    return;
  g_cancellable_disconnect (tool_cancellable (), c->on_cancel);
  tool_interrupt_set_cleanup (NULL, NULL);
  vma_writer_free (c->writer);
}

static int
create (char **arguments, const Options *options, const Settings *settings)
{
  g_autoptr (GError) error = NULL;
  Creation c = {
    .target = arguments[0],
    .options = options,
    .settings = settings,
    .disks = g_array_new (FALSE, FALSE, sizeof (ToolDisk)),
    .verbose = { .enabled = options->verbose,
                 .started = g_get_monotonic_time (),
                 .lock = PTHREAD_MUTEX_INITIALIZER },
  };

  g_array_set_clear_func (c.disks, clear_disk);
  gboolean ok = run (&c, arguments + 1, &error);
  tool_progress_end ();
  if (ok && options->as_json)
    print_json (&c);
  else if (ok)
    tool_verbose_summary (&c.verbose);
  /* What failed because of a signal is the signal's doing. */
  if (!ok && g_cancellable_is_cancelled (tool_cancellable ())) {
    g_clear_error (&error);
    g_set_error (&error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
  }
  close_writer (&c);
  g_array_unref (c.disks);
  g_clear_pointer (&c.base, vma_archive_free);
  return ok ? TOOL_OK : tool_fail (error, NULL);
}

/* Whether the archive goes to standard output. */
static gboolean
is_stdout (const char *target)
{
  return strcmp (target, "-") == 0 || strcmp (target, "fd:1") == 0;
}

static int
check_and_create (const char *command, char **arguments, const Options *options)
{
  Settings settings = { 0 };
  int status = parse_settings (command, arguments[0], options, &settings);

  if (status != TOOL_OK)
    return status;
  if (arguments[1] == NULL && options->drives == NULL && options->configs == NULL)
    return tool_usage_error (command, "no disk and no config");
  if ((options->base != NULL) != (options->bitmap != NULL))
    return tool_usage_error (command, "--base and --bitmap belong together");
  if (options->as_json && options->verbose)
    return tool_usage_error (command, "either --json or -v");
  if (is_stdout (arguments[0]) && (options->as_json || options->verbose))
    return tool_usage_error (command, "--json and -v need standard output, where the archive goes");
  tool_interrupt_start ();
  signal (SIGPIPE, SIG_IGN); /* an error of a write is enough */
  return create (arguments, options, &settings);
}

int
tool_create (int argc, char **argv)
{
  Options options = { 0 };
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME_ARRAY, &options.configs, "Put in a config file",
      "[NAME=]FILE" },
    { "drive", 'd', 0, G_OPTION_ARG_FILENAME_ARRAY, &options.drives,
      "Put in a disk image of this format", "format=F:NAME=PATH" },
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &options.verbose, "Print progress and a summary", NULL },
    { "speed", 0, 0, G_OPTION_ARG_FILENAME, &options.speed, "Read at most so much a second",
      "BYTES" },
    { "base", 0, 0, G_OPTION_ARG_FILENAME, &options.base,
      "The backup that holds what has not changed", "ARCHIVE" },
    { "bitmap", 0, 0, G_OPTION_ARG_STRING, &options.bitmap,
      "What has changed, by the export's dirty bitmap", "NAME" },
    TOOL_INDEX_CACHE_OPTION (&options.index_cache),
    TOOL_WRITER_OPTIONS (&options.writer),
    { "json", 0, 0, G_OPTION_ARG_NONE, &options.as_json, "Print the result as JSON", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "TARGET [[format=F:][NAME=]PATH...]",
    .about = "Makes an archive of disks and configs.  TARGET is a file that does not exist, \"-\"\n"
             "(standard output), fd:N or exec:COMMAND.  PATH is a raw file, a block device, an\n"
             "image in another format (found out, or given), or an NBD URI.  A NAME of \"vmstate\"\n"
             "stands for RAM and device state; without one it is disk0, disk1, ...",
    .entries = entries, .min = 1, .max = TOOL_ANY,
  };
  int status;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments != NULL)
    status = check_and_create (argv[0], arguments, &options);
  g_strfreev (options.configs);
  g_strfreev (options.drives);
  g_free (options.speed);
  g_free (options.base);
  g_free (options.bitmap);
  g_free (options.index_cache);
  tool_writer_arguments_clear (&options.writer);
  return status;
}
