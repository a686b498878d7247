/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file, all integers little-endian:
 *
 *   header   magic[8] key[16]
 *   records  in[8] out[8] state_size[4] n_pieces[4] check[8]   <- check: of the 24 bytes before it
 *            n_pieces x { size[4] hash[16] }  state  hash[16]  <- hash: of all of the record before it
 *   table    (count + 1) x { in[8] out[8] at[8] }              <- the last one is the end's
 *   footer   magic[8] table_at[8] count[8] hash[16] check[8]   <- hash: of the table
 *
 * `check` is 64 bits and lets the journal be walked without reading the states; `hash` is 128 bits and
 * proved before a record is used.  Both are seeded with the key.
 */
#include "source/sidecar.h"

#include "base/io.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define HEADER_SIZE 24u
#define RECORD_FIXED 32u
#define PIECE_SIZE 20u
#define HASH_SIZE 16u
#define ENTRY_SIZE 24u
#define FOOTER_SIZE 48u

/* No codec has a larger state (a zstd window is sparse and compressed), and no chunk more pieces. */
#define STATE_MAX (256u << 20)
#define PIECES_MAX (1u << 20)

/* Small records are written together. */
#define WRITE_BEHIND (32u << 10)

static const guint8 header_magic[8] = { 'V', 'M', 'A', 'c', 'k', 'p', 't', '1' };
static const guint8 footer_magic[8] = { 'V', 'M', 'A', 'c', 'k', 'e', 'n', 'd' };

typedef struct {
  guint64 in, out;
  guint64 at; /* of the record */
} Entry;

struct VmaSidecar {
  pthread_mutex_t mutex; /* all below */
  int fd;
  char *name; /* of the complete file; NULL where it is unnamed */
  char *part; /* of the journal being built; NULL where it is unnamed or complete */
  guint8 key[16];
  guint64 seed;

  GArray *entries;     /* of Entry, ascending; the end's is the last one if `ended` */
  gboolean ended;      /* the last chunk is closed */
  gboolean complete;   /* and that is on disk */
  VmaPiece *end_pieces; /* where it is not: after an abort */
  guint n_end_pieces;

  guint64 written;     /* bytes of the file; behind them come those of `behind` */
  GByteArray *behind;
};

void
vma_sidecar_chunk_free (VmaSidecarChunk *chunk)
{
  g_clear_pointer (&chunk->from.state, g_bytes_unref);
  g_free (chunk->pieces);
  g_free (chunk);
}

static gboolean
write_at (int fd, const void *buffer, gsize size, guint64 offset, GError **error)
{
  if (!vma_io_pwrite_all (fd, buffer, size, offset)) {
    vma_set_errno_error (error, errno, "cannot save checkpoints");
    return FALSE;
  }
  return TRUE;
}

static void
hash_128 (const VmaSidecar *sidecar, const guint8 *bytes, gsize size, guint8 hash[HASH_SIZE])
{
  XXH128_canonicalFromHash ((XXH128_canonical_t *) hash,
                            XXH3_128bits_withSeed (bytes, size, sidecar->seed));
}

static guint64
check_64 (const VmaSidecar *sidecar, const guint8 *bytes, gsize size)
{
  return XXH3_64bits_withSeed (bytes, size, sidecar->seed);
}

static Entry *
entry_at (const VmaSidecar *sidecar, guint64 index)
{
  return &g_array_index (sidecar->entries, Entry, index);
}

/* Checkpoints without the end. */
static guint64
count (const VmaSidecar *sidecar)
{
  return sidecar->entries->len - (sidecar->ended ? 1 : 0);
}

static gboolean
flush (VmaSidecar *sidecar, GError **error)
{
  if (!write_at (sidecar->fd, sidecar->behind->data, sidecar->behind->len, sidecar->written, error))
    return FALSE;
  sidecar->written += sidecar->behind->len;
  g_byte_array_set_size (sidecar->behind, 0);
  return TRUE;
}

