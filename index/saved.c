/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/saved.h"

#include "base/io.h"
#include "index/saved-format.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <lz4.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>
#include <xxhash.h>

/* An index this large stands for more clusters than any machine can hold maps of. */
#define META_MAX_SIZE (UINT64_C (512) << 20)

/* What an index that was loaded keeps, to read its pages. */
typedef struct {
  int fd;
  SavedMeta *meta;
} Backing;

/* One map's share of it. */
typedef struct {
  Backing *backing; /* reference */
  const SavedDevice *device;
} MapBacking;

char *
vma_saved_index_default_dir (void)
{
  const char *xdg = g_getenv ("XDG_CACHE_HOME");

  if (geteuid () == 0 && (xdg == NULL || *xdg == '\0'))
    return g_strdup ("/var/cache/vmafs");
  return g_build_filename (g_get_user_cache_dir (), "vmafs", NULL);
}

char *
vma_saved_index_path (const char *dir, const VmaIndexKey *key)
{
  char uuid[UUID_STR_LEN];
  guint8 content[8 + 16 + 16];

  /* Not the mtime: a stale index is to be found, noted and replaced. */
  uuid_unparse_lower (key->uuid, uuid);
  memcpy (content, &key->source.size, 8);
  memcpy (content + 8, key->source.head, 16);
  memcpy (content + 24, key->source.tail, 16);
  return g_strdup_printf ("%s/%s-%016" G_GINT64_MODIFIER "x" VMA_SAVED_INDEX_SUFFIX, dir, uuid,
                          (guint64) XXH3_64bits (content, sizeof content));
}

/* --- loading ----------------------------------------------------------------------------------- */

static void
backing_free (Backing *backing)
{
  if (backing->fd >= 0)
    close (backing->fd);
  g_clear_pointer (&backing->meta, saved_meta_free);
}

static void
backing_unref (Backing *backing)
{
  g_atomic_rc_box_release_full (backing, (GDestroyNotify) backing_free);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Backing, backing_unref)

static gboolean
damaged (GError **error)
{
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_DAMAGED, "the saved index is damaged");
  return FALSE;
}

static gboolean
read_header (int fd, SavedHeader *header, GError **error)
{
  guint8 bytes[SAVED_HEADER_SIZE];

  if (!vma_io_pread_all (fd, bytes, sizeof bytes, 0) || !saved_header_read (header, bytes))
    return damaged (error);
  return TRUE;
}

static SavedMeta *
read_meta (int fd, const SavedHeader *header, GError **error)
{
  struct stat st;

  /* LZ4 cannot make more than 255 bytes of one.  A file with holes may have any size. */
  if (fstat (fd, &st) != 0 || header->meta_stored > (guint64) st.st_size
      || header->meta_stored > (guint64) LZ4_COMPRESSBOUND (META_MAX_SIZE)
      || header->meta_offset > (guint64) st.st_size - header->meta_stored
      || header->meta_size > META_MAX_SIZE || header->meta_size / 255 > header->meta_stored) {
    damaged (error);
    return NULL;
  }
  g_autofree guint8 *stored = g_malloc (header->meta_stored);
  g_autofree guint8 *raw = g_malloc (header->meta_size);
  SavedMeta *meta = NULL;
  if (vma_io_pread_all (fd, stored, header->meta_stored, header->meta_offset)
      && XXH3_64bits (stored, header->meta_stored) == header->meta_hash
      && LZ4_decompress_safe ((const char *) stored, (char *) raw, (int) header->meta_stored,
                              (int) header->meta_size)
             == (int) header->meta_size)
    meta = saved_meta_read (raw, header->meta_size);
  if (meta == NULL)
    damaged (error);
  return meta;
}

static int
compare_pages (const void *a, const void *b)
{
  guint32 x = ((const SavedPage *) a)->page, y = ((const SavedPage *) b)->page;
  return (x > y) - (x < y);
}

static gboolean
read_page (int fd, const SavedPage *page, VmaEntry *entries)
{
  if (page->size > SAVED_PAGE_MAX)
    return FALSE;
  g_autofree guint8 *stored = g_malloc (page->size);
  return vma_io_pread_all (fd, stored, page->size, page->offset)
         && XXH3_64bits (stored, page->size) == page->hash
         && saved_page_unpack (stored, page->size, entries);
}

/* Whether all pages are as they were stored. */
static gboolean
check_pages (Backing *backing, GError **error)
{
  g_autofree VmaEntry *entries = g_new (VmaEntry, VMA_PAGE_CLUSTERS);

  for (guint id = 0; id < VMA_MAX_DEVICES; id++) {
    GArray *pages = backing->meta->devices[id].pages;
    for (guint i = 0; pages != NULL && i < pages->len; i++) {
      const SavedPage *page = &g_array_index (pages, SavedPage, i);
      if (page->size > 0 && !read_page (backing->fd, page, entries))
        return damaged (error);
    }
  }
  return TRUE;
}

