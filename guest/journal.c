/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/journal.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <ext2fs/ext2fs.h>
#include <string.h>

#define MAX_BLOCKS (16u * 1024 * 1024)
#define HEADER     12u

enum { DESCRIPTOR = 1, COMMIT = 2, SUPERBLOCK_V1 = 3, SUPERBLOCK_V2 = 4, REVOKE = 5 };
enum { HAS_REVOKE = 1, HAS_64BIT = 2, HAS_ASYNC = 4, HAS_CSUM_V2 = 8, HAS_CSUM_V3 = 16 };
enum { TAG_ESCAPED = 1, TAG_SAME_UUID = 2, TAG_DELETED = 4, TAG_LAST = 8 };

/* A block's newest copy; `order` counts transactions. */
typedef struct {
  guint64 fs_block, place;
  guint32 block, order;
  gboolean escaped;
} Copy;

struct VmaJournal {
  GHashTable *copies; /* by fs_block: Copy, owned */
  char *problem;
};

typedef struct {
  VmaJournalRead read;
  gpointer data;
  guint32 block_size;
  guint64 fs_blocks;

  guint32 features, first, last; /* blocks [first, last) are a ring */
  guint32 seed;                  /* of checksums */
  guint32 sequence, order;       /* of the transaction that is read */
  GArray *tags;                  /* Copy: of that transaction */
  GArray *revoked;               /* guint64: likewise */
  GHashTable *copies;
  GHashTable *revokes;           /* fs block: Copy, of which `order` counts */
  guint8 *buffer, *data_block;
} Loading;

void
vma_journal_free (VmaJournal *journal)
{
  g_hash_table_unref (journal->copies);
  g_free (journal->problem);
  g_free (journal);
}

const char *
vma_journal_problem (const VmaJournal *journal)
{
  return journal->problem;
}

guint
vma_journal_size (const VmaJournal *journal)
{
  return g_hash_table_size (journal->copies);
}

gboolean
vma_journal_resolve (VmaJournal *journal, VmaJournalPlace func, gpointer data)
{
  GHashTableIter iter;
  gpointer copy;

  g_hash_table_iter_init (&iter, journal->copies);
  while (g_hash_table_iter_next (&iter, NULL, &copy))
    if (!func (data, ((Copy *) copy)->block, &((Copy *) copy)->place))
      return FALSE;
  return TRUE;
}

gboolean
vma_journal_find (const VmaJournal *journal, guint64 fs_block, guint64 *place, gboolean *escaped)
{
  const Copy *copy = g_hash_table_lookup (journal->copies, &fs_block);

  if (copy == NULL)
    return FALSE;
  *place = copy->place;
  *escaped = copy->escaped;
  return TRUE;
}

static gboolean
broken (const char *why, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "the journal: %s", why);
  return FALSE;
}

/* --- checksums --------------------------------------------------------------------------------- */

static gboolean
has_checksums (const Loading *l)
{
  return (l->features & (HAS_CSUM_V2 | HAS_CSUM_V3)) != 0;
}

/* Of a block that holds its own sum at `at`, which counts as zeros. */
static gboolean
block_is_sound (const Loading *l, guint8 *block, guint at)
{
  if (!has_checksums (l))
    return TRUE;
  guint32 stored = vma_get_be32 (block + at);
  vma_put_be32 (block + at, 0);
  guint32 sum = ext2fs_crc32c_le (l->seed, block, l->block_size);
  vma_put_be32 (block + at, stored);
  return sum == stored;
}

static gboolean
data_is_sound (const Loading *l, const guint8 *data, guint32 stored)
{
  guint8 sequence[4];

  vma_put_be32 (sequence, l->sequence);
  guint32 sum = ext2fs_crc32c_le (l->seed, sequence, sizeof sequence);
  sum = ext2fs_crc32c_le (sum, data, l->block_size);
  return (l->features & HAS_CSUM_V3) != 0 ? sum == stored : (sum & 0xffff) == stored;
}

/* --- transactions ------------------------------------------------------------------------------ */

static guint32
advance (const Loading *l, guint32 block)
{
  return block + 1 == l->last ? l->first : block + 1;
}

typedef struct {
  guint64 fs_block;
  guint32 flags, checksum;
  guint size;
} Tag;