/* The fixed part of a record, checked. */
static gboolean
parse_fixed (const VmaSidecar *sidecar, const guint8 *fixed, Entry *entry, gsize *size)
{
  guint32 state_size = vma_get_le32 (fixed + 16), n_pieces = vma_get_le32 (fixed + 20);

  if (vma_get_le64 (fixed + 24) != check_64 (sidecar, fixed, 24) || state_size > STATE_MAX
      || n_pieces > PIECES_MAX)
    return FALSE;
  entry->in = vma_get_le64 (fixed);
  entry->out = vma_get_le64 (fixed + 8);
  *size = RECORD_FIXED + (gsize) n_pieces * PIECE_SIZE + state_size + HASH_SIZE;
  return TRUE;
}

/* Reads a whole record and proves its hash.  NULL where it is not what `entry` says. */
static guint8 *
read_record (const VmaSidecar *sidecar, const Entry *entry)
{
  guint8 fixed[RECORD_FIXED], hash[HASH_SIZE];
  Entry found;
  gsize size;

  if (!vma_io_pread_all (sidecar->fd, fixed, sizeof fixed, entry->at)
      || !parse_fixed (sidecar, fixed, &found, &size) || found.in != entry->in
      || found.out != entry->out)
    return NULL;
  g_autofree guint8 *record = g_try_malloc (size);
  if (record == NULL || !vma_io_pread_all (sidecar->fd, record, size, entry->at))
    return NULL;
  hash_128 (sidecar, record, size - HASH_SIZE, hash);
  if (memcmp (hash, record + size - HASH_SIZE, HASH_SIZE) != 0
      || memcmp (fixed, record, sizeof fixed) != 0)
    return NULL;
  return g_steal_pointer (&record);
}

static gboolean
append_record (VmaSidecar *sidecar, guint64 in, guint64 out, GBytes *state, const VmaPiece *pieces,
               guint n_pieces, GError **error)
{
  gsize state_size = state != NULL ? g_bytes_get_size (state) : 0;
  guint8 fixed[RECORD_FIXED], hash[HASH_SIZE];
  GByteArray *behind = sidecar->behind;
  guint start = behind->len;
  Entry entry = { in, out, sidecar->written + start };

  if (state_size > STATE_MAX || n_pieces > PIECES_MAX) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "a checkpoint at %" G_GUINT64_FORMAT " of the archive is too large to save", out);
    return FALSE;
  }
  vma_put_le64 (fixed, in);
  vma_put_le64 (fixed + 8, out);
  vma_put_le32 (fixed + 16, (guint32) state_size);
  vma_put_le32 (fixed + 20, n_pieces);
  vma_put_le64 (fixed + 24, check_64 (sidecar, fixed, 24));
  g_byte_array_append (behind, fixed, sizeof fixed);
  for (guint i = 0; i < n_pieces; i++) {
    guint8 piece[PIECE_SIZE];
    vma_put_le32 (piece, pieces[i].size);
    memcpy (piece + 4, pieces[i].hash, HASH_SIZE);
    g_byte_array_append (behind, piece, sizeof piece);
  }
  if (state_size > 0)
    g_byte_array_append (behind, g_bytes_get_data (state, NULL), (guint) state_size);
  hash_128 (sidecar, behind->data + start, behind->len - start, hash);
  g_byte_array_append (behind, hash, sizeof hash);

  /* What a pass emits is worth keeping at once; what a walk emits is cheap to find again. */
  if ((n_pieces > 0 || behind->len >= WRITE_BEHIND) && !flush (sidecar, error)) {
    g_byte_array_set_size (behind, start);
    return FALSE;
  }
  g_array_append_val (sidecar->entries, entry);
  return TRUE;
}

