/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/packed-pass.h"

#include "base/thread.h"
#include "source/follow.h"
#include "source/packed-pieces.h"
#include "vma/error.h"

#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The ring must hold what the scanner has not read yet.  A followed file is indexed slowly, and its
 * newest part must be readable all the time: there it holds a spacing and a usual window. */
#define RING_SIZE (8u << 20)
#define RING_SIZE_FOLLOW (32u << 20)

/* How far ahead of its readers the pass goes at first, and a walk, which costs little, always. */
#define PASS_AHEAD (256u << 10)
#define WALK_AHEAD (64u << 20)

/* Bytes read from the file at once, growing as the pass goes on. */
#define INPUT_MIN (64u << 10)
#define INPUT_MAX (1u << 20)

#define CANCEL_POLL_MS 20
#define FOLLOW_POLL_MS 100

typedef enum { PASS_IDLE, PASS_RUNNING, PASS_DONE, PASS_BROKEN } PassState;

struct VmaPackedPass {
  const VmaPackedFile *file;
  const VmaCodec *codec;
  VmaCodecLimits limits;
  VmaSidecar *sidecar;
  gboolean follow;
  guint64 ring_size;
  GCancellable *cancellable; /* of the thread's reads */

  /* The thread's own. */
  VmaPieces *pieces;
  VmaFollow follower;

  pthread_mutex_t mutex; /* all below */
  pthread_cond_t moved;  /* wakes readers */
  pthread_cond_t wake;   /* wakes the pass */
  PassState state;
  gboolean stop;
  gboolean has_thread; /* not joined yet */
  pthread_t thread;
  guint8 *ring;
  guint64 ring_begin;  /* the ring holds the archive from here... */
  guint64 frontier;    /* ...to here */
  guint64 closed;      /* chunks are known up to here */
  guint64 total;
  guint64 wanted;      /* the furthest byte asked for */
  guint64 wake_at;     /* readers are to be woken when the frontier is behind this */
  guint waiting_for_chunk;
  guint64 failures;    /* passes that ended with an error the next one may not meet */
  GError *error;       /* of the last one */
  guint64 position;    /* in the compressed file */
};

static void
deadline (struct timespec *until, guint milliseconds)
{
  clock_gettime (CLOCK_REALTIME, until);
  until->tv_nsec += (long) milliseconds * 1000000;
  until->tv_sec += until->tv_nsec / 1000000000;
  until->tv_nsec %= 1000000000;
}

static void
wake_readers (VmaPackedPass *pass)
{
  pass->wake_at = G_MAXUINT64;
  pthread_cond_broadcast (&pass->moved);
}

static gboolean
is_stopped (VmaPackedPass *pass)
{
  pthread_mutex_lock (&pass->mutex);
  gboolean stop = pass->stop;
  pthread_mutex_unlock (&pass->mutex);
  return stop;
}

static gboolean
set_stopped (GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "reading ahead was stopped");
  return FALSE;
}

/* Waits, with the lock, until somebody wants what lies `ahead` before the pass.  FALSE on stop. */
static gboolean
wait_for_demand (VmaPackedPass *pass, guint64 at, guint64 ahead)
{
  while (!pass->stop && pass->waiting_for_chunk == 0 && at >= pass->wanted
         && at - pass->wanted >= ahead)
    pthread_cond_wait (&pass->wake, &pass->mutex);
  return !pass->stop;
}

static void
copy_to_ring (VmaPackedPass *pass, const guint8 *bytes, gsize size, guint64 at)
{
  while (size > 0) {
    guint64 place = at % pass->ring_size;
    gsize n = (gsize) MIN (size, pass->ring_size - place);
    memcpy (pass->ring + place, bytes, n);
    bytes += n;
    at += n;
    size -= n;
  }
}

