/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of ext3 and ext4 (JBD2): which blocks of the file system stand in it, newer than in their
 * places.
 *
 * To carry a journal out is to read these instead.  Only transactions that were committed count, and
 * where the journal has checksums all of them are checked.  Pure but for the reading, which the caller
 * does; input is hostile.  A VmaJournal does not change once loaded and
 * resolved.
 */
#pragma once

#include <glib.h>

typedef struct VmaJournal VmaJournal;

/* Reads a block of the journal into `buffer`. */
typedef gboolean (*VmaJournalRead) (gpointer data, guint32 block, guint8 *buffer, GError **error);

/*
 * `fs_blocks` is the size of the file system.  VMA_ERROR_DAMAGED, or _UNSUPPORTED for what this does not
 * know (fast commits), or what `read` gave, where nothing can be said of it.  If that happens further on, what
 * was committed before counts, and vma_journal_problem() tells.
 */
VmaJournal *vma_journal_load (VmaJournalRead read, gpointer data, guint32 block_size,
                              guint64 fs_blocks, GError **error);
void vma_journal_free (VmaJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaJournal, vma_journal_free)

/* Why not all of the journal could be read; NULL: it could. */
const char *vma_journal_problem (const VmaJournal *journal);

/* How many blocks of the file system it has. */
guint vma_journal_size (const VmaJournal *journal);

/* Has `place` told for each block of the journal that is needed; once, before any search. */
typedef gboolean (*VmaJournalPlace) (gpointer data, guint32 block, guint64 *place);
gboolean vma_journal_resolve (VmaJournal *journal, VmaJournalPlace func, gpointer data);

/*
 * The place from which this block of the file system is to be read instead.  With *escaped its first four bytes have to
 * be replaced by VMA_JOURNAL_MAGIC, big endian.
 */
#define VMA_JOURNAL_MAGIC 0xc03b3998u

gboolean vma_journal_find (const VmaJournal *journal, guint64 fs_block, guint64 *place,
                           gboolean *escaped);
