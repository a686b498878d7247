/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/sums.h"

#include "base/io.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC       "VMAFSCS1"
#define HEADER_SIZE 56u /* magic, uuid, size, mtime, the table's hash, a hash of what is before it */
#define SUM_SIZE    8u
#define GROUP       4096u /* chunks: a GiB */

/* Beyond it the table of groups would be larger than 8 MiB; no archive is. */
#define SIZE_MAX_BYTES (UINT64_C (1) << 50)

typedef struct {
  guint64 chunks, groups;
  guint64 table; /* offset in the file */
  guint64 end;
} Layout;

/* Sums of GROUP chunks. */
typedef struct {
  gboolean unusable; /* what the file has of it is damaged: nothing is checked */
  guint64 sums[GROUP];
  atomic_uint right[GROUP / 32]; /* a bit for each chunk */
} Group;

struct VmaSums {
  int fd;
  VmaSumsKey key;
  Layout layout;
  guint8 *table;
  VmaSumsNote note;
  gpointer note_data;
  atomic_uint_fast64_t n_right;

  pthread_mutex_t lock;     /* of loading a group, and of ... */
  gboolean noted;           /* ... this */
  _Atomic (Group *) *groups; /* NULL: not touched yet */
};

static void
get_layout (guint64 size, Layout *layout)
{
  layout->chunks = size / VMA_SUMS_CHUNK + (size % VMA_SUMS_CHUNK != 0);
  layout->groups = layout->chunks / GROUP + (layout->chunks % GROUP != 0);
  layout->table = HEADER_SIZE + layout->chunks * SUM_SIZE;
  layout->end = layout->table + layout->groups * SUM_SIZE;
}

static guint
group_chunks (const Layout *layout, guint64 group)
{
  return (guint) MIN (GROUP, layout->chunks - group * GROUP);
}

static guint64
group_offset (guint64 group)
{
  return HEADER_SIZE + group * GROUP * SUM_SIZE;
}

char *
vma_sums_path (const char *dir, const VmaSumsKey *key)
{
  GString *path = g_string_new (dir);

  /* Nothing that may be damaged, nor the time: sums that are stale are to be found, and told of. */
  g_string_append_c (path, '/');
  for (guint i = 0; i < sizeof key->uuid; i++)
    g_string_append_printf (path, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                            key->uuid[i]);
  g_string_append_printf (path, "-%016" G_GINT64_MODIFIER "x" VMA_SUMS_SUFFIX, key->size);
  return g_string_free (path, FALSE);
}

guint64
vma_sums_of (const void *chunk, gsize size)
{
  return XXH3_64bits (chunk, size);
}

/* --- the header -------------------------------------------------------------------------------- */

static void
write_header (guint8 bytes[HEADER_SIZE], const VmaSumsKey *key, guint64 table_hash)
{
  memcpy (bytes, MAGIC, 8);
  memcpy (bytes + 8, key->uuid, 16);
  vma_put_le64 (bytes + 24, key->size);
  vma_put_le64 (bytes + 32, (guint64) key->mtime_ns);
  vma_put_le64 (bytes + 40, table_hash);
  vma_put_le64 (bytes + 48, XXH3_64bits (bytes, 48));
}

static gboolean
damaged (GError **error)
{
  return vma_fail (error, VMA_ERROR_DAMAGED, "the checksums are damaged");
}

static gboolean
read_header (int fd, VmaSumsKey *key, guint64 *table_hash, GError **error)
{
  guint8 bytes[HEADER_SIZE];

  if (!vma_io_pread_all (fd, bytes, sizeof bytes, 0) || memcmp (bytes, MAGIC, 8) != 0
      || vma_get_le64 (bytes + 48) != XXH3_64bits (bytes, 48))
    return damaged (error);
  memcpy (key->uuid, bytes + 8, 16);
  key->size = vma_get_le64 (bytes + 24);
  key->mtime_ns = (gint64) vma_get_le64 (bytes + 32);
  *table_hash = vma_get_le64 (bytes + 40);
  return TRUE;
}

/* --- using ------------------------------------------------------------------------------------- */

/* Header and table of the file; sizes only after they have proved to be those of this file. */
static gboolean
read_file (VmaSums *sums, GError **error)
{
  guint64 table_hash;
  struct stat st;

  if (!read_header (sums->fd, &sums->key, &table_hash, error))
    return FALSE;
  if (sums->key.size > SIZE_MAX_BYTES)
    return damaged (error);
  get_layout (sums->key.size, &sums->layout);
  if (fstat (sums->fd, &st) != 0 || (guint64) st.st_size != sums->layout.end)
    return damaged (error);
  gsize size = (gsize) sums->layout.groups * SUM_SIZE;
  sums->table = g_malloc (size);
  if (!vma_io_pread_all (sums->fd, sums->table, size, sums->layout.table)
      || XXH3_64bits (sums->table, size) != table_hash)
    return damaged (error);
  return TRUE;
}