static void
parse_tag (const Loading *l, const guint8 *bytes, Tag *tag)
{
  gboolean wide = (l->features & HAS_64BIT) != 0;

  tag->fs_block = vma_get_be32 (bytes);
  if ((l->features & HAS_CSUM_V3) != 0) {
    tag->flags = vma_get_be32 (bytes + 4);
    tag->fs_block |= wide ? (guint64) vma_get_be32 (bytes + 8) << 32 : 0;
    tag->checksum = vma_get_be32 (bytes + 12);
    tag->size = 16;
    return;
  }
  tag->checksum = vma_get_be16 (bytes + 4);
  tag->flags = vma_get_be16 (bytes + 6);
  tag->fs_block |= wide ? (guint64) vma_get_be32 (bytes + 8) << 32 : 0;
  tag->size = (wide ? 12 : 8) + ((l->features & HAS_CSUM_V2) != 0 ? 2 : 0);
}

/* The data of a tag: checked where that can be done, and noted. */
static gboolean
add_tag (Loading *l, const Tag *tag, guint32 block, GError **error)
{
  const Copy copy = { .fs_block = tag->fs_block, .block = block, .order = l->order,
                      .escaped = (tag->flags & TAG_ESCAPED) != 0 };

  if (tag->fs_block >= l->fs_blocks)
    return broken ("a block beyond the end of the file system", error);
  if (has_checksums (l)) {
    if (!l->read (l->data, block, l->data_block, error))
      return FALSE;
    if (!data_is_sound (l, l->data_block, tag->checksum))
      return broken ("checksum mismatch", error);
  }
  if ((tag->flags & TAG_DELETED) == 0)
    g_array_append_val (l->tags, copy);
  return TRUE;
}

/* The tags of a descriptor block; *at moves behind their data. */
static gboolean
read_descriptor (Loading *l, guint32 *at, guint32 *steps, GError **error)
{
  guint end = l->block_size - (has_checksums (l) ? 4 : 0);
  guint offset = HEADER;
  Tag tag;

  do {
    if (offset + 16 > end) {
      /* What is left may be less than the largest tag, but must not be less than this one. */
      guint8 padded[16] = { 0 };
      memcpy (padded, l->buffer + offset, offset < end ? end - offset : 0);
      parse_tag (l, padded, &tag);
    } else
      parse_tag (l, l->buffer + offset, &tag);
    if (offset + tag.size > end)
      return TRUE; /* full */
    offset += tag.size + ((tag.flags & TAG_SAME_UUID) != 0 ? 0 : 16);
    if (++*steps >= l->last - l->first)
      return broken ("it is longer than its own file", error);
    if (!add_tag (l, &tag, *at, error))
      return FALSE;
    *at = advance (l, *at);
  } while ((tag.flags & TAG_LAST) == 0);
  return TRUE;
}

static gboolean
read_revoke (Loading *l, GError **error)
{
  guint width = (l->features & HAS_64BIT) != 0 ? 8 : 4;
  guint32 used = vma_get_be32 (l->buffer + HEADER);

  if (used > l->block_size)
    return broken ("a list is longer than its block", error);
  for (guint32 at = HEADER + 4; at + width <= used; at += width) {
    guint64 block = width == 8 ? vma_get_be64 (l->buffer + at) : vma_get_be32 (l->buffer + at);
    g_array_append_val (l->revoked, block);
  }
  return TRUE;
}

static void
insert (GHashTable *table, const Copy *copy)
{
  Copy *owned = g_memdup2 (copy, sizeof *copy);

  g_hash_table_replace (table, &owned->fs_block, owned);
}

/* The transaction was committed: what it says holds. */
static void
commit (Loading *l)
{
  for (guint i = 0; i < l->tags->len; i++)
    insert (l->copies, &g_array_index (l->tags, Copy, i));
  for (guint i = 0; i < l->revoked->len; i++) {
    const Copy revoke = { .fs_block = g_array_index (l->revoked, guint64, i), .order = l->order };
    insert (l->revokes, &revoke);
  }
  g_array_set_size (l->tags, 0);
  g_array_set_size (l->revoked, 0);
  l->order++;
  l->sequence++;
}

/*
 * Follows the log from `at` to where it ends: at whatever is not of the next transaction.  FALSE: it
 * could not be followed to there.
 */