/* Puts at most a quarter of the ring's size there, as soon as its readers allow. */
static gboolean
output_part (VmaPackedPass *pass, const guint8 *bytes, gsize size, GError **error)
{
  pthread_mutex_lock (&pass->mutex);
  guint64 ahead = CLAMP (pass->wanted, PASS_AHEAD, pass->ring_size / 2);
  gboolean go_on = wait_for_demand (pass, pass->frontier, ahead);
  guint64 at = pass->frontier;
  /* Readers copy with the lock held: what is taken from them here nobody is reading. */
  if (at + size > pass->ring_begin + pass->ring_size)
    pass->ring_begin = at + size - pass->ring_size;
  pthread_mutex_unlock (&pass->mutex);
  if (!go_on)
    return set_stopped (error);

  copy_to_ring (pass, bytes, size, at);

  pthread_mutex_lock (&pass->mutex);
  pass->frontier = at + size;
  if (pass->frontier > pass->wake_at)
    wake_readers (pass);
  pthread_mutex_unlock (&pass->mutex);
  return TRUE;
}

static gboolean
sink_output (gpointer data, const guint8 *bytes, gsize size, GError **error)
{
  VmaPackedPass *pass = data;

  vma_pieces_add (pass->pieces, bytes, size);
  while (size > 0) {
    gsize n = (gsize) MIN (size, pass->ring_size / 4);
    if (!output_part (pass, bytes, n, error))
      return FALSE;
    bytes += n;
    size -= n;
  }
  return TRUE;
}

static void
set_closed (VmaPackedPass *pass)
{
  guint64 closed;

  vma_sidecar_count (pass->sidecar, &closed);
  pthread_mutex_lock (&pass->mutex);
  pass->closed = closed;
  wake_readers (pass);
  pthread_mutex_unlock (&pass->mutex);
}

static gboolean
sink_checkpoint (gpointer data, const VmaCheckpoint *checkpoint, GError **error)
{
  VmaPackedPass *pass = data;

  /* Known already (the start, or a codec that repeats where it began). */
  if (checkpoint->out <= pass->closed)
    return TRUE;
  g_autoptr (GArray) pieces = vma_pieces_take (pass->pieces, checkpoint->out);
  if (pieces == NULL)
    return TRUE; /* its chunk could not be checked: go without it */
  if (!vma_sidecar_append (pass->sidecar, checkpoint, (const VmaPiece *) pieces->data, pieces->len,
                           error))
    return FALSE;
  set_closed (pass);
  return TRUE;
}

/* A walk's checkpoints come without content. */
static gboolean
sink_walked (gpointer data, const VmaCheckpoint *checkpoint, GError **error)
{
  VmaPackedPass *pass = data;

  pthread_mutex_lock (&pass->mutex);
  pass->position = checkpoint->in;
  gboolean known = checkpoint->out <= pass->closed;
  gboolean go_on
      = known ? !pass->stop
              : wait_for_demand (pass, pass->closed, MAX (pass->wanted, (guint64) WALK_AHEAD));
  pthread_mutex_unlock (&pass->mutex);
  if (!go_on)
    return set_stopped (error);
  if (known)
    return TRUE;
  if (!vma_sidecar_append (pass->sidecar, checkpoint, NULL, 0, error))
    return FALSE;
  pthread_mutex_lock (&pass->mutex);
  pass->closed = pass->frontier = pass->ring_begin = checkpoint->out;
  if (pass->closed > pass->wake_at)
    wake_readers (pass);
  pthread_mutex_unlock (&pass->mutex);
  return TRUE;
}

/* Sleeps a while between two looks at a file that grows. */
static gboolean
wait_for_growth (VmaPackedPass *pass)
{
  struct timespec until;

  deadline (&until, FOLLOW_POLL_MS);
  pthread_mutex_lock (&pass->mutex);
  if (!pass->stop)
    pthread_cond_timedwait (&pass->wake, &pass->mutex, &until);
  gboolean go_on = !pass->stop;
  pthread_mutex_unlock (&pass->mutex);
  return go_on;
}

/* Reads at `offset`, waiting for bytes to arrive where the file grows.  Short only at its end. */
static gssize
input_read (gpointer data, void *buffer, gsize size, guint64 offset, GError **error)
{
  VmaPackedPass *pass = data;
  gboolean ended = !pass->follow;
  gsize done = 0;

  /* A stream of endless empty frames gives neither output nor checkpoints, but it is read. */
  if (is_stopped (pass)) {
    set_stopped (error);
    return -1;
  }
  while (done < size) {
    gssize n = vma_packed_file_read (pass->file, (guint8 *) buffer + done, size - done,
                                     offset + done, pass->cancellable, error);
    if (n < 0)
      return -1;
    if (n > 0) {
      done += (gsize) n;
    } else if (n == 0) {
      if (ended)
        break;
      ended = vma_follow_has_ended (&pass->follower);
      if (!ended && !wait_for_growth (pass)) {
        set_stopped (error);
        return -1;
      }
    }
  }
  return (gssize) done;
}