static VmaSums *
open_file (const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

  if (fd < 0) {
    if (errno != ENOENT && errno != ENOTDIR)
      vma_set_errno_error (error, errno, "cannot open the checksums");
    return NULL;
  }
  VmaSums *sums = g_new0 (VmaSums, 1);
  sums->fd = fd;
  pthread_mutex_init (&sums->lock, NULL);
  return sums;
}

VmaSums *
vma_sums_open (const char *path, const VmaSumsKey *key, VmaSumsNote note, gpointer data,
               GError **error)
{
  g_autoptr (VmaSums) sums = open_file (path, error);

  if (sums == NULL || !read_file (sums, error))
    return NULL;
  if (memcmp (sums->key.uuid, key->uuid, sizeof key->uuid) != 0 || sums->key.size != key->size
      || sums->key.mtime_ns != key->mtime_ns) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "the checksums are stale (the archive has changed since)");
    return NULL;
  }
  sums->note = note;
  sums->note_data = data;
  sums->groups = g_new0 (_Atomic (Group *), sums->layout.groups);
  futimens (sums->fd,
            (const struct timespec[]){ { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } });
  return g_steal_pointer (&sums);
}

void
vma_sums_free (VmaSums *sums)
{
  for (guint64 i = 0; sums->groups != NULL && i < sums->layout.groups; i++)
    g_free (atomic_load (&sums->groups[i]));
  g_free (sums->groups);
  g_free (sums->table);
  pthread_mutex_destroy (&sums->lock);
  close (sums->fd);
  g_free (sums);
}

/* The sums of a group as they are in the file; FALSE where they are not what they were. */
static gboolean
read_group (VmaSums *sums, guint64 index, Group *group)
{
  gsize size = group_chunks (&sums->layout, index) * SUM_SIZE;

  if (!vma_io_pread_all (sums->fd, group->sums, size, group_offset (index))
      || XXH3_64bits (group->sums, size) != vma_get_le64 (sums->table + index * SUM_SIZE))
    return FALSE;
  for (guint i = 0; i < size / SUM_SIZE; i++)
    group->sums[i] = GUINT64_FROM_LE (group->sums[i]);
  return TRUE;
}

static Group *
load_group (VmaSums *sums, guint64 index)
{
  gboolean tell = FALSE;

  pthread_mutex_lock (&sums->lock);
  Group *group = atomic_load (&sums->groups[index]);
  if (group == NULL) {
    group = g_new0 (Group, 1);
    group->unusable = !read_group (sums, index, group);
    tell = group->unusable && !sums->noted;
    sums->noted |= group->unusable;
    atomic_store (&sums->groups[index], group);
  }
  pthread_mutex_unlock (&sums->lock);
  if (tell && sums->note != NULL)
    sums->note (sums->note_data, "the checksums are damaged");
  return group;
}

static Group *
get_group (VmaSums *sums, guint64 index)
{
  Group *group = atomic_load_explicit (&sums->groups[index], memory_order_acquire);

  return group != NULL ? group : load_group (sums, index);
}

gboolean
vma_sums_must_check (VmaSums *sums, guint64 chunk, guint64 *wanted)
{
  Group *group = get_group (sums, chunk / GROUP);
  guint i = (guint) (chunk % GROUP);

  if (group->unusable
      || (atomic_load_explicit (&group->right[i / 32], memory_order_relaxed) >> (i % 32) & 1) != 0)
    return FALSE;
  *wanted = group->sums[i];
  return TRUE;
}

void
vma_sums_found_right (VmaSums *sums, guint64 chunk)
{
  Group *group = get_group (sums, chunk / GROUP);
  guint i = (guint) (chunk % GROUP);
  guint bit = 1u << (i % 32);

  if ((atomic_fetch_or (&group->right[i / 32], bit) & bit) == 0)
    atomic_fetch_add (&sums->n_right,
                      MIN (VMA_SUMS_CHUNK, sums->key.size - chunk * VMA_SUMS_CHUNK));
}

guint64
vma_sums_checked (VmaSums *sums)
{
  return atomic_load (&sums->n_right);
}

guint64
vma_sums_size (VmaSums *sums)
{
  return sums->key.size;
}

/* --- without an archive ------------------------------------------------------------------------ */

gboolean
vma_sums_info (const char *path, VmaSumsInfo *info, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  guint64 table_hash;
  struct stat st;

  if (fd < 0) {
    vma_set_errno_error (error, errno, "cannot open the checksums");
    return FALSE;
  }
  gboolean ok = read_header (fd, &info->key, &table_hash, error);
  info->file_size = fstat (fd, &st) == 0 ? (guint64) st.st_size : 0;
  close (fd);
  return ok;
}