static gboolean
follow (Loading *l, guint32 at, GError **error)
{
  for (guint32 steps = 0; steps < l->last - l->first; steps++) {
    guint32 here = at;

    if (!l->read (l->data, here, l->buffer, error))
      return FALSE;
    if (vma_get_be32 (l->buffer) != VMA_JOURNAL_MAGIC
        || vma_get_be32 (l->buffer + 8) != l->sequence)
      return TRUE;
    at = advance (l, here);
    switch (vma_get_be32 (l->buffer + 4)) {
    case DESCRIPTOR:
      if (!block_is_sound (l, l->buffer, l->block_size - 4))
        return broken ("checksum mismatch", error);
      if (!read_descriptor (l, &at, &steps, error))
        return FALSE;
      break;
    case REVOKE:
      if (!block_is_sound (l, l->buffer, l->block_size - 4))
        return broken ("checksum mismatch", error);
      if (!read_revoke (l, error))
        return FALSE;
      break;
    case COMMIT:
      if (!block_is_sound (l, l->buffer, 16))
        return broken ("checksum mismatch", error);
      commit (l);
      break;
    default:
      return TRUE;
    }
  }
  return TRUE;
}

/* --- the whole --------------------------------------------------------------------------------- */

/* A block that was freed later must not come back over what took its place. */
static gboolean
is_revoked (gpointer key, gpointer value, gpointer data)
{
  const Copy *copy = value, *revoke = g_hash_table_lookup (data, key);

  return revoke != NULL && copy->order <= revoke->order;
}

/* Reads the superblock; *start is where the log begins, 0 where it is empty. */
static gboolean
load_superblock (Loading *l, guint32 *start, GError **error)
{
  const guint32 known = HAS_REVOKE | HAS_64BIT | HAS_ASYNC | HAS_CSUM_V2 | HAS_CSUM_V3;

  if (!l->read (l->data, 0, l->buffer, error))
    return FALSE;
  guint32 type = vma_get_be32 (l->buffer + 4);
  if (vma_get_be32 (l->buffer) != VMA_JOURNAL_MAGIC
      || (type != SUPERBLOCK_V1 && type != SUPERBLOCK_V2))
    return broken ("no journal is there", error);
  l->last = vma_get_be32 (l->buffer + 16);
  l->first = vma_get_be32 (l->buffer + 20);
  l->sequence = vma_get_be32 (l->buffer + 24);
  *start = vma_get_be32 (l->buffer + 28);
  l->features = type == SUPERBLOCK_V2 ? vma_get_be32 (l->buffer + 40) : 0;
  if ((l->features & ~known) != 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "the journal: of a newer kind");
    return FALSE;
  }
  if (vma_get_be32 (l->buffer + 12) != l->block_size || l->first == 0 || l->last <= l->first
      || l->last > MAX_BLOCKS || (*start != 0 && (*start < l->first || *start >= l->last)))
    return broken ("its superblock is broken", error);
  l->seed = ext2fs_crc32c_le (~0u, l->buffer + 48, 16);
  return TRUE;
}

VmaJournal *
vma_journal_load (VmaJournalRead read, gpointer data, guint32 block_size, guint64 fs_blocks,
                  GError **error)
{
  g_return_val_if_fail (block_size >= 1024 && block_size <= 65536, NULL);
  g_autofree guint8 *buffer = g_malloc (block_size), *data_block = g_malloc (block_size);
  g_autoptr (GArray) tags = g_array_new (FALSE, FALSE, sizeof (Copy));
  g_autoptr (GArray) revoked = g_array_new (FALSE, FALSE, sizeof (guint64));
  g_autoptr (GHashTable) copies
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  g_autoptr (GHashTable) revokes
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  Loading l = { .read = read, .data = data, .block_size = block_size, .fs_blocks = fs_blocks,
                .tags = tags, .revoked = revoked, .copies = copies, .revokes = revokes,
                .buffer = buffer, .data_block = data_block };

  g_autoptr (GError) stopped = NULL;
  guint32 start;

  if (!load_superblock (&l, &start, error))
    return NULL;
  if (start != 0 && !follow (&l, start, &stopped)
      && g_error_matches (stopped, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    g_propagate_error (error, g_steal_pointer (&stopped));
    return NULL;
  }
  g_hash_table_foreach_remove (copies, is_revoked, revokes);
  VmaJournal *journal = g_new0 (VmaJournal, 1);
  journal->copies = g_steal_pointer (&copies);
  journal->problem = stopped != NULL ? g_strdup (stopped->message) : NULL;
  return journal;
}
