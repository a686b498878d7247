/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer/compressor.h"

#include "base/thread.h"
#include "index/lock.h"
#include "vma/error.h"
#include "writer/frame.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* A frame is closed when it has this much: with an extent of 3.7 MiB, one extent a frame. */
#define FRAME_TARGET (2u * 1024u * 1024u)
#define FRAME_ROOM   (FRAME_TARGET + VMA_EXTENT_MAX_SIZE)

typedef enum {
  FRAME_FREE,
  FRAME_FILLED,  /* waits for a thread */
  FRAME_TAKEN,   /* being compressed */
  FRAME_DONE,    /* waits for its turn to be written */
} FrameState;

typedef struct {
  FrameState state;
  guint8 *data;
  gsize size;
  guint8 *out;
  gsize out_size;
} Frame;

struct VmaCompressor {
  VmaOutput *output;
  VmaCompression kind;
  guint n_threads, n_frames;
  pthread_t *threads;
  VmaFramer **framers; /* one a thread */
  gsize out_room;
  _Atomic guint64 written;

  Frame *frames;  /* a ring */
  guint64 head;       /* the frame being filled; the producer's */
  guint64 open_frame; /* the last one that was begun */

  pthread_mutex_t lock; /* of all below, and of the frames' states */
  pthread_cond_t changed;
  guint64 next_taken;   /* the next to be compressed */
  guint64 next_written; /* the next to be written */
  gboolean writing;
  gboolean stop;
  GError *failure;
  GArray *sizes; /* VmaFrameSizes, in order */
};

static Frame *
frame_at (VmaCompressor *compressor, guint64 number)
{
  return &compressor->frames[number % compressor->n_frames];
}

/* The caller holds the lock. */
static void
fail (VmaCompressor *compressor, GError *error)
{
  if (compressor->failure == NULL)
    compressor->failure = error;
  else
    g_error_free (error);
}

/* Writes what is done and next in order.  The caller holds the lock, which is let go meanwhile. */
static void
write_done (VmaCompressor *compressor)
{
  if (compressor->writing)
    return; /* another thread does, and will look again */
  compressor->writing = TRUE;
  for (;;) {
    Frame *frame = frame_at (compressor, compressor->next_written);
    GError *error = NULL;

    if (frame->state != FRAME_DONE)
      break;
    gboolean skip = compressor->failure != NULL;
    pthread_mutex_unlock (&compressor->lock);
    if (!skip) {
      vma_output_append (compressor->output, frame->out, frame->out_size, &error);
      atomic_fetch_add (&compressor->written, frame->out_size);
    }
    pthread_mutex_lock (&compressor->lock);
    if (error != NULL)
      fail (compressor, error);
    VmaFrameSizes sizes = { (guint32) frame->out_size, (guint32) frame->size };
    g_array_append_val (compressor->sizes, sizes);
    frame->state = FRAME_FREE;
    compressor->next_written++;
    pthread_cond_broadcast (&compressor->changed);
  }
  compressor->writing = FALSE;
}

typedef struct {
  VmaCompressor *compressor;
  VmaFramer *framer;
} Worker;

static void *
worker_thread (void *data)
{
  g_autofree Worker *worker = data;
  VmaCompressor *compressor = worker->compressor;

  pthread_mutex_lock (&compressor->lock);
  while (!compressor->stop) {
    Frame *frame = frame_at (compressor, compressor->next_taken);
    GError *error = NULL;

    if (frame->state != FRAME_FILLED) {
      pthread_cond_wait (&compressor->changed, &compressor->lock);
      continue;
    }
    frame->state = FRAME_TAKEN;
    compressor->next_taken++;
    pthread_mutex_unlock (&compressor->lock);
    frame->out_size = vma_framer_compress (worker->framer, frame->data, frame->size, frame->out,
                                           compressor->out_room, &error);
    pthread_mutex_lock (&compressor->lock);
    if (error != NULL)
      fail (compressor, error);
    frame->state = FRAME_DONE;
    write_done (compressor);
  }
  pthread_mutex_unlock (&compressor->lock);
  return NULL;
}

static gboolean
start_threads (VmaCompressor *compressor, GError **error)
{
  int failed = 0;
  guint i;

  for (i = 0; i < compressor->n_threads && failed == 0; i++) {
    Worker *worker = g_new (Worker, 1);
    *worker = (Worker){ compressor, compressor->framers[i] };
    failed = vma_thread_start (&compressor->threads[i], worker_thread, worker);
    if (failed != 0) {
      g_free (worker);
      break;
    }
  }
  compressor->n_threads = i;
  if (failed != 0)
    vma_set_errno_error (error, failed, "cannot start a thread");
  return failed == 0;
}

