/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/ext-files.h"

#include "vma/error.h"

#include <limits.h>
#include <string.h>

#define MAX_ENTRIES (16u * 1024 * 1024)
#define MAX_LINK    4096u

/* --- attributes -------------------------------------------------------------------------------- */

/* Seconds are signed; two more bits, and the nanoseconds, stand in a field that old inodes do not have. */
static struct timespec
timestamp (guint32 seconds, gboolean has_extra, guint32 extra)
{
  struct timespec t = { .tv_sec = (time_t) (gint32) seconds };

  if (has_extra) {
    t.tv_sec = (time_t) ((gint64) (gint32) seconds + ((gint64) (extra & 3) << 32));
    t.tv_nsec = MIN (extra >> 2, 999999999);
  }
  return t;
}

gboolean
vma_ext_stat (VmaExt *ext, ext2_ino_t ino, const char *shown, VmaExtStat *st, GError **error)
{
  ext2_filsys fs = vma_ext_fs (ext);
  struct ext2_inode_large inode = { 0 };
  errcode_t code = ext2fs_read_inode_full (fs, ino, (struct ext2_inode *) &inode, sizeof inode);

  if (code != 0) {
    vma_ext_set_error (ext, code, error, "%s", shown);
    return FALSE;
  }
  gsize extra = EXT2_INODE_SIZE (fs->super) > EXT2_GOOD_OLD_INODE_SIZE ? inode.i_extra_isize : 0;
  extra += EXT2_GOOD_OLD_INODE_SIZE;
#define HAS(field)                                                                                 \
  (extra >= G_STRUCT_OFFSET (struct ext2_inode_large, field) + sizeof inode.field)
  *st = (VmaExtStat){
    .ino = ino,
    .mode = inode.i_mode,
    .uid = inode_uid (inode),
    .gid = inode_gid (inode),
    .nlink = inode.i_links_count,
    .size = EXT2_I_SIZE (&inode),
    .blocks = ext2fs_get_stat_i_blocks (fs, (struct ext2_inode *) &inode),
    .atime = timestamp (inode.i_atime, HAS (i_atime_extra), inode.i_atime_extra),
    .mtime = timestamp (inode.i_mtime, HAS (i_mtime_extra), inode.i_mtime_extra),
    .ctime = timestamp (inode.i_ctime, HAS (i_ctime_extra), inode.i_ctime_extra),
  };
#undef HAS
  if (S_ISBLK (st->mode) || S_ISCHR (st->mode)) {
    guint32 old = inode.i_block[0], new = inode.i_block[1];
    st->major = old != 0 ? old >> 8 & 0xff : (new & 0xfff00) >> 8;
    st->minor = old != 0 ? old & 0xff : (new & 0xff) | (new >> 12 & 0xfff00);
  }
  return TRUE;
}

/* --- names ------------------------------------------------------------------------------------- */

gboolean
vma_ext_lookup (VmaExt *ext, const char *path, gboolean follow, ext2_ino_t *ino, GError **error)
{
  ext2_filsys fs = vma_ext_fs (ext);
  errcode_t code = follow ? ext2fs_namei_follow (fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ino)
                          : ext2fs_namei (fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ino);

  if (code == 0)
    return TRUE;
  /* On the way there stands something that is no directory. */
  vma_ext_set_error (ext, code == EXT2_ET_NO_DIRECTORY ? EXT2_ET_FILE_NOT_FOUND : code, error, "%s",
                     path);
  return FALSE;
}

gboolean
vma_ext_name_is_sane (const char *name)
{
  return *name != '\0' && strcmp (name, ".") != 0 && strcmp (name, "..") != 0
         && strchr (name, '/') == NULL && strlen (name) <= NAME_MAX;
}

static void
entry_free (VmaExtEntry *entry)
{
  g_free (entry->name);
  g_free (entry);
}

static int
by_name (gconstpointer a, gconstpointer b)
{
  const VmaExtEntry *const *v = a, *const *w = b;

  return strcmp ((*v)->name, (*w)->name);
}