static int
open_unnamed_in (const char *directory)
{
  int fd = open (directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

  if (fd >= 0)
    return fd;
  g_autofree char *name = g_build_filename (directory, "vma-XXXXXX", NULL);
  fd = mkostemp (name, O_CLOEXEC);
  if (fd >= 0)
    unlink (name);
  return fd;
}

int
vma_sidecar_open_temporary (void)
{
  return open_unnamed_in (g_get_tmp_dir ());
}

static int
open_temporary (gpointer data G_GNUC_UNUSED)
{
  return vma_sidecar_open_temporary ();
}

static int (*temporary) (gpointer data) = open_temporary;
static gpointer temporary_data;

void
vma_sidecar_set_temporary (int (*open_file) (gpointer data), gpointer data)
{
  temporary = open_file != NULL ? open_file : open_temporary;
  temporary_data = data;
}

/* An unnamed file: in the directory, else where temporary files go, else in memory. */
static int
open_unnamed (const char *directory)
{
  int fd = directory != NULL ? open_unnamed_in (directory) : -1;

  if (fd < 0)
    fd = temporary (temporary_data);
  return fd >= 0 ? fd : memfd_create ("vma-checkpoints", MFD_CLOEXEC);
}

static gboolean
start_empty (VmaSidecar *sidecar, GError **error)
{
  guint8 header[HEADER_SIZE];

  memcpy (header, header_magic, sizeof header_magic);
  memcpy (header + 8, sidecar->key, sizeof sidecar->key);
  if (ftruncate (sidecar->fd, 0) != 0) {
    vma_set_errno_error (error, errno, "cannot save checkpoints");
    return FALSE;
  }
  g_array_set_size (sidecar->entries, 0);
  g_byte_array_set_size (sidecar->behind, 0);
  sidecar->written = 0;
  g_byte_array_append (sidecar->behind, header, sizeof header);
  return append_record (sidecar, 0, 0, NULL, NULL, 0, error) && flush (sidecar, error);
}

static gboolean
header_fits (const VmaSidecar *sidecar)
{
  guint8 header[HEADER_SIZE];

  return vma_io_pread_all (sidecar->fd, header, sizeof header, 0)
         && memcmp (header, header_magic, sizeof header_magic) == 0
         && memcmp (header + 8, sidecar->key, sizeof sidecar->key) == 0;
}

/* Whether `entry` can follow those there are. */
static gboolean
follows (const VmaSidecar *sidecar, const Entry *entry, gboolean is_end)
{
  if (sidecar->entries->len == 0)
    return entry->in == 0 && entry->out == 0 && entry->at == HEADER_SIZE && !is_end;
  const Entry *last = entry_at (sidecar, sidecar->entries->len - 1);
  return entry->at > last->at && entry->in >= last->in
         && (entry->out > last->out || (is_end && entry->out == last->out));
}

/* Loads a complete sidecar by its table. */
static gboolean
load_table (VmaSidecar *sidecar)
{
  guint8 footer[FOOTER_SIZE], hash[HASH_SIZE];
  gint64 size = lseek (sidecar->fd, 0, SEEK_END);

  if (size < (gint64) (HEADER_SIZE + FOOTER_SIZE) || !header_fits (sidecar)
      || !vma_io_pread_all (sidecar->fd, footer, sizeof footer, (guint64) size - FOOTER_SIZE)
      || memcmp (footer, footer_magic, sizeof footer_magic) != 0
      || vma_get_le64 (footer + 40) != check_64 (sidecar, footer, 40))
    return FALSE;

  guint64 at = vma_get_le64 (footer + 8), n = vma_get_le64 (footer + 16);
  if (at > (guint64) size || n >= G_MAXUINT32 || n < 1
      || at + (n + 1) * ENTRY_SIZE + FOOTER_SIZE != (guint64) size)
    return FALSE;
  gsize table_size = (gsize) (n + 1) * ENTRY_SIZE;
  g_autofree guint8 *table = g_try_malloc (table_size);
  if (table == NULL || !vma_io_pread_all (sidecar->fd, table, table_size, at))
    return FALSE;
  hash_128 (sidecar, table, table_size, hash);
  if (memcmp (hash, footer + 24, HASH_SIZE) != 0)
    return FALSE;

  g_array_set_size (sidecar->entries, 0);
  for (guint64 i = 0; i <= n; i++) {
    const guint8 *p = table + i * ENTRY_SIZE;
    Entry entry = { vma_get_le64 (p), vma_get_le64 (p + 8), vma_get_le64 (p + 16) };
    if (!follows (sidecar, &entry, i == n) || entry.at >= at)
      return FALSE;
    g_array_append_val (sidecar->entries, entry);
  }
  sidecar->written = (guint64) size;
  sidecar->ended = sidecar->complete = TRUE;
  return TRUE;
}

/* Drops records from the end until the last one is proved. */
static void
drop_bad_tail (VmaSidecar *sidecar)
{
  while (sidecar->entries->len > 1) {
    const Entry *last = entry_at (sidecar, sidecar->entries->len - 1);
    g_autofree guint8 *record = read_record (sidecar, last);
    if (record != NULL)
      break;
    if (last->at < sidecar->written)
      sidecar->written = last->at;
    g_array_set_size (sidecar->entries, sidecar->entries->len - 1);
  }
}

/* Loads an incomplete one record by record, and cuts off what is not whole. */
static gboolean
walk_journal (VmaSidecar *sidecar)
{
  gint64 end = lseek (sidecar->fd, 0, SEEK_END);
  guint64 at = HEADER_SIZE;

  if (!header_fits (sidecar))
    return FALSE;
  g_array_set_size (sidecar->entries, 0);
  while (at < (guint64) end) {
    guint8 fixed[RECORD_FIXED];
    Entry entry = { .at = at };
    gsize size;
    if (!vma_io_pread_all (sidecar->fd, fixed, sizeof fixed, at)
        || !parse_fixed (sidecar, fixed, &entry, &size) || size > (guint64) end - at
        || !follows (sidecar, &entry, FALSE))
      break;
    g_array_append_val (sidecar->entries, entry);
    at += size;
  }
  if (sidecar->entries->len == 0)
    return FALSE;
  sidecar->written = at;
  drop_bad_tail (sidecar);
  return ftruncate (sidecar->fd, (off_t) sidecar->written) == 0;
}

/* TRUE where a complete sidecar was loaded. */
static gboolean
open_complete (VmaSidecar *sidecar)
{
  sidecar->fd = open (sidecar->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (sidecar->fd < 0)
    return FALSE;
  if (load_table (sidecar))
    return TRUE;
  g_message ("the saved checkpoints %s are damaged: they are made anew", sidecar->name);
  unlink (sidecar->name);
  close (sidecar->fd);
  sidecar->fd = -1;
  return FALSE;
}

/* Whether `fd` is still what `path` names. */
static gboolean
is_still_at (int fd, const char *path)
{
  struct stat a, b;

  return fstat (fd, &a) == 0 && stat (path, &b) == 0 && a.st_dev == b.st_dev
         && a.st_ino == b.st_ino;
}

typedef enum { PART_OURS, PART_TAKEN, PART_GONE, PART_FAILED } PartResult;

/* Takes the journal under construction, if nobody else is at it. */
static PartResult
open_part (VmaSidecar *sidecar)
{
  int fd = open (sidecar->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

  if (fd < 0)
    return PART_FAILED;
  if (flock (fd, LOCK_EX | LOCK_NB) != 0) {
    int reason = errno;
    close (fd);
    return reason == EWOULDBLOCK ? PART_TAKEN : PART_FAILED;
  }
  /* Between open() and flock() its builder may have finished and renamed it. */
  if (!is_still_at (fd, sidecar->part)) {
    close (fd);
    return PART_GONE;
  }
  sidecar->fd = fd;
  return PART_OURS;
}

/* Finds or makes the named files.  FALSE where an unnamed one must do. */
static gboolean
open_named (VmaSidecar *sidecar, const char *directory)
{
  for (guint attempt = 0; attempt < 8; attempt++) {
    if (open_complete (sidecar)) {
      g_clear_pointer (&sidecar->part, g_free);
      return TRUE;
    }
    switch (open_part (sidecar)) {
    case PART_OURS:
      return TRUE;
    case PART_GONE:
      continue;
    case PART_TAKEN:
      g_info ("another program is indexing this file: this one indexes for itself");
      return FALSE;
    case PART_FAILED:
      g_message ("cannot save checkpoints in %s: %s", directory, g_strerror (errno));
      return FALSE;
    }
  }
  return FALSE;
}

static void
set_key (VmaSidecar *sidecar, const VmaSidecarKey *key)
{
  guint8 fixed[56];
  XXH3_state_t *state = XXH3_createState ();

  vma_put_le64 (fixed, key->identity.size);
  vma_put_le64 (fixed + 8, (guint64) key->identity.mtime_ns);
  memcpy (fixed + 16, key->identity.head, 16);
  memcpy (fixed + 32, key->identity.tail, 16);
  vma_put_le64 (fixed + 48, key->spacing);
  XXH3_128bits_reset (state);
  XXH3_128bits_update (state, fixed, sizeof fixed);
  XXH3_128bits_update (state, key->kind, strlen (key->kind));
  XXH128_canonicalFromHash ((XXH128_canonical_t *) sidecar->key, XXH3_128bits_digest (state));
  XXH3_freeState (state);
  sidecar->seed = vma_get_le64 (sidecar->key);
}

VmaSidecar *
vma_sidecar_open (const char *directory, const VmaSidecarKey *key, GError **error)
{
  g_autoptr (VmaSidecar) sidecar = g_new0 (VmaSidecar, 1);

  pthread_mutex_init (&sidecar->mutex, NULL);
  sidecar->fd = -1;
  sidecar->entries = g_array_new (FALSE, FALSE, sizeof (Entry));
  sidecar->behind = g_byte_array_new ();
  set_key (sidecar, key);

  if (directory != NULL) {
    g_autoptr (GString) file = g_string_new (NULL);
    for (guint i = 0; i < sizeof sidecar->key; i++)
      g_string_append_printf (file, "%02x", sidecar->key[i]);
    g_string_append (file, ".checkpoints");
    sidecar->name = g_build_filename (directory, file->str, NULL);
    sidecar->part = g_strconcat (sidecar->name, ".part", NULL);
    g_mkdir_with_parents (directory, 0700);
    if (!open_named (sidecar, directory)) {
      g_clear_pointer (&sidecar->name, g_free);
      g_clear_pointer (&sidecar->part, g_free);
    }
  }
  if (sidecar->fd < 0)
    sidecar->fd = open_unnamed (directory);
  if (sidecar->fd < 0) {
    vma_set_errno_error (error, errno, "cannot save checkpoints");
    return NULL;
  }
  if (!sidecar->complete && !walk_journal (sidecar)) {
    if (lseek (sidecar->fd, 0, SEEK_END) > 0)
      g_message ("saved checkpoints %s are damaged: they are made anew", sidecar->part);
    if (!start_empty (sidecar, error))
      return NULL;
  }
  return g_steal_pointer (&sidecar);
}

void
vma_sidecar_free (VmaSidecar *sidecar)
{
  if (sidecar->fd >= 0) {
    if (!sidecar->complete)
      flush (sidecar, NULL);
    close (sidecar->fd);
  }
  g_free (sidecar->name);
  g_free (sidecar->part);
  g_free (sidecar->end_pieces);
  g_array_unref (sidecar->entries);
  g_byte_array_unref (sidecar->behind);
  pthread_mutex_destroy (&sidecar->mutex);
  g_free (sidecar);
}

gboolean
vma_sidecar_is_complete (VmaSidecar *sidecar)
{
  pthread_mutex_lock (&sidecar->mutex);
  gboolean complete = sidecar->complete;
  pthread_mutex_unlock (&sidecar->mutex);
  return complete;
}

guint64
vma_sidecar_count (VmaSidecar *sidecar, guint64 *closed)
{
  pthread_mutex_lock (&sidecar->mutex);
  guint64 n = count (sidecar);
  *closed = entry_at (sidecar, sidecar->entries->len - 1)->out;
  pthread_mutex_unlock (&sidecar->mutex);
  return n;
}

gboolean
vma_sidecar_append (VmaSidecar *sidecar, const VmaCheckpoint *checkpoint, const VmaPiece *pieces,
                    guint n_pieces, GError **error)
{
  gboolean ok = FALSE;

  pthread_mutex_lock (&sidecar->mutex);
  const Entry *last = entry_at (sidecar, sidecar->entries->len - 1);
  if (sidecar->ended || checkpoint->out <= last->out || checkpoint->in < last->in)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "a checkpoint out of order");
  else
    ok = append_record (sidecar, checkpoint->in, checkpoint->out, checkpoint->state, pieces,
                        n_pieces, error);
  pthread_mutex_unlock (&sidecar->mutex);
  return ok;
}

static gboolean
write_table (VmaSidecar *sidecar, GError **error)
{
  GArray *entries = sidecar->entries;
  gsize table_size = (gsize) entries->len * ENTRY_SIZE;
  g_autofree guint8 *table = g_malloc (table_size + FOOTER_SIZE);
  guint8 *footer = table + table_size;

  for (guint i = 0; i < entries->len; i++) {
    const Entry *entry = entry_at (sidecar, i);
    vma_put_le64 (table + (gsize) i * ENTRY_SIZE, entry->in);
    vma_put_le64 (table + (gsize) i * ENTRY_SIZE + 8, entry->out);
    vma_put_le64 (table + (gsize) i * ENTRY_SIZE + 16, entry->at);
  }
  memcpy (footer, footer_magic, sizeof footer_magic);
  vma_put_le64 (footer + 8, sidecar->written);
  vma_put_le64 (footer + 16, entries->len - 1);
  hash_128 (sidecar, table, table_size, footer + 24);
  vma_put_le64 (footer + 40, check_64 (sidecar, footer, 40));
  if (!write_at (sidecar->fd, table, table_size + FOOTER_SIZE, sidecar->written, error))
    return FALSE;
  sidecar->written += table_size + FOOTER_SIZE;
  return TRUE;
}

/*
 * Writes the rest and gives the finished file its name.  For this run it is as good without: failure is
 * only worth a note, and what is not on disk yet is tried again by those who read it.
 */
static void
publish (VmaSidecar *sidecar)
{
  g_autoptr (GError) error = NULL;

  sidecar->complete = flush (sidecar, &error);
  if (sidecar->complete && sidecar->part != NULL && write_table (sidecar, &error)
      && (fdatasync (sidecar->fd) != 0 || rename (sidecar->part, sidecar->name) != 0))
    vma_set_errno_error (&error, errno, "cannot save checkpoints");
  if (error != NULL)
    g_message ("%s: %s", sidecar->name != NULL ? sidecar->name : "an unnamed file",
               error->message);
  g_clear_pointer (&sidecar->part, g_free);
}

gboolean
vma_sidecar_finish (VmaSidecar *sidecar, guint64 in, guint64 out, const VmaPiece *pieces,
                    guint n_pieces, GError **error)
{
  gboolean ok = FALSE;

  pthread_mutex_lock (&sidecar->mutex);
  if (sidecar->ended || out < entry_at (sidecar, sidecar->entries->len - 1)->out) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "the end out of order");
  } else if (append_record (sidecar, in, out, NULL, pieces, n_pieces, error)) {
    sidecar->ended = ok = TRUE;
    publish (sidecar);
  }
  pthread_mutex_unlock (&sidecar->mutex);
  return ok;
}

