/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of ext3 and ext4.
 *
 * Input: a journal in blocks of 1 KiB, the last one filled up with zeros.
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "guest/journal.h"
#include "vma/error.h"

#include <string.h>

#define BLOCK     1024u
#define FS_BLOCKS 100000u

typedef struct {
  const guint8 *bytes;
  gsize size;
} Journal;

static gboolean
read_block (gpointer data, guint32 block, guint8 *buffer, GError **error)
{
  const Journal *input = data;
  gsize at = (gsize) block * BLOCK;

  if (at >= input->size) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING, "no such block");
    return FALSE;
  }
  memset (buffer, 0, BLOCK);
  memcpy (buffer, input->bytes + at, MIN (BLOCK, input->size - at));
  return TRUE;
}

static gboolean
find_place (gpointer data G_GNUC_UNUSED, guint32 block, guint64 *place)
{
  *place = block;
  return TRUE;
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  Journal input = { bytes, size };
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaJournal) journal = vma_journal_load (read_block, &input, BLOCK, FS_BLOCKS, &error);
  gboolean escaped;
  guint64 place;
  guint found = 0;

  CHECK ((journal == NULL) == (error != NULL));
  if (journal == NULL)
    return 0;
  CHECK (vma_journal_resolve (journal, find_place, NULL));
  for (guint64 block = 0; block < FS_BLOCKS; block++)
    found += vma_journal_find (journal, block, &place, &escaped);
  CHECK (found == vma_journal_size (journal));
  return 0;
}