/* VmaMapLoad */
static gboolean
load_page (gpointer data, guint32 page, VmaEntry *entries)
{
  MapBacking *map = data;
  SavedPage wanted = { .page = page };
  guint at;

  return g_array_binary_search (map->device->pages, &wanted, compare_pages, &at)
         && read_page (map->backing->fd, &g_array_index (map->device->pages, SavedPage, at),
                       entries);
}

static void
map_backing_free (gpointer data)
{
  MapBacking *map = data;

  backing_unref (map->backing);
  g_free (map);
}

static gboolean
fill_map (VmaMap *map, Backing *backing, const SavedDevice *device, GError **error)
{
  guint32 pages = vma_map_pages (map);
  gint64 last = -1;

  for (guint i = 0; i < device->pages->len; i++) {
    const SavedPage *page = &g_array_index (device->pages, SavedPage, i);
    guint64 end = page->page + (page->size == 0 ? page->offset : 1);

    if ((gint64) page->page <= last || end > pages || end <= page->page)
      return damaged (error);
    last = (gint64) end - 1;
    if (page->size > 0)
      vma_map_set_page_stored (map, page->page);
    else
      for (guint32 p = page->page; p < end; p++)
        vma_map_set_page_zero (map, p);
  }
  MapBacking *mine = g_new (MapBacking, 1);
  *mine = (MapBacking){ .backing = g_atomic_rc_box_acquire (backing), .device = device };
  vma_map_set_loader (map, load_page, mine, map_backing_free);
  return TRUE;
}

static gboolean
keys_equal (const VmaIndexKey *a, const VmaIndexKey *b)
{
  return a->source.size == b->source.size && a->source.mtime_ns == b->source.mtime_ns
         && memcmp (a->source.head, b->source.head, sizeof a->source.head) == 0
         && memcmp (a->source.tail, b->source.tail, sizeof a->source.tail) == 0
         && memcmp (a->uuid, b->uuid, sizeof a->uuid) == 0;
}

VmaIndex *
vma_saved_index_load (const char *path, const VmaIndexKey *key, const VmaHeader *header,
                      gboolean *partial, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

  if (fd < 0) {
    if (errno != ENOENT && errno != ENOTDIR)
      vma_set_errno_error (error, errno, "cannot open the saved index");
    return NULL;
  }
  g_autoptr (Backing) backing = g_atomic_rc_box_new0 (Backing);
  SavedHeader saved;
  backing->fd = fd;
  if (!read_header (fd, &saved, error))
    return NULL;
  if (!keys_equal (&saved.key, key)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "the saved index is stale (the archive has changed since)");
    return NULL;
  }
  backing->meta = read_meta (fd, &saved, error);
  if (backing->meta == NULL)
    return NULL;
  *partial = backing->meta->partial;
  if (*partial && !check_pages (backing, error))
    return NULL;

  g_autoptr (VmaIndex) index = vma_index_new (header, error);
  if (index == NULL)
    return NULL;
  vma_index_set_counts (index, &backing->meta->counts);
  for (guint i = 0; i < backing->meta->damage->len; i++) {
    const VmaDamage *damage = g_ptr_array_index (backing->meta->damage, i);
    vma_index_add_damage (index, damage->start, damage->end, damage->reason);
  }
  for (guint id = 0; id < VMA_MAX_DEVICES; id++) {
    const SavedDevice *device = &backing->meta->devices[id];
    VmaMap *map = vma_index_map (index, (guint8) id);

    if ((device->pages != NULL) != (map != NULL)) {
      damaged (error);
      return NULL;
    }
    if (map == NULL)
      continue;
    vma_index_set_device_counts (index, (guint8) id, &device->counts);
    if (!fill_map (map, backing, device, error))
      return NULL;
  }
  futimens (fd, (const struct timespec[]){ { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } });
  return g_steal_pointer (&index);
}

gboolean
vma_saved_index_info (const char *path, VmaSavedIndexInfo *info, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  SavedHeader header;
  struct stat st;

  if (fd < 0) {
    vma_set_errno_error (error, errno, "cannot open the saved index");
    return FALSE;
  }
  gboolean ok = read_header (fd, &header, error);
  if (ok)
    info->key = header.key;
  info->file_size = fstat (fd, &st) == 0 ? (guint64) st.st_size : 0;
  close (fd);
  return ok;
}

gboolean
vma_saved_index_verify (const char *path, GError **error)
{
  g_autoptr (Backing) backing = g_atomic_rc_box_new0 (Backing);
  SavedHeader header;

  backing->fd = open (path, O_RDONLY | O_CLOEXEC);
  if (backing->fd < 0) {
    vma_set_errno_error (error, errno, "cannot open the saved index");
    return FALSE;
  }
  if (!read_header (backing->fd, &header, error))
    return FALSE;
  backing->meta = read_meta (backing->fd, &header, error);
  return backing->meta != NULL && check_pages (backing, error);
}

/* --- storing ----------------------------------------------------------------------------------- */

typedef struct {
  int fd;
  guint64 position;
  GCancellable *cancellable;
} Writer;

