/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/saved-format.h"

#include "vma/bytes.h"

#include <lz4.h>
#include <string.h>
#include <xxhash.h>

void
saved_header_write (const SavedHeader *header, guint8 bytes[SAVED_HEADER_SIZE])
{
  const VmaSourceIdentity *source = &header->key.source;

  memcpy (bytes, SAVED_MAGIC, 8);
  vma_put_le64 (bytes + 8, source->size);
  vma_put_le64 (bytes + 16, (guint64) source->mtime_ns);
  memcpy (bytes + 24, source->head, 16);
  memcpy (bytes + 40, source->tail, 16);
  memcpy (bytes + 56, header->key.uuid, 16);
  vma_put_le64 (bytes + 72, header->meta_offset);
  vma_put_le64 (bytes + 80, header->meta_stored);
  vma_put_le64 (bytes + 88, header->meta_size);
  vma_put_le64 (bytes + 96, header->meta_hash);
  vma_put_le64 (bytes + 104, XXH3_64bits (bytes, 104));
}

gboolean
saved_header_read (SavedHeader *header, const guint8 bytes[SAVED_HEADER_SIZE])
{
  VmaSourceIdentity *source = &header->key.source;

  if (memcmp (bytes, SAVED_MAGIC, 8) != 0 || vma_get_le64 (bytes + 104) != XXH3_64bits (bytes, 104))
    return FALSE;
  source->size = vma_get_le64 (bytes + 8);
  source->mtime_ns = (gint64) vma_get_le64 (bytes + 16);
  memcpy (source->head, bytes + 24, 16);
  memcpy (source->tail, bytes + 40, 16);
  memcpy (header->key.uuid, bytes + 56, 16);
  header->meta_offset = vma_get_le64 (bytes + 72);
  header->meta_stored = vma_get_le64 (bytes + 80);
  header->meta_size = vma_get_le64 (bytes + 88);
  header->meta_hash = vma_get_le64 (bytes + 96);
  return TRUE;
}

/*
 * Entries are stored as differences from what a sequential writer would have put there, which are
 * mostly 0 and compress to nearly nothing.
 */
static VmaEntry
predict (VmaEntry previous)
{
  guint64 stored = (guint64) vma_mask_blocks (vma_entry_mask (previous)) * VMA_BLOCK_SIZE;

  return previous + (stored << 16);
}

guint32
saved_page_pack (const VmaEntry *entries, guint8 *stored)
{
  g_autofree guint8 *raw = g_malloc (VMA_PAGE_CLUSTERS * 8);
  VmaEntry previous = 0;

  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++) {
    vma_put_le64 (raw + 8 * i, entries[i] - predict (previous));
    previous = entries[i];
  }
  return (guint32) LZ4_compress_default ((const char *) raw, (char *) stored, VMA_PAGE_CLUSTERS * 8,
                                         SAVED_PAGE_MAX);
}

gboolean
saved_page_unpack (const guint8 *stored, gsize size, VmaEntry *entries)
{
  g_autofree guint8 *raw = g_malloc (VMA_PAGE_CLUSTERS * 8);
  VmaEntry previous = 0;

  if (size > SAVED_PAGE_MAX
      || LZ4_decompress_safe ((const char *) stored, (char *) raw, (int) size,
                              VMA_PAGE_CLUSTERS * 8)
             != (int) VMA_PAGE_CLUSTERS * 8)
    return FALSE;
  for (guint i = 0; i < VMA_PAGE_CLUSTERS; i++)
    previous = entries[i] = vma_get_le64 (raw + 8 * i) + predict (previous);
  return TRUE;
}

static void
damage_free (VmaDamage *damage)
{
  g_free (damage->reason);
  g_free (damage);
}

SavedMeta *
saved_meta_new (void)
{
  SavedMeta *meta = g_new0 (SavedMeta, 1);

  meta->damage = g_ptr_array_new_with_free_func ((GDestroyNotify) damage_free);
  return meta;
}

void
saved_meta_free (SavedMeta *meta)
{
  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    g_clear_pointer (&meta->devices[id].pages, g_array_unref);
  g_ptr_array_unref (meta->damage);
  g_free (meta);
}

static void
put_u32 (GByteArray *out, guint32 value)
{
  guint8 bytes[4];

  vma_put_le32 (bytes, value);
  g_byte_array_append (out, bytes, sizeof bytes);
}

static void
put_u64 (GByteArray *out, guint64 value)
{
  guint8 bytes[8];

  vma_put_le64 (bytes, value);
  g_byte_array_append (out, bytes, sizeof bytes);
}

