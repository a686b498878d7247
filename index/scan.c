/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/scan.h"

#include "index/ahead.h"
#include "index/precheck.h"
#include "vma/error.h"

#include <string.h>

/*
 * How much is read at a header: just the header, because what follows is data; but where extents are
 * small (runs of bare headers) up to this.
 */
#define WINDOW_MAX (1024u * 1024u)
/* An extent smaller than this makes the next read larger. */
#define SMALL_EXTENT (16u * 1024u)
/* From here on a window is taken to be a run of bare headers, whose sums are worth a second thread. */
#define PRECHECK_MIN (128u * 1024u)

/*
 * Headers are fetched ahead where each takes this long (microseconds): not from the page cache, and not
 * from a disk that has to seek, where several chains would be slower than one.  And only in large archives.
 */
#define AHEAD_MIN_US 15
#define AHEAD_MAX_US 2000
#define AHEAD_SAMPLE 64
#define AHEAD_MIN_BYTES ((guint64) 8 << 30)
/* A source that likes as many requests is a server: there is no head that seeks. */
#define MANY_REQUESTS 8
/* There a few small extents among larger ones are no reason to read oneself. */
#define BULK_FAR (32u * 1024u)

/* How much is given up around a place that cannot be read. */
#define UNREADABLE_STEP 4096u

struct VmaScanner {
  VmaSource *source;
  const VmaHeader *header;
  VmaIndex *index;
  gboolean salvage;

  guint64 position; /* where the next header is expected */

  guint8 *window;
  guint64 window_start;
  gsize window_size, want;

  gboolean headers_only; /* nobody reads data between the headers */
  VmaAhead *ahead;       /* NULL: each header is read when its turn comes */
  guint n_read;          /* single headers read, and when the last AHEAD_SAMPLE of them began */
  gint64 sample_us;
  gboolean was_slow;     /* the sample before: one alone may be another program's doing */

  VmaPrecheck *precheck;
  gboolean *good; /* by 512 bytes of the window: the header there was checked and is right */
  gsize n_good;

  /* Where the last search for a header has looked; the next one goes on in it. */
  guint8 *search;
  guint64 search_start;
  gsize search_size;

  /* The last extent, whose data are not yet vouched for by what follows them. */
  gboolean held;
  gboolean unfit; /* it did not pass the check: only what is sound of it is added (salvage) */
  VmaExtent extent;
  guint64 offset;
};

VmaScanner *
vma_scanner_new (VmaSource *source, const VmaHeader *header, VmaIndex *index, gboolean salvage)
{
  VmaScanner *scanner = g_new0 (VmaScanner, 1);

  scanner->source = source;
  scanner->header = header;
  scanner->index = index;
  scanner->salvage = salvage;
  /* Behind what an earlier scan has left in the index; in a new one, behind the header. */
  VmaIndexCounts counts;
  vma_index_get_counts (index, &counts);
  scanner->position = counts.end;
  scanner->window = g_malloc0 (WINDOW_MAX);
  scanner->want = VMA_EXTENT_HEADER_SIZE;
  if (salvage)
    vma_index_allow_vmstate_gaps (index);
  scanner->precheck = vma_precheck_new ();
  scanner->good = g_new (gboolean, WINDOW_MAX / VMA_EXTENT_HEADER_SIZE);
  return scanner;
}

void
vma_scanner_free (VmaScanner *scanner)
{
  vma_ahead_free (scanner->ahead);
  vma_precheck_free (scanner->precheck);
  g_free (scanner->good);
  g_free (scanner->search);
  g_free (scanner->window);
  g_free (scanner);
}

