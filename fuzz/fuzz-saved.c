/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved index of which every checksum is right, and nothing else need be.
 *
 * Input: u16 n, n bytes that become the table (uncompressed), and the rest, which are the pages.
 * Offsets in the table count from the start of the file, so pages begin at 112.
 */
#include "fuzz/standalone.h"
#include "index/saved-format.h"
#include "tests/unit/synth.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* The table as the input has it, with the hashes of its pages put right. */
static GByteArray *
make_table (const guint8 *bytes, gsize size, const GByteArray *file)
{
  g_autoptr (SavedMeta) meta = saved_meta_read (bytes, size);

  if (meta == NULL) {
    GByteArray *table = g_byte_array_new ();
    return g_byte_array_append (table, bytes, (guint) size);
  }
  for (guint id = 0; id < VMA_MAX_DEVICES; id++) {
    GArray *pages = meta->devices[id].pages;
    for (guint i = 0; pages != NULL && i < pages->len; i++) {
      SavedPage *page = &g_array_index (pages, SavedPage, i);
      if (page->offset <= file->len && page->size <= file->len - page->offset)
        page->hash = XXH3_64bits (file->data + page->offset, page->size);
    }
  }
  return saved_meta_write (meta);
}

static GByteArray *
make_file (const guint8 *bytes, gsize size, const VmaIndexKey *key)
{
  GByteArray *file = g_byte_array_new ();
  SavedHeader header = { .key = *key };
  gsize n = size >= 2 ? MIN (bytes[0] * 256u + bytes[1], size - 2) : 0;

  g_byte_array_set_size (file, SAVED_HEADER_SIZE);
  if (size >= 2)
    g_byte_array_append (file, bytes + 2 + n, (guint) (size - 2 - n));
  memset (file->data, 0, SAVED_HEADER_SIZE);
  g_autoptr (GByteArray) table = make_table (bytes + MIN (size, 2), n, file);
  int bound = LZ4_compressBound ((int) table->len);
  g_autofree char *stored = g_malloc ((gsize) bound);
  header.meta_offset = file->len;
  header.meta_size = table->len;
  header.meta_stored = (guint64) LZ4_compress_default ((const char *) table->data, stored,
                                                       (int) table->len, bound);
  header.meta_hash = XXH3_64bits (stored, header.meta_stored);
  g_byte_array_append (file, (const guint8 *) stored, (guint) header.meta_stored);
  saved_header_write (&header, file->data);
  return file;
}

static const VmaHeader *
fuzz_header (void)
{
  static VmaHeader *header;

  if (header == NULL) {
    g_autoptr (SynthHeader) builder = synth_header_new ();
    synth_header_device (builder, 1, "drive-scsi0", 5000 * G_GUINT64_CONSTANT (65536));
    synth_header_device (builder, 9, "drive-scsi1", 512);
    g_autoptr (GByteArray) bytes = synth_header_bytes (builder);
    header = vma_header_parse (bytes->data, bytes->len, NULL);
  }
  return header;
}

/* Also with nobody to check: anything may come out, but it must come out. */
static void
touch_all (VmaIndex *index)
{
  const VmaHeader *header = fuzz_header ();

  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    for (guint64 cluster = 0, end; cluster < device->clusters; cluster = end) {
      vma_map_get_run (vma_index_map (index, device->id), cluster, &end);
      if (end <= cluster || end > device->clusters)
        g_error ("a run that ends at %" G_GUINT64_FORMAT, end);
    }
  }
  g_ptr_array_unref (vma_index_dup_damage (index));
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  static const VmaIndexKey key;
  static char path[64];

  if (path[0] == '\0')
    g_snprintf (path, sizeof path, "/tmp/fuzz-saved-%d.vmaidx", (int) getpid ());
  g_autoptr (GByteArray) file = make_file (bytes, size, &key);
  if (!g_file_set_contents_full (path, (const char *) file->data, (gssize) file->len,
                                 G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL))
    abort ();
  g_autoptr (GError) error = NULL;
  gboolean partial;
  g_autoptr (VmaIndex) index = vma_saved_index_load (path, &key, fuzz_header (), &partial, &error);
  if ((index == NULL) != (error != NULL))
    abort ();
  vma_saved_index_verify (path, NULL);
  unlink (path);
  if (index != NULL) {
    touch_all (index);
    vma_index_complete (index, (size & 1) != 0, NULL);
    touch_all (index);
  }
  return 0;
}
