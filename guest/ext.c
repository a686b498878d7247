/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/ext.h"

#include "guest/journal.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <stdarg.h>
#include <string.h>

#define PIECE (1024u * 1024)

struct VmaExt {
  const VmaGuestVolume *volume;
  GCancellable *cancellable;
  ext2_filsys fs;
  GError *failure; /* the image's, of the last read that failed */
  VmaJournal *journal;   /* read instead of what is in place; NULL: nothing */
  char *journal_problem;
  guint block_size;      /* known with the journal */
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
  /* There is room for it.  NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.strcpy) */
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

/* Exactly `size` bytes of the volume as it is. */
static errcode_t
read_image (VmaExt *ext, guint64 offset, gsize size, void *buffer)
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

/* Puts a block from the journal where its older self was read to; only the part that was. */
static errcode_t
patch_block (VmaExt *ext, guint64 block, guint64 place, gboolean escaped, guint64 offset,
             gsize size, guint8 *buffer)
{
  g_autofree guint8 *newer = g_malloc (ext->block_size);
  errcode_t code = read_image (ext, place * ext->block_size, ext->block_size, newer);

  if (code != 0)
    return code;
  if (escaped)
    vma_put_be32 (newer, VMA_JOURNAL_MAGIC);
  guint64 start = block * ext->block_size;
  guint64 from = MAX (start, offset), to = MIN (start + ext->block_size, offset + size);
  memcpy (buffer + (from - offset), newer + (from - start), to - from);
  return 0;
}

/* The volume as it is once its journal was carried out. */
static errcode_t
read_volume (VmaExt *ext, guint64 offset, gsize size, void *buffer)
{
  errcode_t code = read_image (ext, offset, size, buffer);
  guint64 place;
  gboolean escaped;

  if (code != 0 || ext->journal == NULL || size == 0)
    return code;
  guint64 last = (offset + size - 1) / ext->block_size;
  for (guint64 block = offset / ext->block_size; block <= last && code == 0; block++)
    if (vma_journal_find (ext->journal, block, &place, &escaped))
      code = patch_block (ext, block, place, escaped, offset, size, buffer);
  return code;
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

static errcode_t
open_fs (VmaExt *ext)
{
  opening = ext;
  errcode_t code = ext2fs_open ("image", EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES, 0, 0,
                                &manager, &ext->fs);
  opening = NULL;
  if (code != 0)
    ext->fs = NULL;
  return code;
}

/* --- the journal ------------------------------------------------------------------------------- */

/* A VmaJournalPlace. */
static gboolean
find_place (gpointer data, guint32 block, guint64 *place)
{
  VmaExt *ext = data;
  int flags;
  blk64_t found = 0;

  if (ext2fs_bmap2 (ext->fs, ext->fs->super->s_journal_inum, NULL, NULL, 0, block, &flags, &found)
          != 0
      || found == 0 || found >= ext2fs_blocks_count (ext->fs->super))
    return FALSE;
  *place = found;
  return TRUE;
}

/* A VmaJournalRead. */
static gboolean
read_journal (gpointer data, guint32 block, guint8 *buffer, GError **error)
{
  VmaExt *ext = data;
  guint64 place;

  if (!find_place (ext, block, &place)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "the journal: a block of it has no place");
    return FALSE;
  }
  errcode_t code = read_image (ext, place * ext->block_size, ext->block_size, buffer);
  if (code != 0)
    vma_ext_set_error (ext, code, error, "the journal");
  return code == 0;
}

/* Loads the journal; what hinders that is kept as the problem. */
static void
load_journal (VmaExt *ext)
{
  g_autoptr (GError) error = NULL;
  const struct ext2_super_block *super = ext->fs->super;

  ext->block_size = ext->fs->blocksize;
  if (super->s_journal_inum == 0)
    g_set_error (&error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "the journal: stands on another disk");
  else
    ext->journal = vma_journal_load (read_journal, ext, ext->block_size,
                                     ext2fs_blocks_count (ext->fs->super), &error);
  if (ext->journal != NULL && !vma_journal_resolve (ext->journal, find_place, ext)) {
    g_clear_pointer (&ext->journal, vma_journal_free);
    g_set_error (&error, VMA_ERROR, VMA_ERROR_DAMAGED, "the journal: a block of it has no place");
  }
  if (error != NULL)
    ext->journal_problem = g_strdup (error->message);
  else
    ext->journal_problem = g_strdup (vma_journal_problem (ext->journal));
}

/*
 * The journal of a file system that was in use is carried out: in memory, by reading blocks from there.
 * Where that cannot be done the file system is read as it stands.
 */
static errcode_t
carry_out_journal (VmaExt *ext)
{
  load_journal (ext);
  if (ext->journal == NULL || vma_journal_size (ext->journal) == 0)
    return 0;
  ext2fs_close_free (&ext->fs);
  errcode_t code = open_fs (ext);
  if (code == 0)
    return 0;
  g_free (ext->journal_problem);
  ext->journal_problem = g_strdup_printf ("the journal: %s", error_message (code));
  g_clear_pointer (&ext->journal, vma_journal_free);
  return open_fs (ext);
}

VmaExt *
vma_ext_open (const VmaGuestVolume *volume, GCancellable *cancellable, GError **error)
{
  g_autoptr (VmaExt) ext = g_new0 (VmaExt, 1);

  initialize_ext2_error_table ();
  ext->volume = volume;
  ext->cancellable = cancellable;
  errcode_t code = open_fs (ext);
  if (code == 0 && ext2fs_has_feature_journal_needs_recovery (ext->fs->super))
    code = carry_out_journal (ext);
  if (code == 0)
    return g_steal_pointer (&ext);
  vma_ext_set_error (ext, code, error, "cannot read the file system");
  return NULL;
}

void
vma_ext_free (VmaExt *ext)
{
  if (ext->fs != NULL)
    ext2fs_close_free (&ext->fs);
  g_clear_pointer (&ext->journal, vma_journal_free);
  g_free (ext->journal_problem);
  g_clear_error (&ext->failure);
  g_free (ext);
}

ext2_filsys
vma_ext_fs (VmaExt *ext)
{
  return ext->fs;
}

const char *
vma_ext_journal_problem (VmaExt *ext)
{
  return ext->journal_problem;
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