void
vma_sidecar_abort (VmaSidecar *sidecar, guint64 out, const VmaPiece *pieces, guint n_pieces)
{
  pthread_mutex_lock (&sidecar->mutex);
  const Entry *last = entry_at (sidecar, sidecar->entries->len - 1);
  if (!sidecar->ended && out >= last->out) {
    Entry entry = { last->in, out, 0 };
    sidecar->end_pieces = g_memdup2 (pieces, n_pieces * sizeof *pieces);
    sidecar->n_end_pieces = n_pieces;
    sidecar->ended = TRUE;
    g_array_append_val (sidecar->entries, entry);
  }
  pthread_mutex_unlock (&sidecar->mutex);
}

/* The last entry at or before `offset`. */
static guint64
search (const VmaSidecar *sidecar, guint64 offset)
{
  guint64 low = 0, high = sidecar->entries->len;

  while (high - low > 1) {
    guint64 middle = low + (high - low) / 2;
    if (entry_at (sidecar, middle)->out <= offset)
      low = middle;
    else
      high = middle;
  }
  return low;
}

gboolean
vma_sidecar_get (VmaSidecar *sidecar, guint64 index, guint64 *out, guint64 *size)
{
  pthread_mutex_lock (&sidecar->mutex);
  gboolean found = index + 1 < sidecar->entries->len;
  if (found) {
    *out = entry_at (sidecar, index)->out;
    *size = entry_at (sidecar, index + 1)->out - *out;
  }
  pthread_mutex_unlock (&sidecar->mutex);
  return found;
}