/* As input_read(), but gives what is there as soon as there is something. */
static gssize
input_read_some (VmaPackedPass *pass, void *buffer, gsize size, guint64 offset, GError **error)
{
  gssize n = vma_packed_file_read (pass->file, buffer, size, offset, pass->cancellable, error);

  if (n != 0)
    return n;
  return input_read (pass, buffer, pass->follow ? 1 : size, offset, error);
}

static gboolean
feed_all (VmaPackedPass *pass, VmaPass *decoding, guint64 *in, GError **error)
{
  g_autofree guint8 *buffer = g_malloc (INPUT_MAX);
  guint64 begin = *in;

  for (;;) {
    gsize size = (gsize) CLAMP (*in - begin, INPUT_MIN, INPUT_MAX);
    gssize n = input_read_some (pass, buffer, size, *in, error);
    if (n < 0)
      return FALSE;
    if (n == 0)
      return pass->codec->pass_end (decoding, error);
    if (!pass->codec->pass_feed (decoding, buffer, (gsize) n, error))
      return FALSE;
    *in += (guint64) n;
    pthread_mutex_lock (&pass->mutex);
    pass->position = *in;
    gboolean stop = pass->stop;
    pthread_mutex_unlock (&pass->mutex);
    if (stop)
      return set_stopped (error);
  }
}

static gboolean
save_end (VmaPackedPass *pass, guint64 in, guint64 out, GError **error)
{
  g_autoptr (GArray) pieces = pass->pieces != NULL ? vma_pieces_take (pass->pieces, out) : NULL;

  return vma_sidecar_finish (pass->sidecar, in, out,
                             pieces != NULL ? (const VmaPiece *) pieces->data : NULL,
                             pieces != NULL ? pieces->len : 0, error);
}

static gboolean
run_pass (VmaPackedPass *pass, GError **error)
{
  g_autoptr (VmaSidecarChunk) last = vma_sidecar_last (pass->sidecar, error);

  if (last == NULL)
    return FALSE;
  guint64 in = last->from.in;
  VmaPassSink sink = { pass, sink_output, sink_checkpoint };

  g_clear_pointer (&pass->pieces, vma_pieces_free);
  pass->pieces = vma_pieces_new (last->from.out, pass->limits.spacing);
  pthread_mutex_lock (&pass->mutex);
  if (pass->ring == NULL)
    pass->ring = g_malloc (pass->ring_size);
  pass->closed = pass->frontier = pass->ring_begin = last->from.out;
  pass->position = in;
  pthread_mutex_unlock (&pass->mutex);

  VmaPass *decoding = pass->codec->pass_new (&last->from, &pass->limits, &sink, error);
  if (decoding == NULL)
    return FALSE;
  gboolean ok = feed_all (pass, decoding, &in, error);
  pass->codec->pass_free (decoding);
  return ok && save_end (pass, in, pass->frontier, error);
}

/* FALSE with VMA_ERROR_UNSUPPORTED where a pass is needed. */
static gboolean
run_walk (VmaPackedPass *pass, GError **error)
{
  VmaPassSink sink = { pass, sink_output, sink_walked };
  guint64 size = vma_packed_file_size (pass->file);
  VmaCodecInput input = { pass, input_read, pass->follow ? G_MAXUINT64 : size };
  guint64 total = 0;

  return pass->codec->walk (&input, &pass->limits, &sink, &total, NULL, error)
         && save_end (pass, vma_packed_file_size (pass->file), total, error);
}

static gboolean
run (VmaPackedPass *pass, GError **error)
{
  g_autoptr (GError) local_error = NULL;

  if (pass->codec->walk != NULL) {
    if (run_walk (pass, &local_error))
      return TRUE;
    if (pass->codec->pass_new == NULL
        || !g_error_matches (local_error, VMA_ERROR, VMA_ERROR_UNSUPPORTED)) {
      g_propagate_error (error, g_steal_pointer (&local_error));
      return FALSE;
    }
  }
  return run_pass (pass, error);
}

