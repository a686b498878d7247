/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/packed-streams.h"

#include <pthread.h>

/* Readers that are told apart. */
#define N_STREAMS 8u

/* The kernel's read-ahead comes in several requests at once, in any order. */
#define DISORDER (2u << 20)

/* As many reads in a row make a stream. */
#define MIN_READS 2u

typedef struct {
  guint64 next;      /* where the reader is expected */
  guint reads;
  guint64 asked;     /* chunks before this one have been asked for */
  guint64 used;      /* when */
} Stream;

struct VmaStreams {
  pthread_mutex_t mutex;
  Stream streams[N_STREAMS];
  guint64 clock;
};

VmaStreams *
vma_streams_new (void)
{
  VmaStreams *streams = g_new0 (VmaStreams, 1);

  pthread_mutex_init (&streams->mutex, NULL);
  return streams;
}

void
vma_streams_free (VmaStreams *streams)
{
  pthread_mutex_destroy (&streams->mutex);
  g_free (streams);
}

/* The stream that goes on at `offset`, else the one unused for longest, begun anew. */
static Stream *
find (VmaStreams *streams, guint64 offset)
{
  Stream *oldest = &streams->streams[0];

  for (guint i = 0; i < N_STREAMS; i++) {
    Stream *stream = &streams->streams[i];
    if (stream->reads > 0 && offset + DISORDER >= stream->next
        && offset <= stream->next + DISORDER)
      return stream;
    if (stream->used < oldest->used)
      oldest = stream;
  }
  *oldest = (Stream){ .next = offset };
  return oldest;
}

gboolean
vma_streams_note (VmaStreams *streams, guint64 offset, gsize n, guint64 index, guint depth,
                  guint64 *first)
{
  pthread_mutex_lock (&streams->mutex);
  Stream *stream = find (streams, offset);
  if (offset + n > stream->next)
    stream->reads++;
  stream->next = MAX (stream->next, offset + n);
  stream->used = ++streams->clock;
  *first = MAX (stream->asked, index + 1);
  gboolean ask = stream->reads > MIN_READS && *first <= index + depth;
  if (ask)
    stream->asked = index + depth + 1;
  pthread_mutex_unlock (&streams->mutex);
  return ask;
}
