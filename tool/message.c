/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/message.h"

#include "tool/command.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "vma/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static char *name;

/* GLib's messages: notes of the library that belong to no archive. */
static void
on_glib_log (const char *domain G_GNUC_UNUSED, GLogLevelFlags level G_GNUC_UNUSED,
             const char *message, gpointer data G_GNUC_UNUSED)
{
  tool_error ("note: %s", message);
}

void
tool_set_name (const char *argv0)
{
  name = g_path_get_basename (argv0 != NULL ? argv0 : "vmatool");
  g_set_prgname (name);
  g_log_set_handler (NULL, G_LOG_LEVEL_MESSAGE, on_glib_log, NULL);
}

const char *
tool_name (void)
{
  return name;
}

void
tool_error (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  /* File names may hold anything; one line is one line. */
  for (char *p = text; *p != '\0'; p++)
    if ((guchar) *p < 0x20 || *p == 0x7f)
      *p = '?';
  tool_progress_erase ();
  fprintf (stderr, "%s: %s\n", name, text);
}

int
tool_fail (const GError *error, const char *salvage_advice)
{
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED))
    tool_error ("interrupted");
  else if (salvage_advice != NULL
           && (g_error_matches (error, VMA_ERROR, VMA_ERROR_DAMAGED)
               || g_error_matches (error, VMA_ERROR, VMA_ERROR_MISSING)))
    tool_error ("%s (%s)", error->message, salvage_advice);
  else
    tool_error ("%s", error->message);
  return tool_interrupt_exit_status (TOOL_FAILED);
}

void
tool_report (gpointer data G_GNUC_UNUSED, const GError *what)
{
  tool_error ("note: %s", what->message);
}

int
tool_close_stdout (int status)
{
  if (fflush (stdout) == 0 && !ferror (stdout))
    return status;
  tool_error ("cannot write to standard output: %s", g_strerror (errno));
  return status == TOOL_OK ? TOOL_FAILED : status;
}