/* Makes what lies before the damage readable. */
static void
close_at_damage (VmaPackedPass *pass)
{
  g_autoptr (GArray) pieces
      = pass->pieces != NULL ? vma_pieces_take (pass->pieces, pass->frontier) : NULL;

  if (pieces != NULL && pass->frontier > pass->closed)
    vma_sidecar_abort (pass->sidecar, pass->frontier, (const VmaPiece *) pieces->data, pieces->len);
}

static void *
pass_thread (void *data)
{
  VmaPackedPass *pass = data;
  g_autoptr (GError) error = NULL;
  gboolean ok = run (pass, &error);
  gboolean again = g_error_matches (error, VMA_ERROR, VMA_ERROR_IO)
                   || g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED);
  guint64 closed;

  if (!ok && !again)
    close_at_damage (pass);
  g_clear_pointer (&pass->pieces, vma_pieces_free);
  vma_sidecar_count (pass->sidecar, &closed);

  pthread_mutex_lock (&pass->mutex);
  pass->closed = closed;
  pass->ring_begin = pass->frontier = closed;
  g_clear_pointer (&pass->ring, g_free);
  g_clear_error (&pass->error);
  pass->error = g_steal_pointer (&error);
  if (ok) {
    pass->total = closed;
    pass->state = PASS_DONE;
  } else if (again) {
    if (!pass->stop)
      pass->failures++;
    pass->state = PASS_IDLE;
  } else {
    pass->state = PASS_BROKEN;
  }
  wake_readers (pass);
  pthread_mutex_unlock (&pass->mutex);
  return NULL;
}

/* With the lock. */
static void
start (VmaPackedPass *pass)
{
  if (pass->has_thread) /* it has come to its last line */
    pthread_join (pass->thread, NULL);
  pass->has_thread = vma_thread_start (&pass->thread, pass_thread, pass) == 0;
  if (pass->has_thread) {
    pass->state = PASS_RUNNING;
    return;
  }
  g_clear_error (&pass->error);
  g_set_error (&pass->error, VMA_ERROR, VMA_ERROR_IO, "cannot start a thread");
  pass->failures++;
}

static void
wait_moved (VmaPackedPass *pass, guint64 offset, GCancellable *cancellable)
{
  gboolean for_chunk = offset < pass->ring_begin;
  struct timespec until;

  if (!for_chunk)
    pass->wake_at = MIN (pass->wake_at, offset);
  else if (pass->waiting_for_chunk++ == 0)
    pthread_cond_signal (&pass->wake);
  if (cancellable == NULL) {
    pthread_cond_wait (&pass->moved, &pass->mutex);
  } else {
    deadline (&until, CANCEL_POLL_MS);
    pthread_cond_timedwait (&pass->moved, &pass->mutex, &until);
  }
  if (for_chunk)
    pass->waiting_for_chunk--;
}

static gsize
copy_from_ring (VmaPackedPass *pass, guint8 *buffer, gsize size, guint64 offset)
{
  gsize n = (gsize) MIN (size, pass->frontier - offset);

  for (gsize done = 0; done < n;) {
    guint64 place = (offset + done) % pass->ring_size;
    gsize part = (gsize) MIN (n - done, pass->ring_size - place);
    memcpy (buffer + done, pass->ring + place, part);
    done += part;
  }
  return n;
}

/* With the lock. */
static VmaPassResult
read_locked (VmaPackedPass *pass, guint8 *buffer, gsize size, guint64 offset, gsize *n,
             GCancellable *cancellable, GError **error)
{
  guint64 failures = pass->failures;

  if (offset + size > pass->wanted && pass->state != PASS_DONE) {
    pass->wanted = offset + size;
    pthread_cond_signal (&pass->wake);
  }
  for (;;) {
    if (offset >= pass->ring_begin && offset < pass->frontier) {
      *n = copy_from_ring (pass, buffer, size, offset);
      return VMA_PASS_COPIED;
    }
    if (offset < pass->closed)
      return VMA_PASS_CHUNK;
    if (pass->state == PASS_DONE || offset >= pass->total)
      return VMA_PASS_END;
    if (pass->state == PASS_BROKEN || pass->failures != failures) {
      g_propagate_error (error, g_error_copy (pass->error));
      return VMA_PASS_FAILED;
    }
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "the read was cancelled");
      return VMA_PASS_FAILED;
    }
    if (pass->state == PASS_IDLE && !pass->stop)
      start (pass);
    if (pass->state == PASS_RUNNING || pass->stop)
      wait_moved (pass, offset, cancellable);
  }
}