static void
put_device (GByteArray *out, guint id, const SavedDevice *device)
{
  put_u32 (out, id);
  put_u64 (out, device->counts.data);
  put_u64 (out, device->counts.zero);
  put_u64 (out, device->counts.bad);
  put_u64 (out, device->counts.blocks);
  put_u64 (out, device->counts.in_order);
  put_u64 (out, device->counts.next);
  put_u32 (out, device->pages->len);
  for (guint i = 0; i < device->pages->len; i++) {
    const SavedPage *page = &g_array_index (device->pages, SavedPage, i);
    put_u32 (out, page->page);
    put_u32 (out, page->size);
    put_u64 (out, page->offset);
    put_u64 (out, page->hash);
  }
}

GByteArray *
saved_meta_write (const SavedMeta *meta)
{
  GByteArray *out = g_byte_array_new ();
  guint n_devices = 0;

  put_u32 (out, meta->partial ? 1 : 0);
  put_u64 (out, meta->counts.extents);
  put_u64 (out, meta->counts.bare_extents);
  put_u64 (out, meta->counts.end);

  put_u32 (out, meta->damage->len);
  for (guint i = 0; i < meta->damage->len; i++) {
    const VmaDamage *damage = g_ptr_array_index (meta->damage, i);
    guint32 length = (guint32) strlen (damage->reason);
    put_u64 (out, damage->start);
    put_u64 (out, damage->end);
    put_u32 (out, length);
    g_byte_array_append (out, (const guint8 *) damage->reason, length);
  }

  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    n_devices += meta->devices[id].pages != NULL;
  put_u32 (out, n_devices);
  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    if (meta->devices[id].pages != NULL)
      put_device (out, id, &meta->devices[id]);
  return out;
}

/* Bytes still to be read; once too few, always too few. */
typedef struct {
  const guint8 *at;
  gsize left;
  gboolean failed;
} Reader;

static const guint8 *
take (Reader *reader, gsize size)
{
  const guint8 *at = reader->at;

  if (reader->failed || reader->left < size) {
    reader->failed = TRUE;
    return NULL;
  }
  reader->at += size;
  reader->left -= size;
  return at;
}

static guint32
get_u32 (Reader *reader)
{
  const guint8 *bytes = take (reader, 4);

  return bytes != NULL ? vma_get_le32 (bytes) : 0;
}

static guint64
get_u64 (Reader *reader)
{
  const guint8 *bytes = take (reader, 8);

  return bytes != NULL ? vma_get_le64 (bytes) : 0;
}

static void
get_damage (Reader *reader, SavedMeta *meta)
{
  guint64 start = get_u64 (reader), end = get_u64 (reader);
  guint32 length = get_u32 (reader);
  const guint8 *reason = take (reader, length);

  if (reason == NULL)
    return;
  VmaDamage *damage = g_new (VmaDamage, 1);
  *damage = (VmaDamage){
    .start = start,
    .end = end,
    .reason = g_strndup ((const char *) reason, length),
  };
  g_ptr_array_add (meta->damage, damage);
}

static void
get_device (Reader *reader, SavedMeta *meta)
{
  guint32 id = get_u32 (reader);

  if (id >= VMA_MAX_DEVICES || meta->devices[id].pages != NULL) {
    reader->failed = TRUE;
    return;
  }
  SavedDevice *device = &meta->devices[id];
  device->counts.data = get_u64 (reader);
  device->counts.zero = get_u64 (reader);
  device->counts.bad = get_u64 (reader);
  device->counts.blocks = get_u64 (reader);
  device->counts.in_order = get_u64 (reader);
  device->counts.next = get_u64 (reader);
  guint32 n = get_u32 (reader);
  device->pages = g_array_new (FALSE, FALSE, sizeof (SavedPage));
  for (guint32 i = 0; i < n && !reader->failed; i++) {
    SavedPage page = { .page = get_u32 (reader) };
    page.size = get_u32 (reader);
    page.offset = get_u64 (reader);
    page.hash = get_u64 (reader);
    if (!reader->failed)
      g_array_append_val (device->pages, page);
  }
}

SavedMeta *
saved_meta_read (const guint8 *bytes, gsize size)
{
  g_autoptr (SavedMeta) meta = saved_meta_new ();
  Reader reader = { .at = bytes, .left = size };

  meta->partial = get_u32 (&reader) != 0;
  meta->counts.extents = get_u64 (&reader);
  meta->counts.bare_extents = get_u64 (&reader);
  meta->counts.end = get_u64 (&reader);
  for (guint32 n = get_u32 (&reader); n > 0 && !reader.failed; n--)
    get_damage (&reader, meta);
  for (guint32 n = get_u32 (&reader); n > 0 && !reader.failed; n--)
    get_device (&reader, meta);
  return reader.failed || reader.left > 0 ? NULL : g_steal_pointer (&meta);
}
