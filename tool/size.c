/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/size.h"

#include <string.h>

static const char units[] = "KMGTPE";

char *
tool_format_size (guint64 bytes)
{
  double value = (double) bytes;
  int unit = -1;

  /* 999.5 and above would be printed with four digits. */
  while (value >= 999.5 && unit + 1 < (int) strlen (units)) {
    value /= 1024;
    unit++;
  }
  if (unit < 0)
    return g_strdup_printf ("%" G_GUINT64_FORMAT " B", bytes);
  return g_strdup_printf ("%.*f %ciB", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, units[unit]);
}

gboolean
tool_parse_size (const char *text, guint64 *bytes)
{
  char *end;

  if (!g_ascii_isdigit (text[0]))
    return FALSE;
  guint64 number = g_ascii_strtoull (text, &end, 10);
  guint shift = 0;
  if (*end != '\0') {
    const char *unit = strchr (units, g_ascii_toupper (*end));
    if (unit == NULL)
      return FALSE;
    shift = 10 * (guint) (unit - units + 1);
    end++;
    if (*end != '\0' && g_ascii_strcasecmp (end, "iB") != 0 && g_ascii_strcasecmp (end, "B") != 0)
      return FALSE;
  }
  if (number > G_MAXUINT64 >> shift)
    return FALSE;
  *bytes = number << shift;
  return TRUE;
}

double
tool_percent (guint64 part, guint64 whole)
{
  return whole > 0 ? 100.0 * (double) part / (double) whole : 0;
}
