/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/ahead.h"

#include "base/thread.h"
#include "index/lock.h"
#include "vma/extent.h"

#include <string.h>

/* A search costs half an extent of data on average: this makes that two parts in a thousand. */
#define SEGMENT_SIZE ((guint64) 1 << 30)
/* Far away a chain costs more than a search: short ones, as long as there are threads for all. */
#define SEGMENT_SIZE_FAR_MIN ((guint64) 32 << 20)
#define SEGMENT_SIZE_FAR_MAX ((guint64) 256 << 20)

/* Segments a thread may be ahead, and headers kept of one: more is a run of bare ones. */
#define SEGMENTS_AHEAD 2u
#define HEADERS_MAX 8192u
#define HEADERS_MAX_FAR 1024u

/* So many extents in a row that are smaller are a run of bare headers, read in bulk by the scan. */
#define SMALL_EXTENT (16u * 1024u)
#define SMALL_MAX 8u

/* Far away, a search reads at once all that it may have to look at. */
#define SEARCH_SIZE (256u * 1024u)
#define SEARCH_SIZE_FAR (4u * 1024u * 1024u)
#define CANCEL_POLL_US 50000
#define FULL_EXTENT ((guint64) VMA_EXTENT_MAX_SIZE)

typedef struct {
  guint64 offset;
  guint8 bytes[VMA_EXTENT_HEADER_SIZE];
} Header;

typedef struct {
  guint64 start, end;
  GArray *headers; /* Header, ascending */
  guint next;      /* of these, the first that may be asked for */
  guint64 at;      /* what the thread reads, or will read next; 0: it does not know yet */
  guint64 go_on_at; /* where the scan is, if it has overtaken the thread */
  gboolean active; /* a thread is at it */
  gboolean given_up; /* the scan has caught up: the thread is to leave it */
} Segment;

struct VmaAhead {
  VmaSource *source;
  guint8 uuid[VMA_UUID_SIZE];
  guint64 size;
  gboolean far;
  guint64 segment_size;
  guint headers_max;
  GCancellable *cancellable;
  GArray *threads; /* pthread_t */

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t moved; /* the scan has got on, or `stop` */
  pthread_cond_t found; /* a thread has */
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
  gsize room = ahead->far ? SEARCH_SIZE_FAR : SEARCH_SIZE;
  g_autofree guint8 *buffer = g_malloc (room);

