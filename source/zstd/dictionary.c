/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/dictionary.h"

#include "source/zstd/window.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>

#define DICTIONARY_MAGIC 0xEC30A437u

/* Any number will do: frames do not name it. */
#define DICTIONARY_ID 1u

#define HEAD_MAX                                                                                   \
  (8 + VMA_ZSTD_HUFFMAN_DESCRIPTION_MAX + VMA_ZSTD_ALPHABETS * VMA_ZSTD_FSE_DESCRIPTION_MAX + 12)

static guint8 *
put (guint8 *to, const guint8 *bytes, gsize size)
{
  memcpy (to, bytes, size);
  return to + size;
}

/* Everything before the content. */
static gsize
write_head (const VmaZstdCheckpoint *checkpoint, guint8 head[HEAD_MAX])
{
  /* One weight, for two symbols of one bit each: something valid where nothing will be used. */
  static const guint8 no_huffman[2] = { 0x80, 0x10 };
  const VmaZstdTables *tables = &checkpoint->tables;
  guint8 *at = head + 8;

  vma_put_le32 (head, DICTIONARY_MAGIC);
  vma_put_le32 (head + 4, DICTIONARY_ID);
  if (tables->huffman_size > 0)
    at = put (at, tables->huffman, tables->huffman_size);
  else
    at = put (at, no_huffman, sizeof no_huffman);
  for (guint i = 0; i < VMA_ZSTD_ALPHABETS; i++) {
    const VmaZstdTable *table = &tables->fse[i];
    gsize size;
    const guint8 *predefined = vma_zstd_fse_predefined ((VmaZstdAlphabet)i, &size);

    /* A table of one symbol cannot be here: see vma_zstd_tables_pin(). */
    if (table->kind == VMA_ZSTD_TABLE_FSE)
      at = put (at, table->description, table->size);
    else
      at = put (at, predefined, size);
  }
  for (guint i = 0; i < G_N_ELEMENTS (checkpoint->repeats.offset); i++, at += 4)
    vma_put_le32 (at, checkpoint->repeats.offset[i]);
  return (gsize)(at - head);
}

guint8 *
vma_zstd_dictionary_new (const VmaZstdCheckpoint *checkpoint, guint64 memory, gsize *size,
                         GError **error)
{
  guint8 head[HEAD_MAX];
  gsize head_size = write_head (checkpoint, head);
  g_autofree guint8 *dictionary = NULL;

  if (checkpoint->content > memory || checkpoint->unpacked > memory - checkpoint->content) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "a window of %" G_GUINT64_FORMAT " MiB takes more memory than the memory limit allows",
                 checkpoint->window >> 20);
    return NULL;
  }
  *size = head_size + (gsize)checkpoint->content;
  dictionary = g_try_malloc0 (*size);
  if (dictionary == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                 "no memory for a window of %" G_GUINT64_FORMAT " MiB", checkpoint->window >> 20);
    return NULL;
  }
  memcpy (dictionary, head, head_size);
  if (!vma_zstd_window_unpack (checkpoint->packed, checkpoint->packed_size, checkpoint->unpacked,
                               dictionary + head_size, (gsize)checkpoint->content)) {
    g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                         "the window of a saved decoder state is not valid");
    return NULL;
  }
  return g_steal_pointer (&dictionary);
}
