/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmabackup run: one backup, in the foreground.
 */
#include "backup/commands.h"
#include "backup/control.h"
#include "backup/job.h"
#include "backup/names.h"
#include "tool/configs.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/size.h"
#include "tool/writer-options.h"
#include "vma/error.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long taking everything back may last after Ctrl-C, before the guard does it. */
#define GRACE_SECONDS 90
#define MAX_TIMEOUT 600

typedef struct {
  char *qmp, *id, *speed, *mount, *base, *bitmap, *sync, *scratch, *scratch_limit, *on_full;
  char **configs, **devices, **exclude;
  gboolean delta, vmstate, as_json;
  int cbw_timeout;
  ToolWriterArguments writer;
} Arguments;

typedef struct {
  const char *output;
  VmaJobOptions job;
  GArray *configs; /* VmaTargetConfig */
  char **devices, **exclude;
  char *id, *scratch, *run_dir, *shown_output, *shown_mount;
  gboolean as_json;

  VmaJob *running;
  VmaControl *control;
  gint64 next_progress;
} Run;

/* --- the command line ------------------------------------------------------------------------ */

/* "A,B" given once or more often; NULL where not at all. */
static char **
split_names (char **given)
{
  if (given == NULL)
    return NULL;
  g_autofree char *all = g_strjoinv (",", given);
  return g_strsplit (all, ",", -1);
}

