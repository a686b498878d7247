/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists of mount options: "salvage,index_cache=/a\,b".
 *
 * Pure; for vmafs and the mount helper.
 */
#pragma once

#include <glib.h>

typedef enum {
  VMA_OPTION_LIST_PLAIN = 0,
  /* As mount(8) has it: between double quotes, which are dropped, a comma is no end. */
  VMA_OPTION_LIST_QUOTES = 1 << 0,
} VmaOptionListFlags;

/*
 * The options of a list, unescaped: a comma ends one unless a backslash stands before it.  Empty ones
 * are left out.
 */
GStrv vma_option_list_split (const char *list, VmaOptionListFlags flags);

/* Appends an option to a list, escaped. */
void vma_option_list_append (GString *list, const char *option);
