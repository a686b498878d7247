/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/reader.h"

#include "index/lock.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "vma/error.h"

#include <signal.h>

/* Small enough to stay in a core's cache, large enough not to count the calls. */
#define PIECE (256u * 1024u)
/* What a thread takes at a time; in it a disk or the kernel can read ahead. */
#define STRETCH (8u * 1024u * 1024u)
/* Headers between data are read with them rather than stepped over. */
#define GAP (64u * 1024u)
/* Stretches that wait for a thread.  The scanner need not be far ahead. */
#define QUEUE_MAX 16
/* Where a piece cannot be read, how finely it is looked at. */
#define UNREADABLE_STEP 4096u

struct ToolReader {
  VmaArchive *archive;
  VmaSource *source;
  gboolean keep_going;
  guint n_threads;
  pthread_t *threads;
  guint8 *buffer; /* without threads */
  ToolRange pending; /* not yet in the queue */

  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t changed;
  GQueue queue;       /* ToolRange * */
  gboolean closed;    /* nothing more will come */
  GError *failure;    /* the one that is first in the archive ... */
  guint64 failed_at;  /* ... in the stretch from here */
  GArray *unreadable; /* ToolRange, in no order before the finish */
};

/* --- reading ----------------------------------------------------------------------------------- */

static void
note_unreadable (ToolReader *reader, guint64 start, guint64 end)
{
  VMA_LOCK (&reader->lock);
  if (reader->unreadable->len > 0) {
    ToolRange *last
        = &g_array_index (reader->unreadable, ToolRange, reader->unreadable->len - 1);
    if (last->end == start) {
      last->end = end;
      return;
    }
  }
  const ToolRange range = { start, end };
  g_array_append_val (reader->unreadable, range);
}

/* Whether a read has failed without telling anything of the archive. */
static gboolean
is_hopeless (const GError *error)
{
  return g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED)
         || g_error_matches (error, VMA_ERROR, VMA_ERROR_CONNECTION);
}

/* Finds out which parts of a piece are bad. */
static gboolean
read_around (ToolReader *reader, guint8 *buffer, guint64 start, guint64 end, GError **error)
{
  for (guint64 at = start, next; at < end; at = next) {
    g_autoptr (GError) local = NULL;
    next = MIN (end, (at / UNREADABLE_STEP + 1) * UNREADABLE_STEP);
    if (vma_source_pread_full (reader->source, buffer, (gsize) (next - at), at, VMA_READ_DATA,
                               tool_cancellable (), &local))
      continue;
    if (is_hopeless (local)) {
      g_propagate_error (error, g_steal_pointer (&local));
      return FALSE;
    }
    note_unreadable (reader, at, next);
  }
  return TRUE;
}

static gboolean
read_range (ToolReader *reader, guint8 *buffer, const ToolRange *range, GError **error)
{
  gsize size;

  for (guint64 at = range->start; at < range->end; at += size) {
    g_autoptr (GError) local = NULL;

    if (g_cancellable_is_cancelled (tool_cancellable ())) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    /* On the grid of the checksums: a whole chunk is checked where it is read. */
    size = (gsize) MIN (PIECE - at % PIECE, range->end - at);
    if (vma_source_pread_full (reader->source, buffer, size, at, VMA_READ_DATA,
                               tool_cancellable (), &local)) {
      tool_progress_add (size);
      continue;
    }
    if (!reader->keep_going || is_hopeless (local)) {
      g_propagate_error (error, g_steal_pointer (&local));
      return FALSE;
    }
    if (!read_around (reader, buffer, at, at + size, error))
      return FALSE;
  }
  return TRUE;
}

/* --- threads ----------------------------------------------------------------------------------- */

/* The next stretch; NULL when there is no more to do.  The caller holds the lock. */
static ToolRange *
take (ToolReader *reader)
{
  while (reader->queue.length == 0 && !reader->closed)
    pthread_cond_wait (&reader->changed, &reader->lock);
  ToolRange *range = reader->failure == NULL ? g_queue_pop_head (&reader->queue) : NULL;
  pthread_cond_broadcast (&reader->changed);
  return range;
}