/* Whether reads take so long that several at once are faster.  Called at each read of one header. */
static void
consider_fetching_ahead (VmaScanner *scanner, guint64 offset)
{
  guint requests = vma_source_requests (scanner->source);
  guint64 size = vma_source_size (scanner->source);
  gboolean far = requests >= MANY_REQUESTS;

  if ((!scanner->headers_only && !far) || scanner->ahead != NULL || requests < 2
      || (!far && scanner->n_read++ % AHEAD_SAMPLE != 0))
    return;
  gint64 now = g_get_monotonic_time (), took = now - scanner->sample_us;
  gboolean slow = scanner->sample_us != 0 && took >= AHEAD_MIN_US * AHEAD_SAMPLE
                  && took < AHEAD_MAX_US * AHEAD_SAMPLE;
  gboolean start = far || (slow && scanner->was_slow);
  scanner->sample_us = now;
  scanner->was_slow = slow;
  if (size == VMA_SIZE_UNKNOWN || offset >= size || (!far && size - offset < AHEAD_MIN_BYTES))
    return;
  if (start)
    scanner->ahead = vma_ahead_new (scanner->source, scanner->header->uuid, offset, size, requests,
                                    far);
}

/* The header at `offset` as the window, if it was fetched ahead. */
static gboolean
take_from_ahead (VmaScanner *scanner, guint64 offset, GCancellable *cancellable)
{
  gboolean far = vma_source_requests (scanner->source) >= MANY_REQUESTS;

  if (scanner->want > (far ? BULK_FAR : VMA_EXTENT_HEADER_SIZE))
    return FALSE;
  consider_fetching_ahead (scanner, offset);
  if (scanner->ahead == NULL
      || !vma_ahead_take (scanner->ahead, offset, scanner->window, cancellable))
    return FALSE;
  scanner->window_start = offset;
  scanner->window_size = VMA_EXTENT_HEADER_SIZE;
  scanner->n_good = 0;
  return TRUE;
}

void
vma_scanner_headers_only (VmaScanner *scanner)
{
  scanner->headers_only = TRUE;
}

/* Makes the window hold `size` bytes at `offset`.  Bytes there (fewer at the end), or -1. */
static gssize
window_at (VmaScanner *scanner, guint64 offset, gsize size, const guint8 **bytes,
           GCancellable *cancellable, GError **error)
{
  guint64 start = scanner->window_start, end = start + scanner->window_size;

  if ((offset < start || offset + size > end)
      && !(size == VMA_EXTENT_HEADER_SIZE && take_from_ahead (scanner, offset, cancellable))) {
    gsize want = MAX (scanner->want, size);
    gssize got = -1;
    if (want > size) /* a bad sector further on must not cost the header that is asked for */
      got = vma_source_pread (scanner->source, scanner->window, want, offset, VMA_READ_INDEX,
                              cancellable, NULL);
    if (got < 0)
      got = vma_source_pread (scanner->source, scanner->window, size, offset, VMA_READ_INDEX,
                              cancellable, error);
    scanner->window_start = offset;
    scanner->window_size = got > 0 ? (gsize) got : 0;
    scanner->n_good = 0;
    if (got < 0)
      return -1;
    if (got >= (gssize) PRECHECK_MIN) {
      vma_precheck_run (scanner->precheck, scanner->window, (gsize) got, scanner->good);
      scanner->n_good = (gsize) got / VMA_EXTENT_HEADER_SIZE;
    }
  }
  *bytes = scanner->window + (offset - scanner->window_start);
  return (gssize) MIN (size, scanner->window_start + scanner->window_size - offset);
}

/* Whether the header at `offset` was found right when the window was filled. */
static gboolean
is_prechecked (const VmaScanner *scanner, guint64 offset)
{
  guint64 at = offset - scanner->window_start;

  return at % VMA_EXTENT_HEADER_SIZE == 0 && at / VMA_EXTENT_HEADER_SIZE < scanner->n_good
         && scanner->good[at / VMA_EXTENT_HEADER_SIZE];
}

