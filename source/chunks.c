/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/chunks.h"

#include "base/thread.h"
#include "vma/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* A waiting thread looks at its cancellable this often. */
#define CANCEL_POLL_MS 20

/* The background fills in steps, so that readers get the front early. */
#define STEP (1u << 20)

/* From this size on memory comes in huge pages where there are any: each page costs a fault. */
#define HUGE_PAGE ((gsize) 2 << 20)

typedef struct {
  guint64 key;
  GList link;      /* in `lru`; data is the chunk */
  guint8 *bytes;
  gsize room;      /* of the memory, at least `size` */
  gsize size;
  gsize valid;     /* bytes[0..valid) may be read */
  guint pins;      /* threads that read or fill it: not to be evicted */
  gboolean filling;
  gpointer parked;
} Chunk;

typedef struct {
  guint64 key;
  gsize size;
} Request;

struct VmaChunks {
  VmaChunksOps ops;
  guint64 limit;
  guint n_threads, max_parked;

  pthread_mutex_t mutex; /* all below, and all chunks' fields */
  pthread_cond_t moved;  /* a chunk has more valid bytes, or is not filled any more */
  pthread_cond_t asked;  /* a request came, or `stop` */
  GHashTable *table;     /* key -> Chunk */
  GQueue lru;            /* head: used last */
  guint64 used;
  guint8 *spare; /* the memory of the chunk that was dropped last, for the next one; or NULL */
  gsize spare_room;
  guint n_parked;
  GQueue requests;
  gboolean stop;
  GArray *threads; /* of pthread_t; started at the first request */
};

static void
unpark (VmaChunks *chunks, Chunk *chunk)
{
  if (chunk->parked == NULL)
    return;
  chunks->ops.park_free (g_steal_pointer (&chunk->parked));
  chunks->n_parked--;
}

/* Memory for `size` bytes; NULL where there is none. */
static guint8 *
take_memory (VmaChunks *chunks, gsize size, gsize *room)
{
  void *memory;

  if (chunks->spare != NULL && chunks->spare_room >= size && chunks->spare_room / 2 <= size) {
    *room = chunks->spare_room;
    return g_steal_pointer (&chunks->spare);
  }
  *room = size;
  if (size < HUGE_PAGE)
    return g_try_malloc (size);
  *room = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  if (posix_memalign (&memory, HUGE_PAGE, *room) != 0)
    return NULL;
  (void) madvise (memory, *room, MADV_HUGEPAGE);
  return memory;
}

static void
drop (VmaChunks *chunks, Chunk *chunk)
{
  unpark (chunks, chunk);
  g_queue_unlink (&chunks->lru, &chunk->link);
  g_hash_table_remove (chunks->table, &chunk->key);
  chunks->used -= chunk->size;
  free (chunks->spare);
  chunks->spare = chunk->bytes;
  chunks->spare_room = chunk->room;
  g_free (chunk);
}

/* Makes room for `more` bytes, least recently used first. */
static void
evict (VmaChunks *chunks, guint64 more)
{
  GList *link = chunks->lru.tail;

  while (link != NULL && chunks->used + more > chunks->limit) {
    Chunk *chunk = link->data;
    link = link->prev;
    if (chunk->pins == 0)
      drop (chunks, chunk);
  }
}

/* Keeps the number of parked decoders down: they may hold large windows. */
static void
evict_parked (VmaChunks *chunks)
{
  for (GList *link = chunks->lru.tail; link != NULL && chunks->n_parked > chunks->max_parked;
       link = link->prev) {
    Chunk *chunk = link->data;
    if (!chunk->filling)
      unpark (chunks, chunk);
  }
}

