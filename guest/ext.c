/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/ext.h"

#include "vma/error.h"

#include <stdarg.h>
#include <string.h>

#define PIECE (1024u * 1024)

struct VmaExt {
  const VmaGuestVolume *volume;
  GCancellable *cancellable;
  ext2_filsys fs;
  GError *failure; /* the image's, of the last read that failed */
};

/* --- the io_manager ---------------------------------------------------------------------------- */

/* Which one io_open() is for: its arguments are just a name. */
static _Thread_local VmaExt *opening;

static struct struct_io_manager manager;

static errcode_t
io_open (const char *name, int flags, io_channel *channel)
{
  struct struct_io_channel *io;

  if ((flags & IO_FLAG_RW) != 0)
    return EXT2_ET_RO_FILSYS;
  errcode_t code = ext2fs_get_mem (sizeof *io, &io);
  if (code != 0)
    return code;
  *io = (struct struct_io_channel){
    .magic = EXT2_ET_MAGIC_IO_CHANNEL,
    .manager = &manager,
    .block_size = 1024,
    .refcount = 1,
    .private_data = opening,
  };
  code = ext2fs_get_mem (strlen (name) + 1, &io->name);
  if (code != 0) {
    ext2fs_free_mem (&io);
    return code;
  }
  strcpy (io->name, name);
  *channel = io;
  return 0;
}

static errcode_t
io_close (io_channel io)
{
  if (--io->refcount > 0)
    return 0;
  ext2fs_free_mem (&io->name);
  ext2fs_free_mem (&io);
  return 0;
}

static errcode_t
io_set_blksize (io_channel io, int size)
{
  io->block_size = size;
  return 0;
}

/* Exactly `size` bytes of the volume. */
static errcode_t
read_volume (VmaExt *ext, guint64 offset, gsize size, void *buffer)
{
  g_autoptr (GError) error = NULL;
  const VmaGuestVolume *v = ext->volume;

  if (offset > v->length || size > v->length - offset)
    return EXT2_ET_SHORT_READ;
  if (vma_image_pread (v->image, buffer, size, v->offset + offset, ext->cancellable, &error)
      == (gssize) size)
    return 0;
  if (error == NULL)
    return EXT2_ET_SHORT_READ;
  g_clear_error (&ext->failure);
  ext->failure = g_steal_pointer (&error);
  return EXT2_ET_SHORT_READ;
}

/* A negative count is one of bytes. */
static errcode_t
io_read64 (io_channel io, unsigned long long block, int count, void *buffer)
{
  guint64 offset;
  gsize size = count < 0 ? (gsize) - (gint64) count : (gsize) count * (gsize) io->block_size;

  if (!g_uint64_checked_mul (&offset, block, (guint64) io->block_size))
    return EXT2_ET_SHORT_READ;
  return read_volume (io->private_data, offset, size, buffer);
}

static errcode_t
io_read (io_channel io, unsigned long block, int count, void *buffer)
{
  return io_read64 (io, block, count, buffer);
}

static errcode_t
io_write64 (io_channel io G_GNUC_UNUSED, unsigned long long block G_GNUC_UNUSED,
            int count G_GNUC_UNUSED, const void *buffer G_GNUC_UNUSED)
{
  return EXT2_ET_RO_FILSYS;
}

static errcode_t
io_write (io_channel io G_GNUC_UNUSED, unsigned long block G_GNUC_UNUSED, int count G_GNUC_UNUSED,
          const void *buffer G_GNUC_UNUSED)
{
  return EXT2_ET_RO_FILSYS;
}

static errcode_t
io_flush (io_channel io G_GNUC_UNUSED)
{
  return 0;
}

static struct struct_io_manager manager = {
  .magic = EXT2_ET_MAGIC_IO_MANAGER,
  .name = "VMA image",
  .open = io_open,
  .close = io_close,
  .set_blksize = io_set_blksize,
  .read_blk = io_read,
  .read_blk64 = io_read64,
  .write_blk = io_write,
  .write_blk64 = io_write64,
  .flush = io_flush,
};

/* --- opening ----------------------------------------------------------------------------------- */