static void
adapt_window (VmaScanner *scanner, guint32 extent_size)
{
  /* A pipe's bytes can be had once only: never read what is not a header. */
  if (extent_size > SMALL_EXTENT || vma_source_is_sequential (scanner->source))
    scanner->want = VMA_EXTENT_HEADER_SIZE;
  else
    scanner->want = MIN (MAX (scanner->want * 2, 4096), WINDOW_MAX);
}

typedef enum {
  AT_EXTENT,
  AT_END,
  AT_DAMAGE,  /* the error says what; salvage may go on */
  AT_FAILURE, /* it may not */
} Step;

static Step
damaged_at (guint64 offset, GError **error, const char *reason)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "extent at %" G_GUINT64_FORMAT ": %s", offset,
               reason);
  return AT_DAMAGE;
}

/* Whether a read has failed without telling anything of the archive. */
static gboolean
is_hopeless (const GError *error)
{
  return g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED)
         || g_error_matches (error, VMA_ERROR, VMA_ERROR_CONNECTION);
}

/* A read failed, and salvage goes on: the next scan may have more luck. */
static void
note_unread (VmaScanner *scanner, const GError *error)
{
  if (g_error_matches (error, VMA_ERROR, VMA_ERROR_IO))
    vma_index_note_unread (scanner->index);
}

/* Reads and parses the header at `offset`. */
static Step
read_extent (VmaScanner *scanner, guint64 offset, VmaExtent *extent, GCancellable *cancellable,
             GError **error)
{
  g_autoptr (GError) local = NULL;
  const guint8 *bytes;

  if (offset > VMA_MAX_OFFSET - VMA_EXTENT_MAX_SIZE) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "extent at %" G_GUINT64_FORMAT ": archives over 256 TiB cannot be read", offset);
    return AT_FAILURE;
  }
  gssize got
      = window_at (scanner, offset, VMA_EXTENT_HEADER_SIZE, &bytes, cancellable, &local);
  if (got < 0) {
    gboolean hopeless = is_hopeless (local);
    note_unread (scanner, local);
    g_propagate_error (error, g_steal_pointer (&local));
    return hopeless ? AT_FAILURE : AT_DAMAGE;
  }
  if (got == 0)
    return AT_END;
  if (got < (gssize) VMA_EXTENT_HEADER_SIZE)
    return damaged_at (offset, error, "the file ends inside its header");
  if (!(is_prechecked (scanner, offset) ? vma_extent_parse_checked : vma_extent_parse) (
          bytes, scanner->header->uuid, extent, &local))
    return damaged_at (offset, error, local->message);
  return AT_EXTENT;
}

/* The held extent is followed by what must follow it: it counts. */
static void
commit_held (VmaScanner *scanner)
{
  if (scanner->held && scanner->unfit)
    vma_index_add_broken_extent (scanner->index, &scanner->extent, scanner->offset,
                                 scanner->offset + scanner->extent.size);
  else if (scanner->held)
    vma_index_add_extent (scanner->index, &scanner->extent, scanner->offset);
  scanner->held = FALSE;
}

/* Makes the search buffer begin at or before `from` and reach behind it.  Bytes from there on, or -1. */
static gssize
search_at (VmaScanner *scanner, guint64 from, const guint8 **bytes, GCancellable *cancellable,
           GError **error)
{
  guint64 end = scanner->search_start + scanner->search_size;

  if (scanner->search == NULL)
    scanner->search = g_malloc (WINDOW_MAX);
  if (from < scanner->search_start || from + VMA_EXTENT_HEADER_SIZE > end) {
    gssize got = vma_source_pread (scanner->source, scanner->search, WINDOW_MAX, from,
                                   VMA_READ_DATA, cancellable, NULL);
    if (got < 0) /* less of it: there is a bad place in it, perhaps not at once */
      got = vma_source_pread (scanner->source, scanner->search, UNREADABLE_STEP, from,
                              VMA_READ_DATA, cancellable, error);
    scanner->search_start = from;
    scanner->search_size = got > 0 ? (gsize) got : 0;
    if (got < 0)
      return -1;
  }
  *bytes = scanner->search + (from - scanner->search_start);
  return (gssize) (scanner->search_start + scanner->search_size - from);
}