/* The chunk, pinned; made if need be. */
static Chunk *
pin (VmaChunks *chunks, guint64 key, gsize size, GError **error)
{
  Chunk *chunk = g_hash_table_lookup (chunks->table, &key);

  if (chunk == NULL) {
    evict (chunks, size);
    gsize room;
    guint8 *bytes = take_memory (chunks, size, &room);
    if (bytes == NULL) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                   "not enough memory to decode %" G_GSIZE_FORMAT " bytes", size);
      return NULL;
    }
    chunk = g_new0 (Chunk, 1);
    chunk->key = key;
    chunk->bytes = bytes;
    chunk->room = room;
    chunk->size = size;
    chunk->link.data = chunk;
    chunks->used += size;
    g_hash_table_insert (chunks->table, &chunk->key, chunk);
  } else {
    g_queue_unlink (&chunks->lru, &chunk->link);
  }
  g_queue_push_head_link (&chunks->lru, &chunk->link);
  chunk->pins++;
  return chunk;
}

static void
unpin (VmaChunks *chunks, Chunk *chunk)
{
  chunk->pins--;
  if (chunks->used > chunks->limit)
    evict (chunks, 0);
}

/* Fills a pinned chunk that nobody fills; called with the lock, which is given up meanwhile. */
static gboolean
fill (VmaChunks *chunks, Chunk *chunk, gsize want, GError **error)
{
  gsize have = chunk->valid;
  gpointer parked = chunk->parked;
  gboolean was_parked = parked != NULL;

  chunk->filling = TRUE;
  pthread_mutex_unlock (&chunks->mutex);
  gsize got
      = chunks->ops.fill (chunks->ops.data, chunk->key, chunk->bytes, chunk->size, have, want,
                          &parked, error);
  pthread_mutex_lock (&chunks->mutex);
  chunk->filling = FALSE;
  if (got > have)
    chunk->valid = got;
  chunk->parked = parked;
  chunks->n_parked += (parked != NULL) - was_parked;
  evict_parked (chunks);
  pthread_cond_broadcast (&chunks->moved);
  return got >= want;
}

/* Waits for progress, a while at most where the wait can be cancelled. */
static void
wait_moved (VmaChunks *chunks, GCancellable *cancellable)
{
  if (cancellable == NULL) {
    pthread_cond_wait (&chunks->moved, &chunks->mutex);
    return;
  }
  struct timespec until;
  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_nsec += CANCEL_POLL_MS * 1000000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_cond_timedwait (&chunks->moved, &chunks->mutex, &until);
}

/* Called with the lock, on a pinned chunk. */
static gboolean
make_valid (VmaChunks *chunks, Chunk *chunk, gsize want, GCancellable *cancellable, GError **error)
{
  while (chunk->valid < want) {
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "the read was cancelled");
      return FALSE;
    }
    if (chunk->filling)
      wait_moved (chunks, cancellable);
    else if (!fill (chunks, chunk, want, error))
      return FALSE;
  }
  return TRUE;
}

gboolean
vma_chunks_read (VmaChunks *chunks, guint64 key, gsize size, gsize from, void *buffer, gsize n,
                 GCancellable *cancellable, GError **error)
{
  gboolean ok = FALSE;

  g_return_val_if_fail (from <= size && n <= size - from, FALSE);
  pthread_mutex_lock (&chunks->mutex);
  Chunk *chunk = pin (chunks, key, size, error);
  if (chunk != NULL) {
    ok = make_valid (chunks, chunk, from + n, cancellable, error);
    if (ok) {
      pthread_mutex_unlock (&chunks->mutex);
      memcpy (buffer, chunk->bytes + from, n);
      pthread_mutex_lock (&chunks->mutex);
    }
    unpin (chunks, chunk);
  }
  pthread_mutex_unlock (&chunks->mutex);
  return ok;
}

static gsize
next_step (const VmaChunks *chunks, const Chunk *chunk)
{
  return chunks->ops.in_steps ? MIN (chunk->size, chunk->valid + STEP) : chunk->size;
}

/* Decodes a chunk to its end.  Errors are left to whoever reads there. */
static void
complete (VmaChunks *chunks, const Request *request)
{
  Chunk *chunk = pin (chunks, request->key, request->size, NULL);

  if (chunk == NULL)
    return;
  while (!chunks->stop && chunk->valid < chunk->size) {
    if (chunk->filling)
      pthread_cond_wait (&chunks->moved, &chunks->mutex);
    else if (!fill (chunks, chunk, next_step (chunks, chunk), NULL))
      break;
  }
  unpin (chunks, chunk);
}

