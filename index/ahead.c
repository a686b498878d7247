/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/ahead.h"

#include "index/lock.h"
#include "vma/extent.h"

#include <string.h>

/* A search costs half an extent of data on average: this makes that two parts in a thousand. */
#define SEGMENT_SIZE ((guint64) 1 << 30)

/* Segments a thread may be ahead, and headers kept of one: more is a run of bare ones, read in bulk. */
#define SEGMENTS_AHEAD 2u
#define HEADERS_MAX 8192u

#define SEARCH_SIZE (256u * 1024u)
#define FULL_EXTENT ((guint64) VMA_EXTENT_MAX_SIZE)

typedef struct {
  guint64 offset;
  guint8 bytes[VMA_EXTENT_HEADER_SIZE];
} Header;

typedef struct {
  guint64 start, end;
  GArray *headers; /* Header, ascending */
  guint next;      /* of these, the first that may be asked for */
  gboolean active; /* a thread is at it */
  gboolean given_up; /* the scan has caught up: the thread is to leave it */
} Segment;

struct VmaAhead {
  VmaSource *source;
  guint8 uuid[VMA_UUID_SIZE];
  guint64 size;
  GCancellable *cancellable;
  GArray *threads; /* pthread_t */

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t moved; /* the scan came into another segment, or `stop` */
  guint64 base;         /* the place of a header, as far on as one is known */
  guint64 next_start;   /* of the segment that is taken next */
  GQueue segments;      /* Segment, ascending; those that the scan has not left */
  gboolean stop;
};

static void
segment_free (gpointer data)
{
  Segment *segment = data;

  g_array_unref (segment->headers);
  g_free (segment);
}

/* Whether there is a sound header at `offset`; its extent's end then. */
static gboolean
read_header (VmaAhead *ahead, guint64 offset, Header *header, guint64 *end)
{
  VmaExtent extent;

  if (vma_source_pread (ahead->source, header->bytes, sizeof header->bytes, offset, VMA_READ_INDEX,
                        ahead->cancellable, NULL)
          != (gssize) sizeof header->bytes
      || !vma_extent_parse (header->bytes, ahead->uuid, &extent, NULL))
    return FALSE;
  header->offset = offset;
  *end = offset + extent.size;
  return TRUE;
}

/* The first header in [from, to), or G_MAXUINT64.  An extent is not larger than what is searched. */
static guint64
search (VmaAhead *ahead, guint64 from, guint64 to)
{
  g_autofree guint8 *buffer = g_malloc (SEARCH_SIZE);

  to = MIN (to, from + FULL_EXTENT);
  while (from < to && !g_cancellable_is_cancelled (ahead->cancellable)) {
    VmaExtent extent;
    gssize got = vma_source_pread (ahead->source, buffer, SEARCH_SIZE, from, VMA_READ_INDEX,
                                   ahead->cancellable, NULL);
    if (got < (gssize) VMA_EXTENT_HEADER_SIZE)
      break;
    for (gsize at = 0; at + VMA_EXTENT_HEADER_SIZE <= (gsize) got; at++) {
      at = vma_extent_search (buffer, (gsize) got, at, ahead->uuid);
      if (at + VMA_EXTENT_HEADER_SIZE <= (gsize) got
          && vma_extent_parse (buffer + at, ahead->uuid, &extent, NULL))
        return from + at;
    }
    from += (guint64) got - (VMA_EXTENT_HEADER_SIZE - 1);
  }
  return G_MAXUINT64;
}

/* Keeps a header; FALSE where the segment is to be left. */
static gboolean
keep (VmaAhead *ahead, Segment *segment, const Header *header, guint64 end)
{
  VMA_LOCK (&ahead->lock);
  if (ahead->stop || segment->given_up)
    return FALSE;
  g_array_append_val (segment->headers, *header);
  ahead->base = MAX (ahead->base, header->offset);
  return segment->headers->len < HEADERS_MAX && end < segment->end;
}

static void
follow_chain (VmaAhead *ahead, Segment *segment, guint64 base)
{
  guint64 phase = base % FULL_EXTENT + FULL_EXTENT - segment->start % FULL_EXTENT;
  guint64 at = segment->start + phase % FULL_EXTENT;
  Header header;

  if (at >= segment->end || !read_header (ahead, at, &header, &at)) {
    at = search (ahead, segment->start, segment->end);
    if (at == G_MAXUINT64 || !read_header (ahead, at, &header, &at))
      return;
  }
  while (keep (ahead, segment, &header, at) && read_header (ahead, at, &header, &at))
    ;
}