gboolean
vma_sidecar_find (VmaSidecar *sidecar, guint64 offset, guint64 *index, guint64 *out, guint64 *size)
{
  pthread_mutex_lock (&sidecar->mutex);
  guint64 i = search (sidecar, offset);
  gboolean found = i + 1 < sidecar->entries->len;
  if (found) {
    *index = i;
    *out = entry_at (sidecar, i)->out;
    *size = entry_at (sidecar, i + 1)->out - *out;
  }
  pthread_mutex_unlock (&sidecar->mutex);
  return found;
}

static GBytes *
record_state (const guint8 *record)
{
  gsize size = vma_get_le32 (record + 16);
  gsize at = RECORD_FIXED + (gsize) vma_get_le32 (record + 20) * PIECE_SIZE;

  return size > 0 ? g_bytes_new (record + at, size) : NULL;
}

/* The pieces must make up the chunk exactly. */
static gboolean
take_pieces (VmaSidecarChunk *chunk, VmaPiece *pieces, guint n_pieces)
{
  guint64 sum = 0;

  chunk->pieces = pieces;
  chunk->n_pieces = n_pieces;
  for (guint i = 0; i < n_pieces; i++)
    sum += pieces[i].size;
  return n_pieces == 0 || sum == chunk->size;
}

static VmaPiece *
record_pieces (const guint8 *record, guint *n_pieces)
{
  guint n = vma_get_le32 (record + 20);

  *n_pieces = n;
  if (n == 0)
    return NULL;
  VmaPiece *pieces = g_new (VmaPiece, n);
  for (guint i = 0; i < n; i++) {
    const guint8 *p = record + RECORD_FIXED + (gsize) i * PIECE_SIZE;
    pieces[i].size = vma_get_le32 (p);
    memcpy (pieces[i].hash, p + 4, HASH_SIZE);
  }
  return pieces;
}

