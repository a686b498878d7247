/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/tree.h"

#include <string.h>

struct VmaTree {
  GPtrArray *nodes; /* by inode number - FUSE_ROOT_ID; owned */
};

static void
node_free (VmaNode *node)
{
  g_free (node->name);
  g_clear_pointer (&node->children, g_ptr_array_unref);
  g_free (node);
}

static VmaNode *
node_new (VmaTree *tree, VmaNode *parent, VmaNodeKind kind, const char *name)
{
  VmaNode *node = g_new0 (VmaNode, 1);

  node->ino = FUSE_ROOT_ID + tree->nodes->len;
  node->kind = kind;
  node->name = g_strdup (name);
  node->parent = parent != NULL ? parent : node;
  if (kind == VMA_NODE_DIR)
    node->children = g_ptr_array_new ();
  g_ptr_array_add (tree->nodes, node);
  if (parent != NULL)
    g_ptr_array_add (parent->children, node);
  return node;
}

VmaTree *
vma_tree_new (VmaArchive *archive)
{
  VmaTree *tree = g_new0 (VmaTree, 1);
  const VmaHeader *header = vma_archive_header (archive);
  const VmaNames *names = vma_archive_names (archive);

  tree->nodes = g_ptr_array_new_with_free_func ((GDestroyNotify) node_free);
  VmaNode *root = node_new (tree, NULL, VMA_NODE_DIR, "");
  for (guint i = 0; i < header->configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (header->configs, i);
    VmaNode *node = node_new (tree, root, VMA_NODE_TEXT, vma_names_config (names, i));
    node->text = config->data;
  }
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    VmaNode *node
        = node_new (tree, root, VMA_NODE_IMAGE, vma_names_device (names, device->id));
    node->image = vma_archive_image (archive, device->id);
  }
  VmaNode *control = node_new (tree, root, VMA_NODE_DIR, ".vmafs");
  control->hidden = TRUE;
  node_new (tree, control, VMA_NODE_STATUS, "status");
  node_new (tree, control, VMA_NODE_ERRORS, "errors");
  return tree;
}

void
vma_tree_free (VmaTree *tree)
{
  g_ptr_array_unref (tree->nodes);
  g_free (tree);
}

VmaNode *
vma_tree_node (VmaTree *tree, fuse_ino_t ino)
{
  if (ino < FUSE_ROOT_ID || ino - FUSE_ROOT_ID >= tree->nodes->len)
    return NULL;
  return g_ptr_array_index (tree->nodes, ino - FUSE_ROOT_ID);
}

VmaNode *
vma_tree_lookup (VmaNode *dir, const char *name)
{
  for (guint i = 0; dir->children != NULL && i < dir->children->len; i++) {
    VmaNode *node = g_ptr_array_index (dir->children, i);
    if (strcmp (node->name, name) == 0)
      return node;
  }
  return NULL;
}

guint
vma_tree_size (VmaTree *tree)
{
  return tree->nodes->len;
}
