/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/log.h"

#include "vma/error.h"

#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>

static atomic_bool use_syslog;

void
vma_log (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *message = g_strdup_vprintf (format, args);
  va_end (args);
  if (atomic_load (&use_syslog))
    syslog (LOG_DAEMON | LOG_WARNING, "%s", message);
  else
    fprintf (stderr, "vmafs: %s\n", message);
}

const char *
vma_log_advice (const GError *error)
{
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_DAMAGED)
      || g_error_matches (error, VMA_ERROR, VMA_ERROR_MISSING))
    return " (mount with -o salvage to read the rest)";
  return "";
}

void
vma_log_error (const GError *error)
{
  vma_log ("%s%s", error->message, vma_log_advice (error));
}

/* GLib's messages: notes of the library that belong to no archive. */
static void
on_glib_log (const char *domain G_GNUC_UNUSED, GLogLevelFlags level G_GNUC_UNUSED,
             const char *message, gpointer data G_GNUC_UNUSED)
{
  vma_log ("%s", message);
}

void
vma_log_init (void)
{
  g_log_set_handler (NULL, G_LOG_LEVEL_MESSAGE, on_glib_log, NULL);
}

void
vma_log_prepare_syslog (void)
{
  openlog ("vmafs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void
vma_log_forget_syslog (void)
{
  closelog ();
}

void
vma_log_to_syslog (void)
{
  atomic_store (&use_syslog, TRUE);
}