/*
 * The first sound extent header at or after `from`, or the end of the archive.  Places that cannot be
 * read are passed over.  G_MAXUINT64 and an error when cancelled, or where a server went away.
 */
static guint64
find_next_header (VmaScanner *scanner, guint64 from, GCancellable *cancellable, GError **error)
{
  for (;;) {
    g_autoptr (GError) local = NULL;
    const guint8 *bytes;
    gssize got = search_at (scanner, from, &bytes, cancellable, &local);

    if (got < 0 && is_hopeless (local)) {
      g_propagate_error (error, g_steal_pointer (&local));
      return G_MAXUINT64;
    }
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return G_MAXUINT64;
    }
    if (got < 0) {
      note_unread (scanner, local);
      /* Where not even the size is known, nothing behind a broken place can be had. */
      if (vma_source_size (scanner->source) == VMA_SIZE_UNKNOWN)
        return from;
      from = (from / UNREADABLE_STEP + 1) * UNREADABLE_STEP;
      if (from >= vma_source_size (scanner->source))
        return vma_source_size (scanner->source);
      continue;
    }
    if (got < (gssize) VMA_EXTENT_HEADER_SIZE)
      return from + (guint64) got;

    for (gsize at = 0; at + VMA_EXTENT_HEADER_SIZE <= (gsize) got; at++) {
      VmaExtent extent;
      at = vma_extent_search (bytes, (gsize) got, at, scanner->header->uuid);
      if (at + VMA_EXTENT_HEADER_SIZE <= (gsize) got
          && vma_extent_parse (bytes + at, scanner->header->uuid, &extent, NULL))
        return from + at;
    }
    /* The last bytes again: a header may begin among them. */
    from += (guint64) got - (VMA_EXTENT_HEADER_SIZE - 1);
  }
}

/*
 * Whether the place where a header must be holds what is left of one: its magic or uuid, nothing that can be
 * read, or, where just this one header is gone by the distance to the next, a constant
 * (a sector wiped) that begins right there.  Anything else there may be the held extent's own data, moved.
 * With an error: nothing was learned.
 */
static gboolean
was_header (VmaScanner *scanner, guint64 expected, guint64 found, GCancellable *cancellable,
            GError **error)
{
  guint8 bytes[1 + VMA_EXTENT_HEADER_SIZE]; /* and the last byte before it */
  const guint8 *header = bytes + 1;
  g_autoptr (GError) local = NULL;
  gssize got = vma_source_pread (scanner->source, bytes, sizeof bytes, expected - 1, VMA_READ_INDEX,
                                 cancellable, &local);

  if (got < 0) {
    note_unread (scanner, local);
    if (is_hopeless (local))
      g_propagate_error (error, g_steal_pointer (&local));
    return TRUE;
  }
  if (got < (gssize) sizeof bytes)
    return FALSE;
  if (memcmp (header, "VMAE", 4) == 0
      || memcmp (header + VMA_EXTENT_OFF_UUID, scanner->header->uuid, VMA_UUID_SIZE) == 0)
    return TRUE;
  return found - expected <= VMA_EXTENT_MAX_SIZE
         && (found - expected) % VMA_BLOCK_SIZE == VMA_EXTENT_HEADER_SIZE
         && memcmp (header, header + 1, VMA_EXTENT_HEADER_SIZE - 1) == 0 && bytes[0] != bytes[1];
}

/* Clusters that are nowhere, if the held extent is the last. */
static guint64
missing_at_end (const VmaScanner *scanner)
{
  guint64 missing = 0;

  for (guint i = 0; i < scanner->header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (scanner->header->devices, i);
    if (!device->is_vmstate)
      missing += vma_index_missing (scanner->index, device->id);
  }
  return missing - MIN (missing, scanner->extent.n_slots);
}

