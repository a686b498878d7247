/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vma/error.h"

#include <stdarg.h>

GQuark
vma_error_quark (void)
{
  return g_quark_from_static_string ("vma-error");
}

void
vma_set_errno_error (GError **error, int errnum, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: %s", what, g_strerror (errnum));
}
