/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/tree.h"

#include <limits.h>
#include <stdatomic.h>
#include <string.h>

struct VmaTree {
  fuse_ino_t first;
  GPtrArray *nodes; /* by inode number - first; owned */
  VmaNode outside;  /* the directory that the tree stands in */
};

static void
node_free (VmaNode *node)
{
  g_free (node->name);
  GPtrArray *windows = atomic_load (&node->windows);

  if (node->image != NULL && vma_image_is_window (node->image))
    vma_image_free_window (node->image);
  g_clear_pointer (&windows, g_ptr_array_unref);
  g_clear_pointer (&node->children, g_ptr_array_unref);
  g_free (node);
}

static VmaNode *
node_new (VmaTree *tree, VmaNode *parent, VmaNodeKind kind, const char *name)
{
  VmaNode *node = g_new0 (VmaNode, 1);

  node->ino = tree->first + tree->nodes->len;
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

static void
add_content (VmaTree *tree, VmaNode *root, VmaArchive *archive)
{
  const VmaHeader *header = vma_archive_header (archive);
  const VmaNames *names = vma_archive_names (archive);

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
}

/* A node of ours beside the archive's own, which keep their names. */
static VmaNode *
add_beside (VmaTree *tree, VmaNode *root, VmaNodeKind kind, const char *wanted)
{
  g_autofree char *name = g_strdup (wanted);

  for (guint n = 2; vma_tree_lookup (root, name) != NULL; n++) {
    g_free (name);
    name = g_strdup_printf ("%s~%u", wanted, n);
  }
  return node_new (tree, root, kind, name);
}

VmaTree *
vma_tree_new (VmaArchive *archive, const VmaTreePlace *place)
{
  VmaTree *tree = g_new0 (VmaTree, 1);

  tree->first = place != NULL ? place->first : FUSE_ROOT_ID;
  tree->nodes = g_ptr_array_new_with_free_func ((GDestroyNotify) node_free);
  VmaNode *root = node_new (tree, NULL, VMA_NODE_DIR, "");
  if (archive != NULL)
    add_content (tree, root, archive);
  if (place != NULL) {
    tree->outside = (VmaNode){ .ino = FUSE_ROOT_ID, .kind = VMA_NODE_DIR };
    root->parent = &tree->outside;
    add_beside (tree, root, VMA_NODE_ERROR, "ERROR");
    add_beside (tree, root, VMA_NODE_BESIDE, "notes")->path = place->notes;
    add_beside (tree, root, VMA_NODE_BESIDE, "log")->path = place->log;
  }
  VmaNode *control = node_new (tree, root, VMA_NODE_DIR, ".vmafs");
  control->hidden = TRUE;
  node_new (tree, control, VMA_NODE_STATUS, "status");
  node_new (tree, control, VMA_NODE_ERRORS, "errors");
  return tree;
}

void
vma_tree_add_windows (VmaTree *tree, GPtrArray *windows)
{
  VmaNode *root = g_ptr_array_index (tree->nodes, 0);
  GPtrArray *nodes = g_ptr_array_new_with_free_func ((GDestroyNotify) node_free);

  for (guint i = 0; i < windows->len; i++) {
    VmaTreeWindow *window = g_ptr_array_index (windows, i);
    VmaNode *node = g_new0 (VmaNode, 1);

    node->ino = tree->first + tree->nodes->len + i;
    node->kind = VMA_NODE_IMAGE;
    node->name = window->name;
    node->parent = root;
    node->image = window->image;
    /* A config may be called the same; and names beyond this cannot be looked up. */
    node->hidden = vma_tree_lookup (root, node->name) != NULL || strlen (node->name) > NAME_MAX;
    g_ptr_array_add (nodes, node);
    g_free (window);
  }
  g_ptr_array_unref (windows);
  atomic_store_explicit (&root->windows, nodes, memory_order_release);
}

void
vma_tree_free (VmaTree *tree)
{
  g_ptr_array_unref (tree->nodes);
  g_free (tree);
}

static GPtrArray *
windows_of (const VmaNode *dir)
{
  return atomic_load_explicit (&dir->windows, memory_order_acquire);
}

VmaNode *
vma_tree_node (VmaTree *tree, fuse_ino_t ino)
{
  if (ino < tree->first)
    return NULL;
  if (ino - tree->first < tree->nodes->len)
    return g_ptr_array_index (tree->nodes, ino - tree->first);
  const GPtrArray *windows = windows_of (g_ptr_array_index (tree->nodes, 0));
  ino -= tree->first + tree->nodes->len;
  return windows != NULL && ino < windows->len ? g_ptr_array_index (windows, ino) : NULL;
}

VmaNode *
vma_tree_child (const VmaNode *dir, guint i)
{
  if (dir->children == NULL)
    return NULL;
  if (i < dir->children->len)
    return g_ptr_array_index (dir->children, i);
  const GPtrArray *windows = windows_of (dir);
  i -= dir->children->len;
  return windows != NULL && i < windows->len ? g_ptr_array_index (windows, i) : NULL;
}

VmaNode *
vma_tree_lookup (VmaNode *dir, const char *name)
{
  VmaNode *node;

  for (guint i = 0; (node = vma_tree_child (dir, i)) != NULL; i++)
    if (strcmp (node->name, name) == 0)
      return node;
  return NULL;
}

guint
vma_tree_size (VmaTree *tree)
{
  const GPtrArray *windows = windows_of (g_ptr_array_index (tree->nodes, 0));

  return tree->nodes->len + (windows != NULL ? windows->len : 0);
}