  to = MIN (to, from + FULL_EXTENT);
  while (from < to && !g_cancellable_is_cancelled (ahead->cancellable)) {
    VmaExtent extent;
    gssize got = vma_source_pread (ahead->source, buffer, room, from, VMA_READ_INDEX,
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

/* --- a thread's way through a segment --------------------------------------------------------- */

/* Before the thread reads at *at, or where the scan wants it.  FALSE: it is to leave the segment. */
static gboolean
go_to (VmaAhead *ahead, Segment *segment, guint n_small, guint64 *at)
{
  VMA_LOCK (&ahead->lock);
  for (;;) {
    gboolean full = segment->headers->len - segment->next >= ahead->headers_max;

    if (segment->go_on_at > *at) {
      *at = segment->go_on_at;
      n_small = 0;
    }
    segment->at = *at;
    if (ahead->stop || segment->given_up || *at >= segment->end || (full && !ahead->far))
      return FALSE;
    if (!full && (n_small < SMALL_MAX || !ahead->far))
      return TRUE;
    pthread_cond_broadcast (&ahead->found); /* whoever waits for us must see that we wait */
    pthread_cond_wait (&ahead->moved, &ahead->lock);
  }
}

static void
keep (VmaAhead *ahead, Segment *segment, const Header *header, guint64 end)
{
  VMA_LOCK (&ahead->lock);
  g_array_append_val (segment->headers, *header);
  segment->at = end;
  ahead->base = MAX (ahead->base, header->offset);
  pthread_cond_broadcast (&ahead->found);
}

static void
follow_chain (VmaAhead *ahead, Segment *segment, guint64 base)
{
  guint64 phase = base % FULL_EXTENT + FULL_EXTENT - segment->start % FULL_EXTENT;
  guint64 at = segment->start + phase % FULL_EXTENT, end = at;
  guint n_small = 0;
  Header header;

  gboolean found = at < segment->end && read_header (ahead, at, &header, &end);
  if (!found) {
    at = search (ahead, segment->start, segment->end);
    found = at != G_MAXUINT64 && read_header (ahead, at, &header, &end);
  }
  while (found) {
    keep (ahead, segment, &header, end);
    n_small = end - header.offset < SMALL_EXTENT ? n_small + 1 : 0;
    at = end;
    found = go_to (ahead, segment, n_small, &at) && read_header (ahead, at, &header, &end);
  }
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
  segment->end = segment->start + MIN (ahead->segment_size, ahead->size - segment->start);
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
  pthread_cond_broadcast (&ahead->found);
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
               guint n_threads, gboolean far)
{
  VmaAhead *ahead = g_new0 (VmaAhead, 1);

  ahead->source = source;
  memcpy (ahead->uuid, uuid, VMA_UUID_SIZE);
  ahead->size = size;
  ahead->base = position;
  ahead->far = far;
  ahead->segment_size = SEGMENT_SIZE;
  ahead->headers_max = HEADERS_MAX;
  if (far) {
    ahead->segment_size = CLAMP ((size - position) / n_threads, SEGMENT_SIZE_FAR_MIN,
                                 SEGMENT_SIZE_FAR_MAX);
    ahead->headers_max = HEADERS_MAX_FAR;
  }
  /* What comes next is the scan's own segment, unless it is to wait for the threads. */
  ahead->next_start = position + (far ? 0 : ahead->segment_size);
  ahead->cancellable = g_cancellable_new ();
  pthread_mutex_init (&ahead->lock, NULL);
  pthread_cond_init (&ahead->moved, NULL);
  pthread_cond_init (&ahead->found, NULL);
  ahead->threads = g_array_new (FALSE, FALSE, sizeof (pthread_t));

  VMA_LOCK (&ahead->lock); /* threads look at how many there are */
  for (guint i = 0; i < n_threads; i++) {
    pthread_t thread;
    if (vma_thread_start (&thread, run, ahead) != 0)
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
  pthread_cond_destroy (&ahead->found);
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

/* Takes the header at `offset` out of what was found, if it is there.  *passed: nor will it be. */
static gboolean
take_header (Segment *segment, guint64 offset, guint8 *bytes, gboolean *passed)
{
  while (segment->next < segment->headers->len) {
    const Header *header = &g_array_index (segment->headers, Header, segment->next);
    *passed = header->offset > offset;
    if (*passed)
      return FALSE;
    segment->next++;
    if (header->offset < offset)
      continue;
    memcpy (bytes, header->bytes, VMA_EXTENT_HEADER_SIZE);
    return TRUE;
  }
  return FALSE;
}

/* Waits for what a thread is about to find.  FALSE where that is not to be had. */
static gboolean
wait_for_header (VmaAhead *ahead, Segment *segment, guint64 offset, GCancellable *cancellable)
{
  if (!segment->active || segment->at > offset || g_cancellable_is_cancelled (cancellable))
    return FALSE;
  if (segment->at < offset) {
    segment->go_on_at = offset;
    pthread_cond_broadcast (&ahead->moved);
  }
  gint64 until = g_get_real_time () + CANCEL_POLL_US;
  struct timespec ts = { until / G_USEC_PER_SEC, until % G_USEC_PER_SEC * 1000 };
  pthread_cond_timedwait (&ahead->found, &ahead->lock, &ts);
  return TRUE;
}

/* Gives a thread that waits for that room for more headers. */
static void
forget_taken (VmaAhead *ahead, Segment *segment)
{
  if (!ahead->far || segment->next < ahead->headers_max / 2)
    return;
  g_array_remove_range (segment->headers, 0, segment->next);
  segment->next = 0;
  pthread_cond_broadcast (&ahead->moved);
}

gboolean
vma_ahead_take (VmaAhead *ahead, guint64 offset, guint8 *header, GCancellable *cancellable)
{
  gboolean passed = FALSE, more;

  VMA_LOCK (&ahead->lock);
  ahead->base = MAX (ahead->base, offset);
  leave_segments (ahead, offset);
  ahead->next_start
      = MAX (ahead->next_start, offset + (ahead->far ? 0 : ahead->segment_size / 16));

  Segment *segment = g_queue_peek_head (&ahead->segments);
  if (segment == NULL || segment->start > offset)
    return FALSE;
  do {
    if (take_header (segment, offset, header, &passed)) {
      forget_taken (ahead, segment);
      return TRUE;
    }
    more = !passed && ahead->far && wait_for_header (ahead, segment, offset, cancellable);
  } while (more);
  if (!passed)
    segment->given_up = TRUE;
  return FALSE;
}