static gboolean
parse_sync (const char *text, VmaSync *sync, GError **error)
{
  static const char *const names[] = { "full", "top", "none" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    if (text == NULL || strcmp (text, names[i]) == 0) {
      *sync = (VmaSync) i;
      return TRUE;
    }
  return vma_fail (error, VMA_ERROR_INVALID, "--sync is full, top or none, not '%s'", text);
}

static gboolean
is_file (const char *output)
{
  return output != NULL && strcmp (output, "-") != 0 && !g_str_has_prefix (output, "fd:")
         && !g_str_has_prefix (output, "exec:");
}

/* A size makes a file next to the archive; else it is the file's name. */
static gboolean
parse_scratch (Run *run, const Arguments *a, GError **error)
{
  VmaJobOptions *job = &run->job;

  if (a->on_full != NULL && strcmp (a->on_full, "fail-backup") == 0)
    job->on_full = VMA_SCRATCH_FAIL;
  else if (a->on_full != NULL && strcmp (a->on_full, "wait") != 0)
    return vma_fail (error, VMA_ERROR_INVALID, "--on-full is wait or fail-backup, not '%s'",
                     a->on_full);
  if (a->scratch_limit != NULL && !tool_parse_size (a->scratch_limit, &job->scratch_size))
    return vma_fail (error, VMA_ERROR_INVALID, "--scratch-limit: '%s' is no size",
                     a->scratch_limit);
  if (a->scratch == NULL)
    return TRUE;
  guint64 size;
  if (tool_parse_size (a->scratch, &size)) {
    job->scratch_size = size;
    run->scratch = is_file (run->output)
                       ? g_strconcat (run->output, ".scratch", NULL)
                       : g_strdup_printf ("/var/tmp/vmabackup-%s.scratch", run->id);
  } else
    run->scratch = g_strdup (a->scratch);
  job->scratch = run->scratch;
  return TRUE;
}

static gboolean
check_together (const Run *run, GError **error)
{
  const VmaJobOptions *job = &run->job;

  if (job->sync == VMA_SYNC_NONE && (run->output != NULL || job->mount == NULL))
    return vma_fail (error, VMA_ERROR_INVALID,
                     "--sync none makes no archive: give --mount, and no archive");
  if (job->sync != VMA_SYNC_NONE && run->output == NULL)
    return vma_fail (error, VMA_ERROR_INVALID, "which archive? (or --sync none)");
  if (job->sync != VMA_SYNC_FULL && (job->bitmap != NULL || job->vmstate))
    return vma_fail (error, VMA_ERROR_INVALID, "--bitmap and --vmstate go with --sync full only");
  if (job->sync == VMA_SYNC_TOP && job->base == NULL)
    return vma_fail (error, VMA_ERROR_INVALID,
                     "--sync top needs --incremental, with an archive of what is below");
  if (job->base != NULL && job->bitmap == NULL && job->sync == VMA_SYNC_FULL)
    return vma_fail (error, VMA_ERROR_INVALID, "--incremental needs --bitmap");
  if (job->base != NULL && job->sync == VMA_SYNC_NONE)
    return vma_fail (error, VMA_ERROR_INVALID, "--incremental makes an archive");
  if (job->delta && job->base == NULL)
    return vma_fail (error, VMA_ERROR_INVALID, "--delta needs --incremental");
  if (run->as_json && g_strcmp0 (run->output, "-") == 0)
    return vma_fail (error, VMA_ERROR_INVALID,
                     "--json and an archive on standard output exclude each other");
  return TRUE;
}

static gboolean
parse (Run *run, const Arguments *a, GError **error)
{
  VmaWriterOptions writer = { .ctime = -1 };
  guint8 uuid[VMA_UUID_SIZE];
  VmaJobOptions *job = &run->job;

  if (a->qmp == NULL)
    return vma_fail (error, VMA_ERROR_INVALID, "--qmp is missing");
  run->id = a->id != NULL ? g_strdup (a->id) : vma_id_random ();
  if (!vma_id_is_valid (run->id))
    return vma_fail (error, VMA_ERROR_INVALID,
                     "--id: letters, digits, '-', '_' and '.', at most %d", VMA_ID_MAX);
  if (a->bitmap != NULL && !vma_id_is_valid (a->bitmap))
    return vma_fail (error, VMA_ERROR_INVALID,
                     "--bitmap: letters, digits, '-', '_' and '.', at most %d", VMA_ID_MAX);
  if (a->cbw_timeout < 1 || a->cbw_timeout > MAX_TIMEOUT)
    return vma_fail (error, VMA_ERROR_INVALID, "--cbw-timeout is 1..%d seconds", MAX_TIMEOUT);
  if (a->speed != NULL && !tool_parse_size (a->speed, &job->speed))
    return vma_fail (error, VMA_ERROR_INVALID, "--speed: '%s' is no size", a->speed);
  if (run->output != NULL && !tool_writer_options (&a->writer, run->output, uuid, &writer, error))
    return FALSE;
  run->devices = split_names (a->devices);
  run->exclude = split_names (a->exclude);
  job->id = run->id;
  job->qmp = a->qmp;
  job->output = run->output;
  run->shown_output = is_file (run->output) ? g_canonicalize_filename (run->output, NULL)
                                            : g_strdup (run->output);
  run->shown_mount = a->mount != NULL ? g_canonicalize_filename (a->mount, NULL) : NULL;
  job->shown_output = run->shown_output;
  job->shown_mount = run->shown_mount;
  job->compression = writer.compression;
  job->devices = (const char *const *) run->devices;
  job->exclude = (const char *const *) run->exclude;
  job->mount = a->mount;
  job->base = a->base;
  job->bitmap = a->bitmap;
  job->delta = a->delta;
  job->vmstate = a->vmstate;
  job->cbw_timeout = (guint) a->cbw_timeout;
  return parse_sync (a->sync, &job->sync, error) && parse_scratch (run, a, error)
         && check_together (run, error);
}

static gboolean
read_configs (Run *run, char **configs, GError **error)
{
  for (; configs != NULL && *configs != NULL; configs++) {
    g_autofree char *name = NULL;
    VmaTargetConfig config;
    if (!tool_read_config (*configs, &name, &config.data, error))
      return FALSE;
    config.name = g_steal_pointer (&name);
    g_array_append_val (run->configs, config);
  }
  run->job.configs = (const VmaTargetConfig *) (gpointer) run->configs->data;
  run->job.n_configs = run->configs->len;
  return TRUE;
}

static void
clear_config (gpointer data)
{
  VmaTargetConfig *config = data;

  g_free ((gpointer) config->name);
  g_bytes_unref (config->data);
}

/* --- what it tells --------------------------------------------------------------------------- */

static void
print_event (Run *run, const char *event)
{
  if (!run->as_json)
    return;
  g_autofree char *line = vma_control_event_line (event, vma_job_describe (run->running));
  puts (line);
  fflush (stdout);
}

static void
show_progress (Run *run)
{
  VmaTargetProgress sum;
  GString *remark = g_string_new (NULL);

  vma_job_get_progress (run->running, &sum);
  g_string_append_printf (remark, "%.0f%% zeros", tool_percent (sum.zero, sum.transferred));
  if (sum.cow_requests > 0)
    g_string_append_printf (remark, ", guest writes held %.1f ms (at most %.0f)",
                            (double) sum.cow_ns / (double) sum.cow_requests / 1e6,
                            (double) sum.cow_max_ns / 1e6);
  tool_progress_remark (remark->str);
  g_string_free (remark, TRUE);
  tool_progress_set (sum.transferred);
}

static void
on_tell (gpointer data, const char *event, const char *note)
{
  Run *run = data;
  gint64 now = g_get_monotonic_time ();

  if (note != NULL) {
    tool_error ("note: %s", note);
    return;
  }
  if (strcmp (event, "BACKUP_PROGRESS") == 0) {
    show_progress (run);
    if (now < run->next_progress)
      return;
    run->next_progress = now + G_USEC_PER_SEC;
  } else {
    VmaTargetProgress sum;
    vma_job_get_progress (run->running, &sum);
    tool_progress_start (run->id, sum.total);
    vma_control_emit (run->control, event, vma_job_describe (run->running));
  }
  print_event (run, event);
}

/* --- what others ask ------------------------------------------------------------------------- */

static JsonNode *
handle (gpointer data, VmaClient *client G_GNUC_UNUSED, const char *command, JsonObject *arguments,
        GError **error)
{
  Run *run = data;
  const char *id = vma_json_string (arguments, "id");
  gboolean cancel = strcmp (command, "backup-cancel") == 0;
  gboolean forget = strcmp (command, "backup-forget") == 0;

  if (strcmp (command, "query-backups") == 0)
    return vma_json_list (vma_job_describe (run->running), NULL);
  if (!cancel && !forget && strcmp (command, "backup-set-speed") != 0)
    return vma_control_refuse (error, VMA_CONTROL_NO_COMMAND, "The command %s has not been found",
                               command);
  if (g_strcmp0 (id, run->id) != 0)
    return vma_control_refuse (error, VMA_CONTROL_NO_JOB, "no backup '%s'", id != NULL ? id : "");
  if (forget)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED, "backup '%s' is still running", id);
  if (cancel)
    g_cancellable_cancel (tool_cancellable ());
  else {
    gint64 speed = vma_json_int (arguments, "speed", -1);
    if (speed < 0)
      return vma_control_refuse (error, VMA_CONTROL_REFUSED,
                                 "speed is in bytes a second, 0 for no limit");
    vma_job_set_speed (run->running, (guint64) speed);
  }
  return vma_json_make (NULL, NULL);
}

