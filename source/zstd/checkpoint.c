/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/checkpoint.h"

#include "source/zstd/frame.h"
#include "source/zstd/varint.h"

#include "vma/error.h"

#include <string.h>

/* Whoever changes the serialised form changes this. */
#define VERSION 1

enum { FLAG_CHECKSUM = 1, FLAG_BLOCKS = 2, FLAG_ENDS = 4 };

/* Beyond so many exceptions the list is given up: blocks are read one by one then. */
#define LIST_MAX 16384

static void
append_bytes (GByteArray *to, const guint8 *bytes, gsize size)
{
  vma_varint_append (to, size);
  g_byte_array_append (to, bytes, (guint)size);
}

GBytes *
vma_zstd_checkpoint_serialise (const VmaZstdCheckpoint *checkpoint)
{
  const VmaZstdBlocks *blocks = &checkpoint->blocks;
  GByteArray *to = g_byte_array_sized_new ((guint)checkpoint->packed_size + 512);
  guint8 head[2] = { VERSION, 0 };

  head[1] = (guint8)((checkpoint->checksum ? FLAG_CHECKSUM : 0) | (blocks->known ? FLAG_BLOCKS : 0)
                     | (blocks->ends ? FLAG_ENDS : 0));
  g_byte_array_append (to, head, sizeof head);
  vma_varint_append (to, checkpoint->window);
  vma_varint_append (to, checkpoint->position);
  for (guint i = 0; i < G_N_ELEMENTS (checkpoint->repeats.offset); i++)
    vma_varint_append (to, checkpoint->repeats.offset[i]);
  append_bytes (to, checkpoint->tables.huffman, checkpoint->tables.huffman_size);
  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++) {
    vma_varint_append (to, checkpoint->tables.fse[i].kind);
    append_bytes (to, checkpoint->tables.fse[i].description, checkpoint->tables.fse[i].size);
  }
  if (blocks->known) {
    vma_varint_append (to, blocks->size);
    vma_varint_append (to, blocks->count);
    append_bytes (to, blocks->list, blocks->list_size);
  }
  vma_varint_append (to, checkpoint->content);
  vma_varint_append (to, checkpoint->unpacked);
  append_bytes (to, checkpoint->packed, checkpoint->packed_size);
  return g_byte_array_free_to_bytes (to);
}

static void
parse_table (VmaCursor *cursor, VmaZstdAlphabet alphabet, VmaZstdTable *table)
{
  guint64 kind = vma_cursor_varint (cursor);
  guint64 size = vma_cursor_varint (cursor);
  const guint8 *description = vma_cursor_bytes (cursor, size);
  VmaZstdCounts counts;
  VmaZstdFse fse;

  if (cursor->bad || kind > VMA_ZSTD_TABLE_FSE || size > sizeof table->description) {
    cursor->bad = TRUE;
    return;
  }
  table->kind = (guint8)kind;
  table->size = (guint8)size;
  memcpy (table->description, description, size);
  if (kind == VMA_ZSTD_TABLE_FSE)
    cursor->bad |= vma_zstd_counts_parse (description, size, alphabet, &counts) != size;
  else if (kind == VMA_ZSTD_TABLE_RLE)
    cursor->bad |= size != 1 || !vma_zstd_fse_build_rle (&fse, alphabet, description[0]);
  else
    cursor->bad |= size != 0;
}

static void
parse_tables (VmaCursor *cursor, VmaZstdTables *tables)
{
  guint64 size = vma_cursor_varint (cursor);
  const guint8 *huffman = vma_cursor_bytes (cursor, size);

  vma_zstd_tables_reset (tables);
  if (cursor->bad || size > sizeof tables->huffman) {
    cursor->bad = TRUE;
    return;
  }
  tables->huffman_size = (guint8)size;
  memcpy (tables->huffman, huffman, size);
  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++)
    parse_table (cursor, (VmaZstdAlphabet)i, &tables->fse[i]);
}

static void
parse_blocks (VmaCursor *cursor, guint flags, VmaZstdBlocks *blocks)
{
  VmaCursor list = { 0 };

  *blocks
      = (VmaZstdBlocks){ .known = (flags & FLAG_BLOCKS) != 0, .ends = (flags & FLAG_ENDS) != 0 };
  if (!blocks->known)
    return;
  blocks->size = vma_cursor_varint (cursor);
  guint64 count = vma_cursor_varint (cursor);
  blocks->list_size = vma_cursor_varint (cursor);
  blocks->list = vma_cursor_bytes (cursor, blocks->list_size);
  blocks->count = (guint32)count;
  cursor->bad |= count > LIST_MAX || blocks->size > G_MAXINT64;
  if (cursor->bad)
    return;
  list = (VmaCursor){ blocks->list, blocks->list_size, FALSE };
  for (guint64 i = 0; i < count && !list.bad; i++) {
    vma_cursor_varint (&list);
    list.bad |= vma_cursor_varint (&list) > VMA_ZSTD_BLOCK_MAX;
  }
  cursor->bad |= list.bad || list.size != 0;
}

