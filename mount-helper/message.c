/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/message.h"

#include "vma/error.h"

#include <libmount.h>
#include <stdarg.h>
#include <stdio.h>

static const char *program = "mount.vmafs";

G_DEFINE_QUARK (vmafs - helper - error, helper_error)

void
helper_set_name (const char *name)
{
  program = name;
}

/* Paths and labels may hold anything; one line is one line. */
static void
print_line (FILE *out, const char *text)
{
  g_autofree char *line = g_strdup (text);

  for (char *p = line; *p != '\0'; p++)
    if ((guchar) *p < 0x20 || *p == 0x7f)
      *p = '?';
  fprintf (out, "%s: %s\n", program, line);
}

void
helper_say (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  print_line (stdout, text);
}

int
helper_fail (const GError *error)
{
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    print_line (stderr, "interrupted");
    return MNT_EX_USER;
  }
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_DAMAGED)
      || g_error_matches (error, VMA_ERROR, VMA_ERROR_MISSING)) {
    g_autofree char *text
        = g_strconcat (error->message, " (mount with -o salvage to read the rest)", NULL);
    print_line (stderr, text);
  } else if (*error->message != '\0')
    print_line (stderr, error->message);
  return error->domain == HELPER_ERROR ? error->code : MNT_EX_FAIL;
}

void
helper_set_errno (GError **error, int status, int errnum, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (error, HELPER_ERROR, status, "%s: %s", what, g_strerror (errnum));
}

void
helper_set_interrupted (GError **error)
{
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
}