static void *
reading_thread (void *data)
{
  ToolReader *reader = data;
  g_autofree guint8 *buffer = g_malloc (PIECE);

  for (;;) {
    g_autofree ToolRange *range = NULL;
    GError *error = NULL;
    {
      VMA_LOCK (&reader->lock);
      range = take (reader);
    }
    if (range == NULL)
      return NULL;
    if (read_range (reader, buffer, range, &error))
      continue;
    VMA_LOCK (&reader->lock);
    /* Threads are not in step: keep the error that comes first in the archive. */
    if (reader->failure == NULL || range->start < reader->failed_at) {
      g_clear_error (&reader->failure);
      reader->failure = error;
      reader->failed_at = range->start;
    } else
      g_error_free (error);
    pthread_cond_broadcast (&reader->changed);
  }
}

ToolReader *
tool_reader_new (VmaArchive *archive, guint jobs, gboolean keep_going)
{
  ToolReader *reader = g_new0 (ToolReader, 1);

  reader->archive = archive;
  reader->source = vma_archive_source (archive);
  reader->keep_going = keep_going;
  pthread_mutex_init (&reader->lock, NULL);
  pthread_cond_init (&reader->changed, NULL);
  g_queue_init (&reader->queue);
  reader->unreadable = g_array_new (FALSE, FALSE, sizeof (ToolRange));
  reader->threads = g_new0 (pthread_t, jobs);
  while (reader->n_threads < jobs
         && pthread_create (&reader->threads[reader->n_threads], NULL, reading_thread, reader) == 0)
    reader->n_threads++;
  if (reader->n_threads == 0)
    reader->buffer = g_malloc (PIECE);
  return reader;
}

static void
join_threads (ToolReader *reader)
{
  {
    VMA_LOCK (&reader->lock);
    reader->closed = TRUE;
    pthread_cond_broadcast (&reader->changed);
  }
  for (guint i = 0; i < reader->n_threads; i++)
    pthread_join (reader->threads[i], NULL);
  reader->n_threads = 0;
}

void
tool_reader_free (ToolReader *reader)
{
  {
    VMA_LOCK (&reader->lock);
    g_queue_clear_full (&reader->queue, g_free);
  }
  join_threads (reader);
  g_clear_error (&reader->failure);
  g_array_unref (reader->unreadable);
  pthread_cond_destroy (&reader->changed);
  pthread_mutex_destroy (&reader->lock);
  g_free (reader->threads);
  g_free (reader->buffer);
  g_free (reader);
}

static gboolean
copy_failure (ToolReader *reader, GError **error)
{
  VMA_LOCK (&reader->lock);
  if (reader->failure == NULL)
    return TRUE;
  g_propagate_error (error, g_error_copy (reader->failure));
  vma_archive_prefix_error (reader->archive, error);
  return FALSE;
}

/* Gives the pending stretch to the threads, when one of them is near to need it. */
static gboolean
enqueue (ToolReader *reader, GError **error)
{
  if (reader->pending.start == reader->pending.end)
    return TRUE;
  {
    VMA_LOCK (&reader->lock);
    while (reader->queue.length >= QUEUE_MAX && reader->failure == NULL)
      pthread_cond_wait (&reader->changed, &reader->lock);
    g_queue_push_tail (&reader->queue, g_memdup2 (&reader->pending, sizeof reader->pending));
    pthread_cond_broadcast (&reader->changed);
  }
  reader->pending = (ToolRange){ 0 };
  return copy_failure (reader, error);
}

gboolean
tool_reader_add (ToolReader *reader, guint64 start, guint64 end, GError **error)
{
  if (start == end)
    return TRUE;
  if (reader->n_threads == 0) {
    const ToolRange range = { start, end };
    if (read_range (reader, reader->buffer, &range, error))
      return TRUE;
    vma_archive_prefix_error (reader->archive, error);
    return FALSE;
  }
  ToolRange *pending = &reader->pending;
  if (pending->start < pending->end && start - pending->end <= GAP
      && end - pending->start <= STRETCH) {
    pending->end = end;
    return TRUE;
  }
  if (!enqueue (reader, error))
    return FALSE;
  *pending = (ToolRange){ start, end };
  return TRUE;
}

static gint
compare_ranges (gconstpointer a, gconstpointer b)
{
  guint64 x = ((const ToolRange *) a)->start, y = ((const ToolRange *) b)->start;

  return x < y ? -1 : x > y;
}

gboolean
tool_reader_finish (ToolReader *reader, GError **error)
{
  gboolean ok = enqueue (reader, error);

  join_threads (reader);
  if (!ok || !copy_failure (reader, error))
    return FALSE;
  g_array_sort (reader->unreadable, compare_ranges);
  return TRUE;
}

const GArray *
tool_reader_unreadable (const ToolReader *reader)
{
  return reader->unreadable;
}
