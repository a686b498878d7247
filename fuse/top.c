/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/top.h"

#include "fuse/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* For how long the kernel may believe what we say: archives come and go. */
#define VALID 1.0

enum { TOP_ROOT = FUSE_ROOT_ID, TOP_CONTROL, TOP_STATUS, TOP_ERRORS };

static VmaOwner
owner_of (VmaDirectory *directory, const struct stat *file)
{
  return vma_owner_of (file, vma_directory_options (directory));
}

/* The attributes of an archive's directory, whose file is `file`. */
static void
archive_stat (VmaDirectory *directory, fuse_ino_t ino, const struct stat *file, struct stat *st)
{
  VmaOwner owner = owner_of (directory, file);

  *st = (struct stat){
    .st_ino = ino,
    .st_uid = owner.uid,
    .st_gid = owner.gid,
    .st_mode = S_IFDIR | owner.mode | (owner.mode & 0444) >> 2,
    .st_nlink = 3,
    .st_blksize = 65536,
    .st_mtim = file->st_mtim,
    .st_ctim = file->st_mtim,
    .st_atim = file->st_mtim,
  };
}

/* The attributes of any of the nodes here; FALSE: there is no such archive. */
static gboolean
top_stat (VmaDirectory *directory, fuse_ino_t ino, struct stat *st)
{
  struct stat file;

  if (vma_directory_is_top (ino))
    vma_directory_stat (directory, &file);
  else if (!vma_directory_find_ino (directory, ino, &file))
    return FALSE;
  archive_stat (directory, ino, &file, st);
  if (ino == TOP_STATUS || ino == TOP_ERRORS) {
    st->st_mode = S_IFREG | owner_of (directory, &file).mode;
    st->st_nlink = 1;
  }
  return TRUE;
}

static void
reply_entry (VmaDirectory *directory, fuse_req_t req, fuse_ino_t ino)
{
  struct fuse_entry_param entry = { .ino = ino, .entry_timeout = VALID, .attr_timeout = VALID };

  if (top_stat (directory, ino, &entry.attr))
    fuse_reply_entry (req, &entry);
  else
    fuse_reply_err (req, ENOENT);
}

void
vma_top_lookup (VmaDirectory *directory, const VmaRequest *request)
{
  fuse_ino_t ino = 0;
  struct stat file;

  if (request->ino == TOP_CONTROL)
    ino = strcmp (request->name, "status") == 0   ? TOP_STATUS
          : strcmp (request->name, "errors") == 0 ? TOP_ERRORS
                                                  : 0;
  else if (request->ino != TOP_ROOT) {
    fuse_reply_err (request->req, ENOTDIR);
    return;
  } else if (strcmp (request->name, ".vmafs") == 0)
    ino = TOP_CONTROL;
  else if (!vma_directory_find (directory, request->name, &ino, &file))
    ino = 0;
  if (ino == 0)
    fuse_reply_err (request->req, ENOENT);
  else
    reply_entry (directory, request->req, ino);
}

void
vma_top_getattr (VmaDirectory *directory, const VmaRequest *request)
{
  struct stat st;

  if (top_stat (directory, request->ino, &st))
    fuse_reply_attr (request->req, &st, VALID);
  else
    fuse_reply_err (request->req, ESTALE);
}

void
vma_top_statfs (VmaDirectory *directory, const VmaRequest *request)
{
  struct statvfs st = { 0 };

  /* Of what holds the archives: the size of their disks is not known without opening all. */
  if (statvfs (vma_directory_path (directory), &st) != 0) {
    fuse_reply_err (request->req, errno);
    return;
  }
  st.f_bfree = st.f_bavail = st.f_ffree = st.f_favail = 0;
  st.f_flag = ST_RDONLY;
  st.f_namemax = 255;
  fuse_reply_statfs (request->req, &st);
}

/* --- the list --------------------------------------------------------------------------------- */