gboolean
vma_ext_is (const VmaGuestVolume *volume)
{
  return volume->is_window && volume->fs_type != NULL
         && (strcmp (volume->fs_type, "ext2") == 0 || strcmp (volume->fs_type, "ext3") == 0
             || strcmp (volume->fs_type, "ext4") == 0);
}

void
vma_ext_set_error (VmaExt *ext, errcode_t code, GError **error, const char *format, ...)
{
  VmaArchive *archive = vma_image_archive (ext->volume->image);
  const char *disk
      = vma_names_device (vma_archive_names (archive), vma_image_device (ext->volume->image)->id);
  va_list arguments;

  if (ext->failure != NULL && g_error_matches (ext->failure, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    g_propagate_error (error, g_steal_pointer (&ext->failure));
    return;
  }
  va_start (arguments, format);
  g_autofree char *what = g_strdup_vprintf (format, arguments);
  va_end (arguments);
  if (ext->failure != NULL) { /* begins with the archive's path, and says which disk */
    g_propagate_prefixed_error (error, g_steal_pointer (&ext->failure), "%s: ", what);
    return;
  }
  gboolean is_absent = code == EXT2_ET_FILE_NOT_FOUND;
  g_set_error (error, VMA_ERROR, is_absent ? VMA_ERROR_INVALID : VMA_ERROR_DAMAGED,
               "%s: %s/%s: %s: %s", vma_archive_path (archive), disk, ext->volume->name, what,
               is_absent ? "no such file or directory" : error_message (code));
}

VmaExt *
vma_ext_open (const VmaGuestVolume *volume, GCancellable *cancellable, GError **error)
{
  g_autoptr (VmaExt) ext = g_new0 (VmaExt, 1);

  initialize_ext2_error_table ();
  ext->volume = volume;
  ext->cancellable = cancellable;
  opening = ext;
  errcode_t code = ext2fs_open ("image", EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES, 0, 0,
                                &manager, &ext->fs);
  opening = NULL;
  if (code == 0)
    return g_steal_pointer (&ext);
  ext->fs = NULL;
  vma_ext_set_error (ext, code, error, "cannot read the file system");
  return NULL;
}

void
vma_ext_free (VmaExt *ext)
{
  if (ext->fs != NULL)
    ext2fs_close_free (&ext->fs);
  g_clear_error (&ext->failure);
  g_free (ext);
}

ext2_filsys
vma_ext_fs (VmaExt *ext)
{
  return ext->fs;
}

gboolean
vma_ext_journal_is_dirty (VmaExt *ext)
{
  return ext2fs_has_feature_journal_needs_recovery (ext->fs->super);
}

/* --- the data of a file ------------------------------------------------------------------------ */

typedef struct {
  VmaExt *ext;
  VmaExtSink sink;
  gpointer data;
  guint64 size;          /* of the file */
  guint64 next;          /* blocks below it were seen */
  guint64 run, run_block, run_length; /* what was put together: blocks of the file, of the disk */
  guint8 *buffer;
  errcode_t code;
  GError *error;         /* the sink's */
} Reading;

/* Gives the sink what was put together.  FALSE: see `code` and `error`. */
static gboolean
flush_run (Reading *r)
{
  guint64 block_size = r->ext->fs->blocksize;
  guint64 at = r->run * block_size, from = r->run_block * block_size;
  guint64 end = MIN ((r->run + r->run_length) * block_size, r->size);

  r->run_length = 0;
  while (at < end) {
    gsize n = (gsize) MIN (PIECE, end - at);
    r->code = read_volume (r->ext, from, n, r->buffer);
    if (r->code != 0 || !r->sink (r->data, r->buffer, n, at, &r->error))
      return FALSE;
    at += n;
    from += n;
  }
  return TRUE;
}

/* `length` blocks of the file from `logical` on stand at `physical`. */
static gboolean
add_run (Reading *r, guint64 logical, guint64 physical, guint64 length)
{
  guint64 blocks = ext2fs_blocks_count (r->ext->fs->super);

  if (logical < r->next || physical == 0 || physical >= blocks || length > blocks - physical
      || logical > G_MAXUINT32) {
    r->code = EXT2_ET_BAD_BLOCK_NUM;
    return FALSE;
  }
  r->next = logical + length;
  if (r->run_length > 0 && r->run + r->run_length == logical
      && r->run_block + r->run_length == physical) {
    r->run_length += length;
    return TRUE;
  }
  if (!flush_run (r))
    return FALSE;
  r->run = logical;
  r->run_block = physical;
  r->run_length = length;
  return TRUE;
}

static gboolean
read_extents (Reading *r, ext2_ino_t ino, struct ext2_inode *inode)
{
  ext2_extent_handle_t handle;
  struct ext2fs_extent extent;
  gboolean ok = TRUE;

  r->code = ext2fs_extent_open2 (r->ext->fs, ino, inode, &handle);
  if (r->code != 0)
    return FALSE;
  r->code = ext2fs_extent_get (handle, EXT2_EXTENT_ROOT, &extent);
  while (ok && r->code == 0) {
    if ((extent.e_flags & EXT2_EXTENT_FLAGS_LEAF) != 0
        && (extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT) == 0
        && (extent.e_flags & EXT2_EXTENT_FLAGS_SECOND_VISIT) == 0)
      ok = add_run (r, extent.e_lblk, extent.e_pblk, extent.e_len);
    if (ok)
      r->code = ext2fs_extent_get (handle, EXT2_EXTENT_NEXT, &extent);
  }
  ext2fs_extent_free (handle);
  if (r->code == EXT2_ET_EXTENT_NO_NEXT || r->code == EXT2_ET_NO_CURRENT_NODE)
    r->code = 0; /* the end; an empty file has not even a first one */
  return ok && r->code == 0;
}

static int
on_block (ext2_filsys fs G_GNUC_UNUSED, blk64_t *block, e2_blkcnt_t logical,
          blk64_t ref_block G_GNUC_UNUSED, int ref_offset G_GNUC_UNUSED, void *data)
{
  return add_run (data, (guint64) logical, *block, 1) ? 0 : BLOCK_ABORT;
}

static gboolean
read_blocks (Reading *r, ext2_ino_t ino)
{
  errcode_t code = ext2fs_block_iterate3 (r->ext->fs, ino,
                                          BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY, NULL,
                                          on_block, r);

  if (r->code == 0)
    r->code = code;
  return r->code == 0 && r->error == NULL;
}

/* A small file, whose data stand in the inode. */
static gboolean
read_inline (Reading *r, ext2_ino_t ino)
{
  size_t size = 0;

  r->code = ext2fs_inline_data_size (r->ext->fs, ino, &size);
  if (r->code != 0)
    return FALSE;
  if (size > PIECE || r->size > size) {
    r->code = EXT2_ET_BAD_EA_BLOCK_NUM;
    return FALSE;
  }
  r->code = ext2fs_inline_data_get (r->ext->fs, ino, NULL, r->buffer, &size);
  return r->code == 0
         && (r->size == 0 || r->sink (r->data, r->buffer, (gsize) r->size, 0, &r->error));
}

gboolean
vma_ext_read (VmaExt *ext, ext2_ino_t ino, const char *shown, VmaExtSink sink, gpointer data,
              GError **error)
{
  g_autofree guint8 *buffer = g_malloc (PIECE);
  Reading r = { .ext = ext, .sink = sink, .data = data, .buffer = buffer };
  struct ext2_inode inode;
  gboolean ok = FALSE;

  r.code = ext2fs_read_inode (ext->fs, ino, &inode);
  if (r.code == 0) {
    r.size = EXT2_I_SIZE (&inode);
    if ((inode.i_flags & EXT4_INLINE_DATA_FL) != 0)
      ok = read_inline (&r, ino);
    else if ((inode.i_flags & EXT4_EXTENTS_FL) != 0)
      ok = read_extents (&r, ino, &inode) && flush_run (&r);
    else
      ok = read_blocks (&r, ino) && flush_run (&r);
  }
  if (ok)
    return TRUE;
  if (r.error != NULL)
    g_propagate_error (error, r.error);
  else
    vma_ext_set_error (ext, r.code, error, "%s", shown);
  return FALSE;
}
