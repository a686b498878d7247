/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/options.h"

#include "tool/command.h"
#include "tool/message.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
tool_usage_error (const char *command, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  tool_error ("%s: %s (%s %s --help)", command, text, tool_name (), command);
  return TOOL_USAGE;
}

static void
print_help (GOptionContext *context, const char *command)
{
  g_autofree char *called = g_strdup_printf ("%s %s", tool_name (), command);

  /* GLib's usage line begins with the program's name. */
  g_set_prgname (called);
  g_autofree char *help = g_option_context_get_help (context, TRUE, NULL);
  fputs (help, stdout);
}

/* Whether `text` is a short option of one letter and its value in one word, which GLib does not know. */
static gboolean
is_joined (const char *text, const GOptionEntry *entries)
{
  if (text[0] != '-' || text[1] == '-' || text[1] == '\0' || text[2] == '\0')
    return FALSE;
  for (; entries->long_name != NULL; entries++)
    if (entries->short_name == text[1])
      return entries->arg != G_OPTION_ARG_NONE;
  return FALSE;
}

/* argv with "-j2" as "-j", "2". */
static char **
split_joined (char **argv, const GOptionEntry *entries)
{
  GPtrArray *words = g_ptr_array_new ();
  gboolean options = TRUE;

  for (; *argv != NULL; argv++) {
    options = options && strcmp (*argv, "--") != 0;
    if (options && is_joined (*argv, entries)) {
      g_ptr_array_add (words, g_strndup (*argv, 2));
      g_ptr_array_add (words, g_strdup (*argv + 2));
    } else
      g_ptr_array_add (words, g_strdup (*argv));
  }
  g_ptr_array_add (words, NULL);
  return (char **) g_ptr_array_free (words, FALSE);
}

char **
tool_parse (const ToolUsage *usage, int argc G_GNUC_UNUSED, char **argv, int *status)
{
  g_auto (GStrv) arguments = NULL;
  gboolean help = FALSE;
  const GOptionEntry common[] = {
    { "help", 'h', 0, G_OPTION_ARG_NONE, &help, "Show this help", NULL },
    { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &arguments, NULL, NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (usage->arguments);
  g_autoptr (GError) error = NULL;
  const char *command = argv[0];
  g_auto (GStrv) words = split_joined (argv, usage->entries);

  g_option_context_set_help_enabled (context, FALSE);
  g_option_context_set_summary (context, usage->about);
  g_option_context_add_main_entries (context, usage->entries, NULL);
  g_option_context_add_main_entries (context, common, NULL);
  if (!g_option_context_parse_strv (context, &words, &error)) {
    *status = tool_usage_error (command, "%s", error->message);
    return NULL;
  }
  if (help) {
    print_help (context, command);
    *status = TOOL_OK;
    return NULL;
  }
  guint given = arguments != NULL ? g_strv_length (arguments) : 0;
  if (given < usage->min || given > usage->max) {
    *status = given < usage->min
                  ? tool_usage_error (command, "missing argument: %s", usage->arguments)
                  : tool_usage_error (command, "too many arguments%s%s",
                                      *usage->arguments != '\0' ? ": " : "", usage->arguments);
    return NULL;
  }
  return arguments != NULL ? g_steal_pointer (&arguments) : g_new0 (char *, 1);
}