void
vma_top_opendir (VmaDirectory *directory, const VmaRequest *request)
{
  struct fuse_file_info file = request->file;
  g_autofree VmaListing *listing = g_new0 (VmaListing, 1);

  if (request->ino != TOP_ROOT && request->ino != TOP_CONTROL) {
    fuse_reply_err (request->req, ENOTDIR);
    return;
  }
  /* Made once for each reader, so that a change does not make it see a name twice or never. */
  if (request->ino == TOP_ROOT && !vma_directory_list (directory, listing)) {
    fuse_reply_err (request->req, EIO);
    return;
  }
  file.fh = (guint64) (guintptr) g_steal_pointer (&listing);
  if (fuse_reply_open (request->req, &file) == -ENOENT) /* interrupted: nobody will release it */
    vma_top_releasedir (&file);
}

void
vma_top_releasedir (const struct fuse_file_info *file)
{
  VmaListing *listing = (VmaListing *) (guintptr) file->fh;

  vma_listing_clear (listing);
  g_free (listing);
}

/* The i-th name of a directory, and its inode number and type.  FALSE behind the last. */
static gboolean
top_entry (const VmaRequest *request, guint64 i, const char **name, struct stat *st)
{
  static const char *const control[] = { ".", "..", "status", "errors" };
  static const fuse_ino_t control_inos[] = { TOP_CONTROL, TOP_ROOT, TOP_STATUS, TOP_ERRORS };
  const VmaListing *listing = (const VmaListing *) (guintptr) request->file.fh;

  st->st_mode = S_IFDIR;
  if (request->ino == TOP_CONTROL) {
    if (i >= G_N_ELEMENTS (control))
      return FALSE;
    *name = control[i];
    st->st_ino = control_inos[i];
    if (i >= 2)
      st->st_mode = S_IFREG;
  } else if (i < 2) {
    *name = control[i];
    st->st_ino = TOP_ROOT;
  } else {
    if (i - 2 >= listing->names->len)
      return FALSE;
    *name = g_ptr_array_index (listing->names, i - 2);
    st->st_ino = g_array_index (listing->inos, fuse_ino_t, i - 2);
  }
  return TRUE;
}

void
vma_top_readdir (VmaDirectory *directory G_GNUC_UNUSED, const VmaRequest *request)
{
  g_autofree char *buffer = g_malloc (request->size);
  gsize used = 0;
  const char *name;
  struct stat st = { 0 };

  for (guint64 i = request->offset; top_entry (request, i, &name, &st); i++) {
    gsize n = fuse_add_direntry (request->req, buffer + used, request->size - used, name, &st,
                                 (off_t) i + 1);
    if (n > request->size - used)
      break;
    used += n;
  }
  fuse_reply_buf (request->req, buffer, used);
}

/* --- status and errors ------------------------------------------------------------------------ */

void
vma_top_open (VmaDirectory *directory, const VmaRequest *request)
{
  struct fuse_file_info file = request->file;

  if (request->ino != TOP_STATUS && request->ino != TOP_ERRORS)
    fuse_reply_err (request->req, EISDIR);
  else if ((file.flags & O_ACCMODE) != O_RDONLY)
    fuse_reply_err (request->req, EROFS);
  else
    vma_text_reply_open (request->req, &file,
                         request->ino == TOP_STATUS ? vma_directory_status (directory)
                                                    : vma_directory_error_list (directory));
}

void
vma_top_release (const struct fuse_file_info *file)
{
  vma_text_release (file);
}

void
vma_top_read (VmaDirectory *directory G_GNUC_UNUSED, const VmaRequest *request)
{
  vma_text_reply_read (request, NULL);
}

void
vma_top_xattr (VmaDirectory *directory G_GNUC_UNUSED, const VmaRequest *request)
{
  if (request->name != NULL)
    fuse_reply_err (request->req, ENODATA);
  else if (request->size == 0)
    fuse_reply_xattr (request->req, 0);
  else
    fuse_reply_buf (request->req, NULL, 0);
}
