/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a mount shows: a small, fixed tree of nodes.
 *
 * Owns the nodes; their place in it, counted from the first inode number it was given, is their inode
 * number.  The same archive always makes the same tree.  Nothing changes after it was made, but
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
 *
 * and, where it stands in a mount of a directory, as far as there are such (vma_node_exists()):
 *
 *   /ERROR                 VMA_NODE_ERROR   why the archive cannot be read to its end
 *   /notes, /log           VMA_NODE_BESIDE  files beside the archive
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
  VMA_NODE_ERROR,
  VMA_NODE_BESIDE,
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
  const char *path;    /* VMA_NODE_BESIDE */
};

typedef struct VmaTree VmaTree;

/* Where a tree stands in a mount of a directory.  The strings must outlive the tree. */
typedef struct {
  fuse_ino_t first; /* its root's inode number */
  const char *notes, *log; /* paths of the files that may stand beside the archive */
} VmaTreePlace;

/*
 * `archive` may be NULL where it cannot be opened; `place` is NULL for a tree that is a mount of its
 * own, whose root is FUSE_ROOT_ID.
 */
VmaTree *vma_tree_new (VmaArchive *archive, const VmaTreePlace *place);
void vma_tree_free (VmaTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaTree, vma_tree_free)

/* The node with this inode number, or NULL. */
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