static void *
prefetch_thread (void *data)
{
  VmaChunks *chunks = data;

  pthread_mutex_lock (&chunks->mutex);
  while (!chunks->stop) {
    Request *request = g_queue_pop_head (&chunks->requests);
    if (request == NULL) {
      pthread_cond_wait (&chunks->asked, &chunks->mutex);
      continue;
    }
    complete (chunks, request);
    g_free (request);
  }
  pthread_mutex_unlock (&chunks->mutex);
  return NULL;
}

static gboolean
is_requested (VmaChunks *chunks, guint64 key)
{
  for (GList *link = chunks->requests.head; link != NULL; link = link->next)
    if (((Request *) link->data)->key == key)
      return TRUE;
  return FALSE;
}

static void
start_threads (VmaChunks *chunks)
{
  while (chunks->threads->len < chunks->n_threads) {
    pthread_t thread;
    if (vma_thread_start (&thread, prefetch_thread, chunks) != 0)
      break;
    g_array_append_val (chunks->threads, thread);
  }
}

guint
vma_chunks_depth (VmaChunks *chunks, gsize size)
{
  guint64 room = chunks->limit / MAX (size, 1);

  /* Two for the reader itself: the chunk it is in, and the one it just left. */
  return room < 3 ? 0 : (guint) MIN (room - 2, chunks->n_threads);
}

void
vma_chunks_prefetch (VmaChunks *chunks, guint64 key, gsize size)
{
  pthread_mutex_lock (&chunks->mutex);
  const Chunk *chunk = g_hash_table_lookup (chunks->table, &key);
  if (!(chunk != NULL && chunk->valid == chunk->size) && !is_requested (chunks, key)
      && g_queue_get_length (&chunks->requests) < 2 * chunks->n_threads
      && vma_chunks_depth (chunks, size) > 0) {
    Request *request = g_new (Request, 1);
    *request = (Request){ key, size };
    g_queue_push_tail (&chunks->requests, request);
    start_threads (chunks);
    pthread_cond_signal (&chunks->asked);
  }
  pthread_mutex_unlock (&chunks->mutex);
}

VmaChunks *
vma_chunks_new (const VmaChunksOps *ops, guint64 bytes, guint n_threads, guint n_parked)
{
  VmaChunks *chunks = g_new0 (VmaChunks, 1);

  chunks->ops = *ops;
  chunks->limit = bytes;
  chunks->n_threads = n_threads;
  chunks->max_parked = n_parked;
  pthread_mutex_init (&chunks->mutex, NULL);
  pthread_cond_init (&chunks->moved, NULL);
  pthread_cond_init (&chunks->asked, NULL);
  chunks->table = g_hash_table_new (g_int64_hash, g_int64_equal);
  chunks->threads = g_array_new (FALSE, FALSE, sizeof (pthread_t));
  return chunks;
}

void
vma_chunks_free (VmaChunks *chunks)
{
  pthread_mutex_lock (&chunks->mutex);
  chunks->stop = TRUE;
  pthread_cond_broadcast (&chunks->asked);
  pthread_cond_broadcast (&chunks->moved);
  pthread_mutex_unlock (&chunks->mutex);
  for (guint i = 0; i < chunks->threads->len; i++)
    pthread_join (g_array_index (chunks->threads, pthread_t, i), NULL);

  g_queue_clear_full (&chunks->requests, g_free);
  while (chunks->lru.head != NULL)
    drop (chunks, chunks->lru.head->data);
  free (chunks->spare);
  g_array_unref (chunks->threads);
  g_hash_table_unref (chunks->table);
  pthread_cond_destroy (&chunks->asked);
  pthread_cond_destroy (&chunks->moved);
  pthread_mutex_destroy (&chunks->mutex);
  g_free (chunks);
}