VmaPassResult
vma_packed_pass_read (VmaPackedPass *pass, void *buffer, gsize size, guint64 offset, gsize *n,
                      GCancellable *cancellable, GError **error)
{
  pthread_mutex_lock (&pass->mutex);
  /* Beyond any file: but offsets are not trusted. */
  size = (gsize) MIN (size, G_MAXUINT64 - offset);
  VmaPassResult result = read_locked (pass, buffer, size, offset, n, cancellable, error);
  pthread_mutex_unlock (&pass->mutex);
  return result;
}

guint64
vma_packed_pass_total (VmaPackedPass *pass)
{
  pthread_mutex_lock (&pass->mutex);
  guint64 total = pass->total;
  pthread_mutex_unlock (&pass->mutex);
  return total;
}

guint64
vma_packed_pass_position (VmaPackedPass *pass)
{
  pthread_mutex_lock (&pass->mutex);
  guint64 position = pass->position;
  pthread_mutex_unlock (&pass->mutex);
  return position;
}

/* Ends the thread, with the lock, which is given up meanwhile. */
static void
stop_thread (VmaPackedPass *pass)
{
  pass->stop = TRUE;
  g_cancellable_cancel (pass->cancellable);
  pthread_cond_broadcast (&pass->wake);
  if (pass->has_thread) {
    pthread_mutex_unlock (&pass->mutex);
    pthread_join (pass->thread, NULL);
    pthread_mutex_lock (&pass->mutex);
    pass->has_thread = FALSE;
  }
}

gboolean
vma_packed_pass_rewind (VmaPackedPass *pass, guint64 index)
{
  pthread_mutex_lock (&pass->mutex);
  gboolean ok = !pass->stop; /* else another reader is at it */
  if (ok) {
    stop_thread (pass);
    ok = vma_sidecar_cut (pass->sidecar, index, NULL);
    if (ok) {
      vma_sidecar_count (pass->sidecar, &pass->closed);
      pass->ring_begin = pass->frontier = pass->closed;
      pass->state = PASS_IDLE;
    }
    pass->stop = FALSE;
    g_cancellable_reset (pass->cancellable);
    wake_readers (pass);
  }
  pthread_mutex_unlock (&pass->mutex);
  return ok;
}

VmaPackedPass *
vma_packed_pass_new (const VmaPackedFile *file, const VmaCodec *codec,
                     const VmaCodecLimits *limits, VmaSidecar *sidecar, gboolean follow)
{
  VmaPackedPass *pass = g_new0 (VmaPackedPass, 1);

  pass->file = file;
  pass->cancellable = g_cancellable_new ();
  pass->codec = codec;
  pass->limits = *limits;
  pass->sidecar = sidecar;
  pass->follow = follow;
  pass->ring_size = follow ? RING_SIZE_FOLLOW : RING_SIZE;
  pass->wake_at = G_MAXUINT64;
  pass->total = VMA_SIZE_UNKNOWN;
  if (follow)
    vma_follow_init (&pass->follower, file->fd);
  pthread_mutex_init (&pass->mutex, NULL);
  pthread_cond_init (&pass->moved, NULL);
  pthread_cond_init (&pass->wake, NULL);
  vma_sidecar_count (sidecar, &pass->closed);
  pass->ring_begin = pass->frontier = pass->closed;
  if (vma_sidecar_is_complete (sidecar)) {
    pass->state = PASS_DONE;
    pass->total = pass->closed;
  }
  return pass;
}

void
vma_packed_pass_free (VmaPackedPass *pass)
{
  pthread_mutex_lock (&pass->mutex);
  stop_thread (pass);
  pthread_mutex_unlock (&pass->mutex);
  g_clear_error (&pass->error);
  g_object_unref (pass->cancellable);
  g_free (pass->ring);
  pthread_cond_destroy (&pass->wake);
  pthread_cond_destroy (&pass->moved);
  pthread_mutex_destroy (&pass->mutex);
  g_free (pass);
}