/* --- the run --------------------------------------------------------------------------------- */

static int
tell_end (Run *run, gboolean done, const GError *error)
{
  const char *event = done ? "BACKUP_COMPLETED" : "BACKUP_FAILED";

  tool_progress_end ();
  vma_control_emit (run->control, event, vma_job_describe (run->running));
  print_event (run, event);
  if (done)
    return TOOL_OK;
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    if (tool_interrupt_exit_status (0) == 0)
      tool_error ("%s: cancelled", run->id);
    else
      tool_error ("interrupted");
    return TOOL_FAILED;
  }
  const char *what = run->output != NULL ? run->output : run->id;
  if (g_str_has_prefix (error->message, what)) /* the output names itself */
    tool_error ("%s", error->message);
  else
    tool_error ("%s: %s", what, error->message);
  return TOOL_FAILED;
}

static int
run_guarded (Run *run, VmaGuard *guard, GError **error)
{
  g_autoptr (GError) why = NULL;
  g_autofree char *path = vma_run_socket (run->run_dir, run->id);

  run->running = vma_job_new (&run->job, guard, on_tell, run);
  run->control = vma_control_start (path, handle, run, error);
  if (run->control == NULL)
    return TOOL_FAILED;
  vma_guard_add_socket (guard, path);
  gboolean done = vma_job_run (run->running, tool_cancellable (), &why);
  tool_interrupt_finish ();
  int status = tell_end (run, done, why);
  vma_control_stop (run->control);
  return status;
}

static int
execute (Run *run)
{
  g_autoptr (GError) error = NULL;
  VmaGuard *guard = NULL;
  int status = TOOL_FAILED;

  run->run_dir = vma_run_dir (&error);
  if (run->run_dir != NULL)
    guard = vma_guard_start (run->job.qmp, run->id, &error);
  if (guard != NULL) {
    /* A backup that is stopped holds the guest up. */
    signal (SIGTSTP, SIG_IGN);
    signal (SIGPIPE, SIG_IGN);
    tool_interrupt_set_grace (GRACE_SECONDS);
    tool_interrupt_start ();
    vma_guard_start_heart (guard);
    status = run_guarded (run, guard, &error);
    g_clear_pointer (&run->running, vma_job_free);
    vma_guard_end (guard);
  }
  if (error != NULL)
    tool_error ("%s", error->message);
  return status;
}

static void
clear_run (Run *run)
{
  g_array_unref (run->configs);
  g_strfreev (run->devices);
  g_strfreev (run->exclude);
  g_free (run->id);
  g_free (run->scratch);
  g_free (run->run_dir);
  g_free (run->shown_output);
  g_free (run->shown_mount);
}

