/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a mount shows: a small, fixed tree of nodes.
 *
 * Owns the nodes; their number is their inode number.  Nothing changes after the tree was made, but
 * that windows appear, once and all together; so any thread may walk it.
 *
 *   /                      VMA_NODE_DIR
 *   /disk-NAME.raw         VMA_NODE_IMAGE   a device
 *   /disk-NAME.p2.raw      VMA_NODE_IMAGE   a partition, with -o parts
 *   /vmstate.bin           VMA_NODE_IMAGE
 *   /CONFIG                VMA_NODE_TEXT    a config
 *   /.vmafs                VMA_NODE_DIR     not listed
 *   /.vmafs/status         VMA_NODE_STATUS  JSON, made when opened
 *   /.vmafs/errors         VMA_NODE_ERRORS  text, made when opened
 */
#pragma once

#include "image/image.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

typedef enum {
  VMA_NODE_DIR,
  VMA_NODE_IMAGE,
  VMA_NODE_TEXT,
  VMA_NODE_STATUS,
  VMA_NODE_ERRORS,
} VmaNodeKind;

typedef struct VmaNode VmaNode;
struct VmaNode {
  fuse_ino_t ino;
  VmaNodeKind kind;
  char *name;
  gboolean hidden;     /* found by name, but not listed */
  VmaNode *parent;     /* the root is its own */
  GPtrArray *children; /* VMA_NODE_DIR: VmaNode *, in the order they are listed */
  VmaImage *image;     /* VMA_NODE_IMAGE */
  _Atomic (GPtrArray *) windows; /* of the root: children that came later; NULL: none yet */
  GBytes *text;        /* VMA_NODE_TEXT */
};

typedef struct VmaTree VmaTree;

VmaTree *vma_tree_new (VmaArchive *archive);
void vma_tree_free (VmaTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaTree, vma_tree_free)

/* The node with this inode number, or NULL.  FUSE_ROOT_ID is the root. */
VmaNode *vma_tree_node (VmaTree *tree, fuse_ino_t ino);
VmaNode *vma_tree_lookup (VmaNode *dir, const char *name);
/* The i-th child of a directory, or NULL behind the last. */
VmaNode *vma_tree_child (const VmaNode *dir, guint i);

/* Shows these windows from now on: VmaTreeWindow *, which it takes.  Once, by one thread. */
typedef struct {
  char *name;
  VmaImage *image; /* a window */
} VmaTreeWindow;

void vma_tree_add_windows (VmaTree *tree, GPtrArray *windows);

guint vma_tree_size (VmaTree *tree);
