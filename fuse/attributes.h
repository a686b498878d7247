/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The attributes of nodes, plain and extended.  Any thread.
 */
#pragma once

#include "fuse/mounted.h"

#include <sys/stat.h>

#define VMA_FOREVER  86400.0 /* seconds: what never changes is true for that long */
#define VMA_MAX_READ (1024u * 1024u)

/* Fills *st, and returns for how many seconds it holds.  An image's size must be known. */
double vma_node_stat (VmaMounted *mounted, VmaNode *node, struct stat *st);

/* Whether a node is there now: some come and go. */
gboolean vma_node_exists (VmaMounted *mounted, const VmaNode *node);

/* The value of an extended attribute, or NULL; the caller frees it. */
char *vma_node_xattr (VmaMounted *mounted, const VmaNode *node, const char *name);

/* The names of its extended attributes, each with its NUL. */
const char *vma_node_xattr_names (const VmaNode *node, gsize *size);