static int
on_entry (struct ext2_dir_entry *dirent, int offset G_GNUC_UNUSED, int block_size G_GNUC_UNUSED,
          char *buffer G_GNUC_UNUSED, void *data)
{
  GPtrArray *entries = data;
  int length = ext2fs_dirent_name_len (dirent);

  /* A name with a zero byte in it ends there; the program that made it lied to the guest, too. */
  g_autofree char *name = g_strndup (dirent->name, (gsize) length);
  if (dirent->inode == 0 || strcmp (name, ".") == 0 || strcmp (name, "..") == 0)
    return 0;
  if (entries->len == MAX_ENTRIES)
    return DIRENT_ABORT;
  VmaExtEntry *entry = g_new0 (VmaExtEntry, 1);
  entry->name = g_steal_pointer (&name);
  entry->ino = dirent->inode;
  g_ptr_array_add (entries, entry);
  return 0;
}

GPtrArray *
vma_ext_read_dir (VmaExt *ext, ext2_ino_t ino, const char *shown, GError **error)
{
  g_autoptr (GPtrArray) entries = g_ptr_array_new_with_free_func ((GDestroyNotify) entry_free);
  errcode_t code = ext2fs_dir_iterate (vma_ext_fs (ext), ino, 0, NULL, on_entry, entries);

  if (code == 0 && entries->len == MAX_ENTRIES)
    code = EXT2_ET_DIR_CORRUPTED;
  if (code != 0) {
    vma_ext_set_error (ext, code, error, "%s", shown);
    return NULL;
  }
  g_ptr_array_sort (entries, by_name);
  return g_steal_pointer (&entries);
}

/* --- symlinks ---------------------------------------------------------------------------------- */

static gboolean
append (gpointer data, const void *bytes, gsize size, guint64 offset, GError **error G_GNUC_UNUSED)
{
  char *target = data;

  memcpy (target + offset, bytes, size); /* the file's size was checked, and is not exceeded */
  return TRUE;
}

char *
vma_ext_readlink (VmaExt *ext, const VmaExtStat *st, const char *shown, GError **error)
{
  struct ext2_inode inode;
  errcode_t code = ext2fs_read_inode (vma_ext_fs (ext), st->ino, &inode);

  if (code == 0 && (st->size == 0 || st->size >= MAX_LINK || EXT2_I_SIZE (&inode) != st->size))
    code = EXT2_ET_INVALID_ARGUMENT;
  if (code != 0) {
    vma_ext_set_error (ext, code, error, "%s: cannot read the symbolic link", shown);
    return NULL;
  }
  g_autofree char *target = g_malloc0 (MAX_LINK);
  if (ext2fs_is_fast_symlink (&inode) && st->size < sizeof inode.i_block)
    memcpy (target, inode.i_block, st->size);
  else if (!vma_ext_read (ext, st->ino, shown, append, target, error))
    return NULL;
  return g_steal_pointer (&target);
}

/* --- extended attributes ----------------------------------------------------------------------- */

typedef struct {
  VmaExtXattr func;
  gpointer data;
  GError *error;
} Xattrs;

static int
on_xattr (char *name, char *value, size_t size, void *data)
{
  Xattrs *xattrs = data;

  if (strcmp (name, "system.data") == 0) /* a small file's content */
    return 0;
  return xattrs->func (xattrs->data, name, value, size, &xattrs->error) ? 0 : XATTR_ABORT;
}

gboolean
vma_ext_xattrs (VmaExt *ext, ext2_ino_t ino, const char *shown, VmaExtXattr func, gpointer data,
                GError **error)
{
  Xattrs xattrs = { .func = func, .data = data };
  struct ext2_xattr_handle *handle = NULL;
  errcode_t code = ext2fs_xattrs_open (vma_ext_fs (ext), ino, &handle);

  if (code == 0)
    code = ext2fs_xattrs_read (handle);
  if (code == 0)
    code = ext2fs_xattrs_iterate (handle, on_xattr, &xattrs);
  if (handle != NULL)
    ext2fs_xattrs_close (&handle);
  if (xattrs.error != NULL) {
    g_propagate_error (error, xattrs.error);
    return FALSE;
  }
  if (code == 0)
    return TRUE;
  vma_ext_set_error (ext, code, error, "%s: extended attributes", shown);
  return FALSE;
}