gboolean
vma_zstd_checkpoint_parse (const guint8 *state, gsize size, VmaZstdCheckpoint *checkpoint,
                           GError **error)
{
  VmaCursor cursor = { state, size, FALSE };
  const guint8 *head = vma_cursor_bytes (&cursor, 2);

  *checkpoint = (VmaZstdCheckpoint){ 0 };
  if (head == NULL || head[0] != VERSION)
    goto bad;
  checkpoint->checksum = (head[1] & FLAG_CHECKSUM) != 0;
  checkpoint->window = vma_cursor_varint (&cursor);
  checkpoint->position = vma_cursor_varint (&cursor);
  guint64 reach = MIN (checkpoint->window, checkpoint->position);
  for (guint i = 0; i < G_N_ELEMENTS (checkpoint->repeats.offset); i++) {
    guint64 offset = vma_cursor_varint (&cursor);
    cursor.bad |= offset == 0 || offset > reach || offset > G_MAXUINT32;
    checkpoint->repeats.offset[i] = (guint32)offset;
  }
  parse_tables (&cursor, &checkpoint->tables);
  parse_blocks (&cursor, head[1], &checkpoint->blocks);

  checkpoint->content = vma_cursor_varint (&cursor);
  guint64 unpacked = vma_cursor_varint (&cursor);
  guint64 packed = vma_cursor_varint (&cursor);
  checkpoint->packed = vma_cursor_bytes (&cursor, packed);
  checkpoint->packed_size = (gsize)packed;
  checkpoint->unpacked = (gsize)unpacked;
  if (cursor.bad || cursor.size != 0 || checkpoint->window > VMA_ZSTD_WINDOW_MAX
      || checkpoint->position > G_MAXINT64 || checkpoint->content > reach)
    goto bad;
  for (guint i = 0; i < G_N_ELEMENTS (checkpoint->repeats.offset); i++)
    if (checkpoint->repeats.offset[i] > checkpoint->content)
      goto bad;
  /* A run is a byte at least, and what describes it is not more than its gap and two bytes. */
  if (unpacked > 3 * checkpoint->content + 16)
    goto bad;
  return TRUE;

bad:
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED, "a saved decoder state is not valid");
  return FALSE;
}

void
vma_zstd_block_sizes_begin (VmaZstdBlockSizes *sizes, const VmaZstdBlocks *blocks)
{
  VmaCursor cursor = { blocks->list, blocks->list_size, FALSE };

  sizes->blocks = *blocks;
  sizes->skip = G_MAXUINT64;
  if (blocks->count == 0)
    return;
  sizes->skip = vma_cursor_varint (&cursor);
  sizes->blocks.list = cursor.data;
  sizes->blocks.list_size = cursor.size;
}

guint32
vma_zstd_block_sizes_next (VmaZstdBlockSizes *sizes)
{
  VmaCursor cursor = { sizes->blocks.list, sizes->blocks.list_size, FALSE };
  guint32 size;

  if (sizes->skip > 0) {
    sizes->skip--;
    return VMA_ZSTD_BLOCK_MAX;
  }
  size = (guint32)vma_cursor_varint (&cursor);
  sizes->blocks.list = cursor.data;
  sizes->blocks.list_size = cursor.size;
  sizes->blocks.count--;
  vma_zstd_block_sizes_begin (sizes, &sizes->blocks);
  return size;
}

void
vma_zstd_block_list_clear (VmaZstdBlockList *list)
{
  if (list->list == NULL)
    list->list = g_byte_array_new ();
  g_byte_array_set_size (list->list, 0);
  list->blocks = (VmaZstdBlocks){ .known = TRUE };
  list->skipped = 0;
}

void
vma_zstd_block_list_add (VmaZstdBlockList *list, gboolean compressed, guint32 size)
{
  list->blocks.size += size;
  if (!compressed || !list->blocks.known)
    return;
  if (size == VMA_ZSTD_BLOCK_MAX) {
    list->skipped++;
    return;
  }
  if (list->blocks.count == LIST_MAX) {
    list->blocks.known = FALSE;
    return;
  }
  vma_varint_append (list->list, list->skipped);
  vma_varint_append (list->list, size);
  list->blocks.count++;
  list->skipped = 0;
}