/* A copy of two entries and of what is only in memory, so that files are read without the lock. */
typedef struct {
  Entry from, to;
  gboolean aborted; /* `to` has no record */
  VmaPiece *pieces;
  guint n_pieces;
} Snapshot;

static gboolean
take_snapshot (VmaSidecar *sidecar, guint64 index, Snapshot *snapshot, GError **error)
{
  gboolean ok = FALSE;

  *snapshot = (Snapshot){ 0 };
  pthread_mutex_lock (&sidecar->mutex);
  if (index + 1 >= sidecar->entries->len) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "no such chunk");
  } else if (sidecar->complete || flush (sidecar, error)) {
    ok = TRUE;
    snapshot->from = *entry_at (sidecar, index);
    snapshot->to = *entry_at (sidecar, index + 1);
    snapshot->aborted = snapshot->to.at == 0;
    if (snapshot->aborted) {
      snapshot->n_pieces = sidecar->n_end_pieces;
      snapshot->pieces
          = g_memdup2 (sidecar->end_pieces, snapshot->n_pieces * sizeof *snapshot->pieces);
    }
  }
  pthread_mutex_unlock (&sidecar->mutex);
  return ok;
}

VmaSidecarChunk *
vma_sidecar_read (VmaSidecar *sidecar, guint64 index, GError **error)
{
  Snapshot snapshot;

  if (!take_snapshot (sidecar, index, &snapshot, error))
    return NULL;

  g_autoptr (VmaSidecarChunk) chunk = g_new0 (VmaSidecarChunk, 1);
  gboolean is_first = index == 0; /* known without its record */
  g_autofree guint8 *from = is_first ? NULL : read_record (sidecar, &snapshot.from);
  g_autofree guint8 *to = snapshot.aborted ? NULL : read_record (sidecar, &snapshot.to);
  gboolean ok = (is_first || from != NULL) && (snapshot.aborted || to != NULL);

  if (to != NULL)
    snapshot.pieces = record_pieces (to, &snapshot.n_pieces);
  chunk->from.in = snapshot.from.in;
  chunk->from.out = snapshot.from.out;
  chunk->from.next = snapshot.n_pieces == 0 && !snapshot.aborted ? snapshot.to.in : 0;
  chunk->size = snapshot.to.out - snapshot.from.out;
  if (!take_pieces (chunk, snapshot.pieces, snapshot.n_pieces) || !ok) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                 "the saved checkpoint at %" G_GUINT64_FORMAT " is damaged", snapshot.from.out);
    return NULL;
  }
  chunk->from.state = from != NULL ? record_state (from) : NULL;
  return g_steal_pointer (&chunk);
}