/* The next segment, or NULL at the end.  Waits where the scan is far behind. */
static Segment *
take_segment (VmaAhead *ahead, guint64 *base)
{
  VMA_LOCK (&ahead->lock);
  while (!ahead->stop && ahead->next_start < ahead->size
         && g_queue_get_length (&ahead->segments) >= ahead->threads->len * SEGMENTS_AHEAD)
    pthread_cond_wait (&ahead->moved, &ahead->lock);
  if (ahead->stop || ahead->next_start >= ahead->size)
    return NULL;

  Segment *segment = g_new0 (Segment, 1);
  segment->start = ahead->next_start;
  segment->end = segment->start + MIN (SEGMENT_SIZE, ahead->size - segment->start);
  segment->headers = g_array_new (FALSE, FALSE, sizeof (Header));
  segment->active = TRUE;
  ahead->next_start = segment->end;
  *base = ahead->base;
  g_queue_push_tail (&ahead->segments, segment);
  return segment;
}

/* The scan may have left the segment meanwhile: then it is ours to free. */
static void
end_segment (VmaAhead *ahead, Segment *segment)
{
  VMA_LOCK (&ahead->lock);
  segment->active = FALSE;
  if (segment->given_up && g_queue_find (&ahead->segments, segment) == NULL)
    segment_free (segment);
}

static void *
run (void *data)
{
  VmaAhead *ahead = data;
  Segment *segment;
  guint64 base;

  while ((segment = take_segment (ahead, &base)) != NULL) {
    follow_chain (ahead, segment, base);
    end_segment (ahead, segment);
  }
  return NULL;
}

VmaAhead *
vma_ahead_new (VmaSource *source, const guint8 uuid[VMA_UUID_SIZE], guint64 position, guint64 size,
               guint n_threads)
{
  VmaAhead *ahead = g_new0 (VmaAhead, 1);

  ahead->source = source;
  memcpy (ahead->uuid, uuid, VMA_UUID_SIZE);
  ahead->size = size;
  ahead->base = position;
  /* What comes next is the scan's own segment. */
  ahead->next_start = position + SEGMENT_SIZE;
  ahead->cancellable = g_cancellable_new ();
  pthread_mutex_init (&ahead->lock, NULL);
  pthread_cond_init (&ahead->moved, NULL);
  ahead->threads = g_array_new (FALSE, FALSE, sizeof (pthread_t));

  VMA_LOCK (&ahead->lock); /* threads look at how many there are */
  for (guint i = 0; i < n_threads; i++) {
    pthread_t thread;
    if (pthread_create (&thread, NULL, run, ahead) != 0)
      break;
    g_array_append_val (ahead->threads, thread);
  }
  return ahead;
}

void
vma_ahead_free (VmaAhead *ahead)
{
  if (ahead == NULL)
    return;
  g_cancellable_cancel (ahead->cancellable);
  pthread_mutex_lock (&ahead->lock);
  ahead->stop = TRUE;
  pthread_cond_broadcast (&ahead->moved);
  pthread_mutex_unlock (&ahead->lock);
  for (guint i = 0; i < ahead->threads->len; i++)
    pthread_join (g_array_index (ahead->threads, pthread_t, i), NULL);
  g_queue_clear_full (&ahead->segments, segment_free);
  g_array_unref (ahead->threads);
  g_object_unref (ahead->cancellable);
  pthread_cond_destroy (&ahead->moved);
  pthread_mutex_destroy (&ahead->lock);
  g_free (ahead);
}

/* Lets go of the segments that end at or before `offset`. */
static void
leave_segments (VmaAhead *ahead, guint64 offset)
{
  Segment *first;

  while ((first = g_queue_peek_head (&ahead->segments)) != NULL && first->end <= offset) {
    g_queue_pop_head (&ahead->segments);
    first->given_up = TRUE;
    if (!first->active)
      segment_free (first);
    pthread_cond_broadcast (&ahead->moved);
  }
}

gboolean
vma_ahead_take (VmaAhead *ahead, guint64 offset, guint8 *header)
{
  VMA_LOCK (&ahead->lock);
  ahead->base = MAX (ahead->base, offset);
  leave_segments (ahead, offset);
  ahead->next_start = MAX (ahead->next_start, offset + SEGMENT_SIZE / 16);

  Segment *segment = g_queue_peek_head (&ahead->segments);
  if (segment == NULL || segment->start > offset)
    return FALSE;
  while (segment->next < segment->headers->len) {
    const Header *next = &g_array_index (segment->headers, Header, segment->next);
    if (next->offset > offset)
      return FALSE;
    segment->next++;
    if (next->offset == offset) {
      memcpy (header, next->bytes, VMA_EXTENT_HEADER_SIZE);
      return TRUE;
    }
  }
  segment->given_up = TRUE;
  return FALSE;
}
