/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text in which LVM keeps its metadata: sections { }, values "...", 123 and [ ... ].
 *
 * Pure; input is hostile: depth and number of items are bounded.  A node belongs to its parent.
 */
#pragma once

#include <glib.h>

typedef struct VmaLvmNode VmaLvmNode;
struct VmaLvmNode {
  char *name;
  GPtrArray *children; /* of a section: VmaLvmNode *; NULL: a value */
  GPtrArray *values;   /* char *: strings without their quotes, and numbers */
};

/* NULL with VMA_ERROR_DAMAGED.  The root has no name. */
VmaLvmNode *vma_lvm_text_parse (const char *text, gsize size, GError **error);
void vma_lvm_node_free (VmaLvmNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaLvmNode, vma_lvm_node_free)

/* The section or value of that name in a section; NULL where there is none. */
const VmaLvmNode *vma_lvm_node_section (const VmaLvmNode *node, const char *name);
const char *vma_lvm_node_string (const VmaLvmNode *node, const char *name, guint i);
gboolean vma_lvm_node_number (const VmaLvmNode *node, const char *name, guint i, guint64 *number);