VmaSidecarChunk *
vma_sidecar_last (VmaSidecar *sidecar, GError **error)
{
  g_autoptr (VmaSidecarChunk) chunk = NULL;

  pthread_mutex_lock (&sidecar->mutex);
  if (sidecar->ended)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "nothing is left to be indexed");
  else if (flush (sidecar, error)) {
    drop_bad_tail (sidecar);
    const Entry *last = entry_at (sidecar, sidecar->entries->len - 1);
    /* The first checkpoint is known without its record. */
    g_autofree guint8 *record = last->out > 0 ? read_record (sidecar, last) : NULL;
    chunk = g_new0 (VmaSidecarChunk, 1);
    chunk->from.in = last->in;
    chunk->from.out = last->out;
    chunk->from.state = record != NULL ? record_state (record) : NULL;
  }
  pthread_mutex_unlock (&sidecar->mutex);
  return g_steal_pointer (&chunk);
}

/*
 * Moves the first `size` bytes to an unnamed file of our own, under the same descriptor: the old one
 * may be in use by another process, which would append to it as well.
 */
static gboolean
move_to_own_file (VmaSidecar *sidecar, guint64 size)
{
  g_autofree guint8 *buffer = g_malloc (1u << 20);
  g_autofree char *directory = sidecar->name != NULL ? g_path_get_dirname (sidecar->name) : NULL;
  int fd = open_unnamed (directory);
  gboolean ok = fd >= 0;

  for (guint64 at = 0; ok && at < size;) {
    gsize n = (gsize) MIN (1u << 20, size - at);
    ok = vma_io_pread_all (sidecar->fd, buffer, n, at) && write_at (fd, buffer, n, at, NULL);
    at += n;
  }
  ok = ok && dup3 (fd, sidecar->fd, O_CLOEXEC) >= 0;
  if (fd >= 0)
    close (fd);
  return ok;
}