static gboolean
append (Writer *writer, const void *bytes, gsize size, GError **error)
{
  if (!vma_io_pwrite_all (writer->fd, bytes, size, writer->position)) {
    vma_set_errno_error (error, errno, "cannot write the saved index");
    return FALSE;
  }
  writer->position += size;
  return TRUE;
}

static void
add_zero_page (GArray *pages, guint32 page)
{
  if (pages->len > 0) {
    SavedPage *last = &g_array_index (pages, SavedPage, pages->len - 1);
    if (last->size == 0 && last->page + last->offset == page) {
      last->offset++;
      return;
    }
  }
  SavedPage zero = { .page = page, .offset = 1 };
  g_array_append_val (pages, zero);
}

static gboolean
store_map (Writer *writer, VmaMap *map, GArray *pages, GError **error)
{
  g_autofree VmaEntry *entries = g_new (VmaEntry, VMA_PAGE_CLUSTERS);
  g_autofree guint8 *stored = g_malloc (SAVED_PAGE_MAX);

  for (guint32 page = 0; page < vma_map_pages (map); page++) {
    VmaPageKind kind = vma_map_get_page (map, page, entries);

    if (kind == VMA_PAGE_ZERO)
      add_zero_page (pages, page);
    if (kind != VMA_PAGE_MIXED)
      continue;
    if (g_cancellable_is_cancelled (writer->cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    SavedPage saved = {
      .page = page,
      .size = saved_page_pack (entries, stored),
      .offset = writer->position,
    };
    saved.hash = XXH3_64bits (stored, saved.size);
    if (!append (writer, stored, saved.size, error))
      return FALSE;
    g_array_append_val (pages, saved);
  }
  return TRUE;
}

static gboolean
store_meta (Writer *writer, const SavedMeta *meta, SavedHeader *header, GError **error)
{
  g_autoptr (GByteArray) raw = saved_meta_write (meta);
  guint8 bytes[SAVED_HEADER_SIZE];

  if (raw->len > META_MAX_SIZE) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "the index is too large to be saved");
    return FALSE;
  }
  int bound = LZ4_compressBound ((int) raw->len);
  g_autofree char *stored = g_malloc ((gsize) bound);
  header->meta_offset = writer->position;
  header->meta_size = raw->len;
  header->meta_stored
      = (guint64) LZ4_compress_default ((const char *) raw->data, stored, (int) raw->len, bound);
  header->meta_hash = XXH3_64bits (stored, header->meta_stored);
  if (!append (writer, stored, header->meta_stored, error))
    return FALSE;

  saved_header_write (header, bytes);
  writer->position = 0;
  return append (writer, bytes, sizeof bytes, error);
}

static gboolean
store_all (Writer *writer, const VmaIndexKey *key, const VmaHeader *header, VmaIndex *index,
           GError **error)
{
  g_autoptr (SavedMeta) meta = saved_meta_new ();
  SavedHeader saved = { .key = *key };

  writer->position = SAVED_HEADER_SIZE;
  meta->partial = vma_index_state (index) != VMA_INDEX_COMPLETE;
  vma_index_get_counts (index, &meta->counts);
  g_ptr_array_unref (meta->damage);
  meta->damage = vma_index_dup_damage (index);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    SavedDevice *mine = &meta->devices[device->id];

    vma_index_get_device_counts (index, device->id, &mine->counts);
    mine->pages = g_array_new (FALSE, FALSE, sizeof (SavedPage));
    if (!store_map (writer, vma_index_map (index, device->id), mine->pages, error))
      return FALSE;
  }
  if (!store_meta (writer, meta, &saved, error))
    return FALSE;
  if (fsync (writer->fd) != 0) {
    vma_set_errno_error (error, errno, "cannot write the saved index");
    return FALSE;
  }
  return TRUE;
}

gboolean
vma_saved_index_store (const char *path, const VmaIndexKey *key, const VmaHeader *header,
                       VmaIndex *index, GCancellable *cancellable, GError **error)
{
  g_autofree char *dir = g_path_get_dirname (path);
  g_autofree char *temporary = g_strconcat (path, ".XXXXXX", NULL);

  if (g_mkdir_with_parents (dir, 0700) != 0) {
    vma_set_errno_error (error, errno, "cannot make %s", dir);
    return FALSE;
  }
  vma_saved_index_prune (dir, VMA_SAVED_INDEX_MAX_BYTES, NULL, NULL, NULL);

  Writer writer = { .fd = g_mkstemp_full (temporary, O_RDWR | O_CLOEXEC, 0600),
                    .cancellable = cancellable };
  if (writer.fd < 0) {
    vma_set_errno_error (error, errno, "cannot write the saved index in %s", dir);
    return FALSE;
  }
  gboolean ok = store_all (&writer, key, header, index, error);
  close (writer.fd);
  if (ok && rename (temporary, path) != 0) {
    vma_set_errno_error (error, errno, "cannot rename the saved index to %s", path);
    ok = FALSE;
  }
  if (!ok)
    unlink (temporary);
  return ok;
}