VmaCompressor *
vma_compressor_new (VmaOutput *output, VmaCompression kind, int level, guint threads,
                    GError **error)
{
  VmaCompressor *compressor = g_new0 (VmaCompressor, 1);
  guint wanted = threads > 0 ? threads : (guint) g_get_num_processors ();

  compressor->output = output;
  compressor->kind = kind;
  compressor->n_threads = MIN (wanted, 64);
  compressor->n_frames = 2 * compressor->n_threads + 1;
  compressor->open_frame = G_MAXUINT64;
  compressor->sizes = g_array_new (FALSE, FALSE, sizeof (VmaFrameSizes));
  compressor->threads = g_new0 (pthread_t, compressor->n_threads);
  compressor->framers = g_new0 (VmaFramer *, compressor->n_threads + 1);
  compressor->frames = g_new0 (Frame, compressor->n_frames);
  pthread_mutex_init (&compressor->lock, NULL);
  pthread_cond_init (&compressor->changed, NULL);

  guint framers = 0;
  while (framers < compressor->n_threads
         && (compressor->framers[framers] = vma_framer_new (kind, level, error)) != NULL)
    framers++;
  gboolean ok = framers == compressor->n_threads;
  if (ok) {
    compressor->out_room = vma_framer_bound (compressor->framers[0], FRAME_ROOM);
    for (guint i = 0; i < compressor->n_frames; i++) {
      compressor->frames[i].data = g_malloc (FRAME_ROOM);
      compressor->frames[i].out = g_malloc (compressor->out_room);
    }
    ok = start_threads (compressor, error);
  } else
    compressor->n_threads = 0;
  if (ok)
    return compressor;
  vma_compressor_free (compressor);
  return NULL;
}

void
vma_compressor_free (VmaCompressor *compressor)
{
  pthread_mutex_lock (&compressor->lock);
  compressor->stop = TRUE;
  pthread_cond_broadcast (&compressor->changed);
  pthread_mutex_unlock (&compressor->lock);
  for (guint i = 0; i < compressor->n_threads; i++)
    pthread_join (compressor->threads[i], NULL);
  for (guint i = 0; compressor->framers[i] != NULL; i++)
    vma_framer_free (compressor->framers[i]);
  for (guint i = 0; i < compressor->n_frames; i++) {
    g_free (compressor->frames[i].data);
    g_free (compressor->frames[i].out);
  }
  g_clear_error (&compressor->failure);
  g_array_unref (compressor->sizes);
  g_free (compressor->frames);
  g_free (compressor->framers);
  g_free (compressor->threads);
  pthread_cond_destroy (&compressor->changed);
  pthread_mutex_destroy (&compressor->lock);
  g_free (compressor);
}

/* The caller holds the lock. */
static gboolean
check_failure (VmaCompressor *compressor, GError **error)
{
  if (compressor->failure == NULL)
    return TRUE;
  if (error != NULL)
    *error = g_error_copy (compressor->failure);
  return FALSE;
}

/* Hands the frame being filled to the threads. */
static void
close_frame (VmaCompressor *compressor)
{
  Frame *frame = frame_at (compressor, compressor->head);

  VMA_LOCK (&compressor->lock);
  frame->state = FRAME_FILLED;
  compressor->head++;
  pthread_cond_broadcast (&compressor->changed);
}

gboolean
vma_compressor_write (VmaCompressor *compressor, const guint8 *data, gsize size, GError **error)
{
  while (size > 0) {
    Frame *frame = frame_at (compressor, compressor->head);
    gsize n = MIN (size, VMA_EXTENT_MAX_SIZE); /* only an archive's header can be more */

    {
      VMA_LOCK (&compressor->lock);
      while (frame->state != FRAME_FREE)
        pthread_cond_wait (&compressor->changed, &compressor->lock);
      if (!check_failure (compressor, error))
        return FALSE;
      /* What is written of the frame from here on is the producer's until it is closed. */
      if (compressor->head != compressor->open_frame) {
        frame->size = 0;
        compressor->open_frame = compressor->head;
      }
    }
    memcpy (frame->data + frame->size, data, n);
    frame->size += n;
    data += n;
    size -= n;
    if (frame->size >= FRAME_TARGET)
      close_frame (compressor);
  }
  return TRUE;
}

gboolean
vma_compressor_finish (VmaCompressor *compressor, GError **error)
{
  g_autoptr (GByteArray) table = NULL;

  if (compressor->open_frame == compressor->head)
    close_frame (compressor);
  {
    VMA_LOCK (&compressor->lock);
    while (compressor->next_written < compressor->head)
      pthread_cond_wait (&compressor->changed, &compressor->lock);
    if (!check_failure (compressor, error))
      return FALSE;
    table = vma_seek_table (compressor->kind, compressor->sizes);
  }
  if (table == NULL)
    return TRUE;
  atomic_fetch_add (&compressor->written, table->len);
  return vma_output_append (compressor->output, table->data, table->len, error);
}

guint64
vma_compressor_written (VmaCompressor *compressor)
{
  return atomic_load (&compressor->written);
}