static void
clear_arguments (Arguments *a)
{
  char **strings[] = { &a->qmp,    &a->id,   &a->speed,   &a->mount,         &a->base,
                       &a->bitmap, &a->sync, &a->scratch, &a->scratch_limit, &a->on_full };

  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (*strings[i]);
  g_strfreev (a->configs);
  g_strfreev (a->devices);
  g_strfreev (a->exclude);
  tool_writer_arguments_clear (&a->writer);
}

static char **
parse_command_line (int argc, char **argv, Arguments *a, int *status)
{
  const GOptionEntry entries[] = {
    { "qmp", 0, 0, G_OPTION_ARG_FILENAME, &a->qmp, "QEMU's monitor (QMP), or fd:N", "SOCKET" },
    { "id", 0, 0, G_OPTION_ARG_FILENAME, &a->id, "What to call this backup (default: random)",
      "ID" },
    { "config", 'c', 0, G_OPTION_ARG_FILENAME_ARRAY, &a->configs, "Add a config file",
      "[NAME=]FILE" },
    { "devices", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &a->devices,
      "Only these disks (default: all that are writable)", "A,B" },
    { "exclude", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &a->exclude, "Without these disks", "A,B" },
    { "speed", 0, 0, G_OPTION_ARG_FILENAME, &a->speed,
      "Limit of the background copy, bytes a second and disk", "SIZE" },
    { "compress", 0, 0, G_OPTION_ARG_FILENAME, &a->writer.compress,
      "zstd[:LEVEL], lz4[:LEVEL], none (default: by OUT's name)", "METHOD" },
    { "mount", 0, 0, G_OPTION_ARG_FILENAME, &a->mount,
      "Show the frozen disks here while the backup runs", "DIR" },
    { "incremental", 0, 0, G_OPTION_ARG_FILENAME, &a->base,
      "Read only what changed since this archive", "BASE" },
    { "bitmap", 0, 0, G_OPTION_ARG_FILENAME, &a->bitmap,
      "Note changes from now on, for --incremental next time", "NAME" },
    { "delta", 0, 0, G_OPTION_ARG_NONE, &a->delta, "Write only what changed", NULL },
    { "vmstate", 0, 0, G_OPTION_ARG_NONE, &a->vmstate, "Save memory and devices too", NULL },
    { "sync", 0, 0, G_OPTION_ARG_FILENAME, &a->sync,
      "full, top (the topmost image), none (only --mount)", "WHAT" },
    { "cbw-timeout", 0, 0, G_OPTION_ARG_INT, &a->cbw_timeout,
      "Give up rather than hold a guest's write longer (default: 30)", "SECONDS" },
    { "scratch", 0, 0, G_OPTION_ARG_FILENAME, &a->scratch,
      "Buffer what guest writes push out in FILE, or in so much next to OUT", "FILE|SIZE" },
    { "scratch-limit", 0, 0, G_OPTION_ARG_FILENAME, &a->scratch_limit,
      "How large --scratch FILE may become", "SIZE" },
    { "on-full", 0, 0, G_OPTION_ARG_FILENAME, &a->on_full,
      "When it is full: wait (default), or fail-backup", "WHAT" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &a->as_json, "Print events as JSON lines", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage
      = { "[OUT]",
          "Backs up a running guest.  OUT is a new file, - (standard output), fd:N, or\n"
          "exec:COMMAND.  The guest keeps running; its disks are frozen for the backup\n"
          "within milliseconds.  Ctrl-C cancels, and leaves the guest untouched.",
          entries, 0, 1 };

  return tool_parse (&usage, argc, argv, status);
}

int
backup_run (int argc, char **argv)
{
  Arguments arguments = { .cbw_timeout = 30 };
  Run run = { 0 };
  g_autoptr (GError) error = NULL;
  int status;
  g_auto (GStrv) rest = parse_command_line (argc, argv, &arguments, &status);

  if (rest != NULL) {
    run.output = rest[0];
    run.as_json = arguments.as_json;
    run.configs = g_array_new (FALSE, FALSE, sizeof (VmaTargetConfig));
    g_array_set_clear_func (run.configs, clear_config);
    if (!parse (&run, &arguments, &error))
      status = tool_usage_error (argv[0], "%s", error->message);
    else if (!read_configs (&run, arguments.configs, &error)) {
      tool_error ("%s", error->message);
      status = TOOL_FAILED;
    } else
      status = execute (&run);
    clear_run (&run);
  }
  clear_arguments (&arguments);
  return status;
}