/*
 * At scanner->position there is no sound header.  Looks for the next one, also inside the data of the
 * held extent: if it begins there, or at a distance that whole extents cannot make, or if something
 * else than a broken header stands where one must be, bytes were lost or gained in the held
 * extent, and none of its data need be where its header says.
 */
static Step
resync (VmaScanner *scanner, const char *reason, GCancellable *cancellable, GError **error)
{
  guint64 expected = scanner->position;
  guint64 from = scanner->held ? scanner->offset + VMA_EXTENT_HEADER_SIZE : expected + 1;
  guint64 found = find_next_header (scanner, from, cancellable, error);

  if (found == G_MAXUINT64)
    return AT_FAILURE;
  guint64 size = vma_source_size (scanner->source);
  guint64 end = size == VMA_SIZE_UNKNOWN ? found : size;
  gboolean at_end = found >= end || end - found < VMA_EXTENT_HEADER_SIZE;
  if (at_end)
    found = end;
  gboolean moved = FALSE;
  if (scanner->held && !at_end) {
    g_autoptr (GError) local = NULL;
    moved = found < expected || (found - expected) % VMA_EXTENT_HEADER_SIZE != 0
            || !was_header (scanner, expected, found, cancellable, &local);
    if (local != NULL) {
      g_propagate_error (error, g_steal_pointer (&local));
      return AT_FAILURE;
    }
  }

  if (!scanner->held)
    vma_index_add_damage (scanner->index, expected, found, reason);
  else if (expected > end && at_end) {
    vma_index_add_damage (scanner->index, scanner->offset, end, reason);
    vma_index_add_broken_extent (scanner->index, &scanner->extent, scanner->offset, end);
  } else if (moved) {
    g_autofree char *what
        = g_strdup_printf ("extent at %" G_GUINT64_FORMAT
                           ": bytes were lost or gained inside it, or behind it",
                           scanner->offset);
    vma_index_add_damage (scanner->index, scanner->offset, found, what);
    vma_index_add_broken_extent (scanner->index, &scanner->extent, scanner->offset, 0);
  } else {
    vma_index_add_damage (scanner->index, expected, found, reason);
    commit_held (scanner);
  }
  scanner->held = FALSE;
  scanner->position = found;
  return at_end ? AT_END : AT_EXTENT;
}

/* Strict: the error as it is.  Salvage: notes it and finds the place to go on from. */
static Step
step_over_damage (VmaScanner *scanner, GError **damage, GCancellable *cancellable, GError **error)
{
  if (!scanner->salvage) {
    g_propagate_error (error, g_steal_pointer (damage));
    return AT_FAILURE;
  }
  g_autofree char *reason = g_strdup ((*damage)->message);
  g_clear_error (damage);
  return resync (scanner, reason, cancellable, error);
}

/* Whether the held extent fits the archive.  With salvage one that does not is noted, and kept. */
static Step
check_held (VmaScanner *scanner, GError **error)
{
  g_autoptr (GError) local = NULL;

  scanner->unfit = !vma_index_check_extent (scanner->index, &scanner->extent, &local);
  if (!scanner->unfit)
    return AT_EXTENT;
  if (!scanner->salvage) {
    damaged_at (scanner->offset, error, local->message);
    return AT_FAILURE;
  }
  g_autofree char *reason
      = g_strdup_printf ("extent at %" G_GUINT64_FORMAT ": %s", scanner->offset, local->message);
  vma_index_add_damage (scanner->index, scanner->offset, scanner->offset + scanner->extent.size,
                        reason);
  return AT_DAMAGE;
}