gboolean
vma_sidecar_cut (VmaSidecar *sidecar, guint64 index, GError **error)
{
  gboolean ok = FALSE;

  pthread_mutex_lock (&sidecar->mutex);
  index = CLAMP (index, 1, sidecar->entries->len);
  guint64 size = index < sidecar->entries->len ? entry_at (sidecar, index)->at : 0;
  if (size == 0)
    size = sidecar->written;
  if (sidecar->name != NULL)
    g_message ("the saved checkpoints %s are damaged: they are made anew", sidecar->name);
  if (sidecar->name != NULL && is_still_at (sidecar->fd, sidecar->name))
    unlink (sidecar->name);
  if (sidecar->part != NULL && is_still_at (sidecar->fd, sidecar->part))
    unlink (sidecar->part);
  if (flush (sidecar, NULL) && move_to_own_file (sidecar, size)) {
    g_array_set_size (sidecar->entries, (guint) index);
    g_clear_pointer (&sidecar->end_pieces, g_free);
    sidecar->n_end_pieces = 0;
    sidecar->ended = sidecar->complete = FALSE;
    sidecar->written = size;
    ok = TRUE;
  } else {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "cannot save checkpoints");
  }
  g_clear_pointer (&sidecar->name, g_free);
  g_clear_pointer (&sidecar->part, g_free);
  pthread_mutex_unlock (&sidecar->mutex);
  return ok;
}
