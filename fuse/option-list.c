/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/option-list.h"

GStrv
vma_option_list_split (const char *list, VmaOptionListFlags flags)
{
  g_autoptr (GStrvBuilder) options = g_strv_builder_new ();
  g_autoptr (GString) option = g_string_new (NULL);
  gboolean quoted = FALSE;

  for (const char *p = list;; p++) {
    if (*p == '\\' && p[1] != '\0')
      g_string_append_c (option, *++p);
    else if (*p == '"' && (flags & VMA_OPTION_LIST_QUOTES))
      quoted = !quoted;
    else if (*p != '\0' && (*p != ',' || quoted))
      g_string_append_c (option, *p);
    else {
      if (option->len > 0)
        g_strv_builder_add (options, option->str);
      if (*p == '\0')
        return g_strv_builder_end (options);
      g_string_truncate (option, 0);
    }
  }
}

void
vma_option_list_append (GString *list, const char *option)
{
  if (list->len > 0)
    g_string_append_c (list, ',');
  for (const char *p = option; *p != '\0'; p++) {
    if (*p == ',' || *p == '\\')
      g_string_append_c (list, '\\');
    g_string_append_c (list, *p);
  }
}