/* The held extent's data would go on behind the end of the archive. */
static Step
cut_off (VmaScanner *scanner, guint64 size, GCancellable *cancellable, GError **error)
{
  g_autoptr (GError) damage = NULL;
  g_autofree char *reason = g_strdup_printf ("the file ends at %" G_GUINT64_FORMAT
                                             ", but its data go on to %" G_GUINT64_FORMAT,
                                             size, scanner->position);

  damaged_at (scanner->offset, &damage, reason);
  Step step = step_over_damage (scanner, &damage, cancellable, error);
  return step == AT_EXTENT ? AT_DAMAGE : step;
}

/*
 * The last extent ends where the archive does, but clusters are missing: perhaps just as many bytes were
 * lost inside it as the extents behind it had.  Then there is a header among its data.
 */
static Step
check_last (VmaScanner *scanner, guint64 size, GCancellable *cancellable, GError **error)
{
  g_autoptr (GError) damage = NULL;
  guint64 found
      = find_next_header (scanner, scanner->offset + VMA_EXTENT_HEADER_SIZE, cancellable, error);

  if (found == G_MAXUINT64)
    return AT_FAILURE;
  if (found >= size) {
    commit_held (scanner);
    return AT_END;
  }
  damaged_at (scanner->offset, &damage, "bytes were lost inside it");
  Step step = step_over_damage (scanner, &damage, cancellable, error);
  return step == AT_EXTENT ? AT_DAMAGE : step;
}

/* One step along the chain; AT_DAMAGE means that damage was noted and the next step may be taken. */
static Step
scanner_step (VmaScanner *scanner, GCancellable *cancellable, GError **error)
{
  g_autoptr (GError) damage = NULL;
  VmaExtent extent;
  Step step = read_extent (scanner, scanner->position, &extent, cancellable, &damage);

  if (step == AT_FAILURE) {
    g_propagate_error (error, g_steal_pointer (&damage));
    return AT_FAILURE;
  }
  if (step == AT_DAMAGE) {
    step = step_over_damage (scanner, &damage, cancellable, error);
    return step == AT_EXTENT ? AT_DAMAGE : step;
  }
  /* A source that learns its size only at its end knows it now. */
  guint64 size = vma_source_size (scanner->source);
  if (step == AT_END) {
    if (scanner->position > size)
      return scanner->held ? cut_off (scanner, size, cancellable, error) : AT_END;
    if (scanner->held && missing_at_end (scanner) > 0
        && !vma_source_is_sequential (scanner->source))
      return check_last (scanner, size, cancellable, error);
    commit_held (scanner);
    return AT_END;
  }
  commit_held (scanner);

  if (!vma_index_check_memory (scanner->index, error))
    return AT_FAILURE;
  scanner->extent = extent;
  scanner->offset = scanner->position;
  scanner->held = TRUE;
  scanner->unfit = FALSE;
  scanner->position += extent.size;
  adapt_window (scanner, extent.size);
  if (scanner->position > size)
    return cut_off (scanner, size, cancellable, error);
  return check_held (scanner, error);
}

int
vma_scanner_next (VmaScanner *scanner, const VmaExtent **extent, guint64 *offset,
                  GCancellable *cancellable, GError **error)
{
  for (;;) {
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return -1;
    }
    Step step = scanner_step (scanner, cancellable, error);
    vma_index_set_position (scanner->index, scanner->position);
    switch (step) {
    case AT_EXTENT:
      *extent = &scanner->extent;
      *offset = scanner->offset;
      return 1;
    case AT_END:
      return 0;
    case AT_DAMAGE:
      break;
    case AT_FAILURE:
      return -1;
    }
  }
}

gboolean
vma_scanner_run (VmaScanner *scanner, GCancellable *cancellable, GError **error)
{
  g_autoptr (GError) failure = NULL;
  const VmaExtent *extent;
  guint64 offset;
  int more;

  vma_scanner_headers_only (scanner);
  while ((more = vma_scanner_next (scanner, &extent, &offset, cancellable, &failure)) > 0)
    ;
  if (more == 0)
    return vma_index_complete (scanner->index, !scanner->salvage, error);
  vma_index_fail (scanner->index, failure);
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}
