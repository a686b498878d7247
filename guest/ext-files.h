/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files of an ext file system: by path, with their attributes and names.
 *
 * What comes from the guest is hostile: names may hold a slash or be "..", directories may contain
 * themselves, sizes are what they like.  Numbers of entries are bounded; names are returned as they are, and
 * vma_ext_name_is_sane() tells whether a file can have one.  `shown` is what a message calls the file.
 * As for VmaExt, one thread at a time.
 */
#pragma once

#include "guest/ext.h"

#include <sys/stat.h>
#include <time.h>

typedef struct {
  ext2_ino_t ino;
  mode_t mode;
  uid_t uid;
  gid_t gid;
  guint nlink;
  guint64 size;
  guint64 blocks; /* of 512 bytes */
  struct timespec atime, mtime, ctime;
  guint major, minor; /* of a device */
} VmaExtStat;

gboolean vma_ext_stat (VmaExt *ext, ext2_ino_t ino, const char *shown, VmaExtStat *st,
                       GError **error);

/* Follows symlinks inside the guest only; the last one if `follow`.  VMA_ERROR_INVALID: no such file. */
gboolean vma_ext_lookup (VmaExt *ext, const char *path, gboolean follow, ext2_ino_t *ino,
                         GError **error);

typedef struct {
  char *name;
  ext2_ino_t ino;
} VmaExtEntry;

/* The entries of a directory by name, without "." and "..": VmaExtEntry *. */
GPtrArray *vma_ext_read_dir (VmaExt *ext, ext2_ino_t ino, const char *shown, GError **error);

gboolean vma_ext_name_is_sane (const char *name);

char *vma_ext_readlink (VmaExt *ext, const VmaExtStat *st, const char *shown, GError **error);

/* Calls `func` for each extended attribute, until it returns FALSE with an error. */
typedef gboolean (*VmaExtXattr) (gpointer data, const char *name, const void *value, gsize size,
                                 GError **error);
gboolean vma_ext_xattrs (VmaExt *ext, ext2_ino_t ino, const char *shown, VmaExtXattr func,
                         gpointer data, GError **error);