gboolean
vma_sums_verify (const char *path, GError **error)
{
  g_autofree Group *group = g_new0 (Group, 1);
  g_autoptr (GError) local = NULL;
  g_autoptr (VmaSums) sums = open_file (path, &local);

  if (sums == NULL) {
    if (local == NULL)
      vma_set_errno_error (&local, ENOENT, "cannot open the checksums");
    g_propagate_error (error, g_steal_pointer (&local));
    return FALSE;
  }
  if (!read_file (sums, error))
    return FALSE;
  for (guint64 i = 0; i < sums->layout.groups; i++)
    if (!read_group (sums, i, group))
      return damaged (error);
  return TRUE;
}

/* --- taking ------------------------------------------------------------------------------------ */

typedef struct {
  int fd;
  const VmaSumsKey *key;
  Layout layout;
  VmaSource *source;
  VmaSumsProgress progress;
  gpointer data;
  GCancellable *cancellable;
} Taking;

static gboolean
put (Taking *taking, const void *bytes, gsize size, guint64 offset, GError **error)
{
  if (!vma_io_pwrite_all (taking->fd, bytes, size, offset)) {
    vma_set_errno_error (error, errno, "cannot write the checksums");
    return FALSE;
  }
  return TRUE;
}

/* Reads the chunks of a group; their sums as they go into the file. */
static gboolean
take_group (Taking *taking, guint64 index, guint8 *buffer, guint8 *sums, GError **error)
{
  guint64 first = index * GROUP, size = taking->key->size;

  for (guint i = 0; i < group_chunks (&taking->layout, index); i++) {
    guint64 at = (first + i) * VMA_SUMS_CHUNK;
    gsize n = (gsize) MIN (VMA_SUMS_CHUNK, size - at);

    if (g_cancellable_is_cancelled (taking->cancellable))
      return vma_fail (error, VMA_ERROR_CANCELLED, "interrupted");
    if (!vma_source_pread_full (taking->source, buffer, n, at, VMA_READ_DATA, taking->cancellable,
                                error))
      return FALSE;
    vma_put_le64 (sums + i * SUM_SIZE, vma_sums_of (buffer, n));
    if (taking->progress != NULL)
      taking->progress (taking->data, at + n);
  }
  return TRUE;
}

static gboolean
take_all (Taking *taking, GError **error)
{
  guint8 header[HEADER_SIZE];
  g_autofree guint8 *buffer = g_malloc (VMA_SUMS_CHUNK);
  g_autofree guint8 *sums = g_malloc (GROUP * SUM_SIZE);
  gsize table_size = (gsize) taking->layout.groups * SUM_SIZE;
  g_autofree guint8 *table = g_malloc (table_size);

  for (guint64 i = 0; i < taking->layout.groups; i++) {
    gsize size = group_chunks (&taking->layout, i) * SUM_SIZE;

    if (!take_group (taking, i, buffer, sums, error)
        || !put (taking, sums, size, group_offset (i), error))
      return FALSE;
    vma_put_le64 (table + i * SUM_SIZE, XXH3_64bits (sums, size));
  }
  write_header (header, taking->key, XXH3_64bits (table, table_size));
  if (!put (taking, table, table_size, taking->layout.table, error)
      || !put (taking, header, sizeof header, 0, error))
    return FALSE;
  if (fsync (taking->fd) != 0) {
    vma_set_errno_error (error, errno, "cannot write the checksums");
    return FALSE;
  }
  return TRUE;
}

/* What was read is of no use if somebody wrote to it. */
static gboolean
check_unchanged (Taking *taking, GError **error)
{
  VmaSourceIdentity now;

  if (!vma_source_identity (taking->source, &now, error))
    return FALSE;
  return (now.size == taking->key->size && now.mtime_ns == taking->key->mtime_ns)
         || vma_fail (error, VMA_ERROR_IO, "the archive has changed while it was read");
}

gboolean
vma_sums_take (const char *path, const VmaSumsKey *key, VmaSource *source, VmaSumsProgress progress,
               gpointer data, GCancellable *cancellable, GError **error)
{
  g_autofree char *dir = g_path_get_dirname (path);
  g_autofree char *temporary = g_strconcat (path, ".XXXXXX", NULL);
  Taking taking = { .key = key, .source = source, .progress = progress, .data = data,
                    .cancellable = cancellable };

  if (key->size > SIZE_MAX_BYTES)
    return vma_fail (error, VMA_ERROR_UNSUPPORTED, "the archive is too large for checksums");
  get_layout (key->size, &taking.layout);
  if (g_mkdir_with_parents (dir, 0700) != 0) {
    vma_set_errno_error (error, errno, "cannot make %s", dir);
    return FALSE;
  }
  taking.fd = g_mkstemp_full (temporary, O_RDWR | O_CLOEXEC, 0600);
  if (taking.fd < 0) {
    vma_set_errno_error (error, errno, "cannot write the checksums in %s", dir);
    return FALSE;
  }
  gboolean ok = take_all (&taking, error) && check_unchanged (&taking, error);
  close (taking.fd);
  if (ok && rename (temporary, path) != 0) {
    vma_set_errno_error (error, errno, "cannot rename the checksums to %s", path);
    ok = FALSE;
  }
  if (!ok)
    unlink (temporary);
  return ok;
}
