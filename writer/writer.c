/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer/writer.h"

#include "index/lock.h"
#include "index/map.h"
#include "vma/build.h"
#include "vma/error.h"
#include "writer/bits.h"
#include "writer/blocks.h"
#include "writer/sink.h"

#include <stdatomic.h>
#include <string.h>
#include <uuid/uuid.h>

/* An extent being filled.  Slots and data offsets are given out under the lock, and used outside it. */
struct VmaFilling {
  VmaSinkExtent sink;
  VmaSlot slots[VMA_EXTENT_SLOTS];
  guint n_slots;
  guint32 size;    /* header and the data given out so far */
  guint pending;   /* pieces whose data are not all there yet */
  gboolean closed; /* takes no more slots */
};

typedef struct VmaFilling Extent;
/* A part of a dump that falls into one extent. */
typedef struct VmaPiece Piece;

typedef struct {
  gboolean registered, closed, is_vmstate;
  guint64 size, clusters;
  guint8 *seen;  /* a bit a cluster: given out */
  guint64 next;  /* vmstate */
  guint64 n_seen;
  VmaMap *map;   /* written clusters; NULL: not readable */
  _Atomic guint64 transferred, zero;
} Stream;

struct VmaWriter {
  VmaWriterOptions options;
  guint8 uuid[VMA_UUID_SIZE];
  VmaOutput *output;
  VmaSink *sink;
  VmaHeaderBuilder *builder; /* until the first dump */

  pthread_mutex_t lock; /* of all below, and of streams but their counters */
  pthread_cond_t changed;
  gboolean began;
  gboolean synced, completed;
  Extent *current;  /* takes slots; NULL: the next one is opened when needed */
  guint64 position; /* where the next extent begins */
  guint pending;    /* extents that are not sealed */
  GError *failure;
  Stream streams[VMA_MAX_DEVICES];
};

/* The sink has room for another extent. */
static void
room (gpointer data)
{
  VmaWriter *writer = data;

  VMA_LOCK (&writer->lock);
  pthread_cond_broadcast (&writer->changed);
}

VmaWriter *
vma_writer_open (const char *target, const VmaWriterOptions *options, GError **error)
{
  g_autoptr (VmaWriter) writer = g_new0 (VmaWriter, 1);
  gint64 ctime;

  pthread_mutex_init (&writer->lock, NULL);
  pthread_cond_init (&writer->changed, NULL);
  if (options != NULL)
    writer->options = *options;
  else
    writer->options.ctime = -1;
  if (writer->options.slots == 0 || writer->options.slots > VMA_EXTENT_SLOTS)
    writer->options.slots = VMA_EXTENT_SLOTS;
  if (writer->options.uuid != NULL)
    memcpy (writer->uuid, writer->options.uuid, VMA_UUID_SIZE);
  else
    uuid_generate (writer->uuid);
  ctime = writer->options.ctime >= 0 ? writer->options.ctime : g_get_real_time () / 1000000;
  writer->builder = vma_header_builder_new (writer->uuid, ctime);

  writer->output = vma_output_open (target, error);
  if (writer->output == NULL)
    return NULL;
  gboolean in_place = writer->options.compression == VMA_COMPRESS_NONE
                      && vma_output_is_seekable (writer->output);
  if (writer->options.maybe_readable && !in_place)
    writer->options.readable = FALSE;
  if (writer->options.readable && !in_place) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: what goes through a pipe or a compressor cannot be read back", target);
    return NULL;
  }
  writer->sink = in_place ? vma_file_sink_new (writer->output)
                          : vma_stream_sink_new (writer->output, &writer->options, error);
  if (writer->sink == NULL)
    return NULL;
  writer->sink->room = room;
  writer->sink->room_data = writer;
  return g_steal_pointer (&writer);
}

void
vma_writer_free (VmaWriter *writer)
{
  /* First of all: a thread of the sink may be stuck in a write to a command that does not read. */
  if (writer->output != NULL)
    vma_output_cancel (writer->output, FALSE);
  g_clear_pointer (&writer->current, g_free);
  if (writer->sink != NULL)
    writer->sink->ops->free (writer->sink);
  g_clear_pointer (&writer->output, vma_output_free);
  g_clear_pointer (&writer->builder, vma_header_builder_free);
  for (guint id = 0; id < VMA_MAX_DEVICES; id++) {
    g_free (writer->streams[id].seen);
    g_clear_pointer (&writer->streams[id].map, vma_map_free);
  }
  g_clear_error (&writer->failure);
  pthread_cond_destroy (&writer->changed);
  pthread_mutex_destroy (&writer->lock);
  g_free (writer);
}

static gboolean
check_not_begun (VmaWriter *writer, GError **error)
{
  if (!writer->began)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
               "the header is written: configs and disks must be added before any data");
  return FALSE;
}

gboolean
vma_writer_add_config (VmaWriter *writer, const char *name, const guint8 *data, gsize size,
                       GError **error)
{
  return check_not_begun (writer, error)
         && vma_header_builder_add_config (writer->builder, name, data, size, error);
}

guint8
vma_writer_register_stream (VmaWriter *writer, const char *name, guint64 size, GError **error)
{
  if (!check_not_begun (writer, error))
    return 0;
  guint8 id = vma_header_builder_add_device (writer->builder, name, size, error);
  if (id == 0)
    return 0;

  Stream *stream = &writer->streams[id];
  stream->is_vmstate = strcmp (name, VMA_VMSTATE_NAME) == 0;
  stream->size = size;
  stream->clusters = stream->is_vmstate ? VMA_MAX_CLUSTERS : vma_clusters_for_size (size);
  if (!stream->is_vmstate)
    stream->seen = g_try_malloc0 (vma_bits_bytes (stream->clusters));
  if (writer->options.readable)
    stream->map = vma_map_new (stream->clusters);
  if ((stream->seen == NULL && !stream->is_vmstate)
      || (stream->map == NULL && writer->options.readable)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "not enough memory to follow disk '%s' of %" G_GUINT64_FORMAT " bytes", name,
                 size);
    return 0;
  }
  stream->registered = TRUE;
  return id;
}

/* --- giving out places ------------------------------------------------------------------------- */

/* The caller holds the lock. */
static gboolean
check_failure (VmaWriter *writer, GError **error)
{
  if (writer->failure == NULL)
    return TRUE;
  if (error != NULL)
    *error = g_error_copy (writer->failure);
  return FALSE;
}

/* The caller holds the lock. */
static void
fail (VmaWriter *writer, GError *failure)
{
  if (writer->failure == NULL)
    writer->failure = failure;
  else
    g_error_free (failure);
  pthread_cond_broadcast (&writer->changed);
}

/* Writes the header, now that all configs and streams are known.  The caller holds the lock. */
static gboolean
begin (VmaWriter *writer, GError **error)
{
  GError *failure = NULL;

  if (writer->began)
    return check_failure (writer, error);
  writer->began = TRUE;
  g_autoptr (GBytes) header = vma_header_builder_finish (writer->builder);
  writer->position = g_bytes_get_size (header);
  if (!writer->sink->ops->begin (writer->sink, header, &failure))
    fail (writer, failure);
  return check_failure (writer, error);
}

/* Marks clusters as given out, all or none.  The caller holds the lock. */
static gboolean
claim (VmaWriter *writer, guint8 id, guint64 cluster, guint64 n, GError **error)
{
  Stream *stream = &writer->streams[id];
  const char *reason = NULL;

  if (!stream->registered)
    reason = "there is no such stream";
  else if (stream->closed)
    reason = "the stream is closed";
  else if (cluster >= stream->clusters || n > stream->clusters - cluster)
    reason = "beyond the end of the stream";
  else if (stream->is_vmstate && cluster != stream->next)
    reason = "out of order";
  else if (!stream->is_vmstate && vma_bits_find (stream->seen, cluster, n, TRUE) < n)
    reason = "written twice";
  if (reason != NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "stream %u, clusters %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT ": %s", id, cluster,
                 cluster + n - 1, reason);
    return FALSE;
  }
  if (stream->is_vmstate)
    stream->next += n;
  else
    vma_bits_set (stream->seen, cluster, n);
  stream->n_seen += n;
  return TRUE;
}

/* An extent that has room.  The caller holds the lock, which may be let go meanwhile. */
static Extent *
current_extent (VmaWriter *writer, GError **error)
{
  while (writer->current == NULL) {
    if (!check_failure (writer, error))
      return NULL;
    Extent *extent = g_new (Extent, 1);
    *extent = (Extent){ .sink.offset = writer->position, .size = VMA_EXTENT_HEADER_SIZE };
    if (writer->sink->ops->open (writer->sink, &extent->sink)) {
      writer->current = extent;
      writer->pending++;
    } else {
      g_free (extent);
      pthread_cond_wait (&writer->changed, &writer->lock);
    }
  }
  return check_failure (writer, error) ? writer->current : NULL;
}

/* No more slots: the next extent's place is known.  The caller holds the lock. */
static void
close_current (VmaWriter *writer)
{
  writer->current->closed = TRUE;
  writer->position += writer->current->size;
  writer->current = NULL;
}

/* Takes slots for the next of n clusters.  The caller holds the lock.  FALSE after a failure. */
static gboolean
take_slots (VmaWriter *writer, guint8 id, guint64 cluster, guint64 n, const guint16 *masks,
            Piece *piece, GError **error)
{
  Extent *extent = current_extent (writer, error);

  if (extent == NULL)
    return FALSE;
  *piece = (Piece){
    .extent = extent,
    .first = extent->n_slots,
    .n = (guint) MIN (n, writer->options.slots - extent->n_slots),
  };
  for (guint i = 0; i < piece->n; i++) {
    guint16 mask = masks != NULL ? masks[i] : 0;
    extent->slots[extent->n_slots++] = (VmaSlot){
      .device = id,
      .cluster = (guint32) (cluster + i),
      .mask = mask,
      .offset = extent->size,
    };
    extent->size += vma_mask_blocks (mask) * VMA_BLOCK_SIZE;
  }
  extent->pending++;
  if (extent->n_slots == writer->options.slots)
    close_current (writer);
  return TRUE;
}

/* --- bringing data ----------------------------------------------------------------------------- */

/* Seals an extent that is closed and complete; takes the lock.  `extent` is gone afterwards. */
static void
seal (VmaWriter *writer, Extent *extent)
{
  guint8 header[VMA_EXTENT_HEADER_SIZE];
  GError *failure = NULL;

  vma_extent_encode (header, writer->uuid, extent->slots, extent->n_slots);
  writer->sink->ops->seal (writer->sink, &extent->sink, header, extent->size, &failure);
  g_free (extent);

  VMA_LOCK (&writer->lock);
  writer->pending--;
  if (failure != NULL)
    fail (writer, failure);
  pthread_cond_broadcast (&writer->changed);
}

/* A piece's data are there (or failed). */
static void
piece_done (VmaWriter *writer, const Piece *piece, GError *failure)
{
  Extent *extent = piece->extent;
  gboolean complete;

  {
    VMA_LOCK (&writer->lock);
    const VmaSlot *slots = &extent->slots[piece->first];
    Stream *stream = &writer->streams[slots->device];

    if (failure != NULL)
      fail (writer, failure);
    else if (stream->map != NULL) {
      VmaEntry entries[VMA_EXTENT_SLOTS];
      for (guint i = 0; i < piece->n; i++)
        entries[i] = vma_entry_make (extent->sink.offset + slots[i].offset, slots[i].mask);
      vma_map_set (stream->map, slots->cluster, entries, piece->n);
    }
    complete = --extent->pending == 0 && extent->closed;
    if (stream->map != NULL)
      pthread_cond_broadcast (&writer->changed); /* for those who wait to read it back */
  }
  if (complete)
    seal (writer, extent);
}

/* A cluster whose end is cut short, made whole. */
typedef struct {
  guint8 block[VMA_BLOCK_SIZE];
} Tail;

/*
 * The stored blocks of a piece as an I/O vector.  `size` is how much of `data` there is: the very last
 * block may need the zeros that `tail` has room for.
 */
static int
piece_vector (const Piece *piece, const guint8 *data, gsize size, Tail *tail, struct iovec *iov)
{
  int n = 0;

  for (guint i = 0; i < piece->n; i++) {
    guint16 mask = piece->extent->slots[piece->first + i].mask;

    for (guint block = 0; block < VMA_BLOCKS_PER_CLUSTER; block++) {
      gsize at = (gsize) i * VMA_CLUSTER_SIZE + block * VMA_BLOCK_SIZE;
      const guint8 *from = data + at;

      if ((mask >> block & 1) == 0)
        continue;
      if (size - at < VMA_BLOCK_SIZE) {
        memset (tail->block, 0, VMA_BLOCK_SIZE);
        memcpy (tail->block, from, size - at);
        from = tail->block;
      }
      if (n > 0 && (const guint8 *) iov[n - 1].iov_base + iov[n - 1].iov_len == from)
        iov[n - 1].iov_len += VMA_BLOCK_SIZE;
      else
        iov[n++] = (struct iovec){ .iov_base = (void *) from, .iov_len = VMA_BLOCK_SIZE };
    }
  }
  return n;
}

static void
put_piece (VmaWriter *writer, const Piece *piece, const guint8 *data, gsize size)
{
  struct iovec iov[VMA_EXTENT_SLOTS * VMA_BLOCKS_PER_CLUSTER / 2 + 1];
  GError *failure = NULL;
  Tail tail;

  if (data != NULL) {
    int n = piece_vector (piece, data, size, &tail, iov);
    if (n > 0)
      writer->sink->ops->put (writer->sink, &piece->extent->sink, iov, n,
                              piece->extent->slots[piece->first].offset, &failure);
  }
  piece_done (writer, piece, failure);
}

/* How many clusters of a dump have their masks worked out at once. */
#define BATCH VMA_EXTENT_SLOTS

/* Bytes of the stream in clusters [cluster, cluster + n). */
static guint64
bytes_in (const Stream *stream, guint64 cluster, guint64 n)
{
  guint64 start = cluster * VMA_CLUSTER_SIZE, size = n * VMA_CLUSTER_SIZE;

  return stream->is_vmstate ? size : MIN (size, stream->size - start);
}

static void
find_masks (const guint8 *data, gsize size, guint n, guint16 *masks)
{
  for (guint i = 0; i < n; i++) {
    gsize at = (gsize) i * VMA_CLUSTER_SIZE;
    masks[i] = vma_blocks_mask (data + at, MIN (VMA_CLUSTER_SIZE, size - at));
  }
}

/* Counts what was dumped; `masks` may be NULL. */
static void
count (Stream *stream, gsize size, const guint16 *masks, guint n)
{
  guint64 stored = 0;

  for (guint i = 0; masks != NULL && i < n; i++)
    stored += vma_mask_blocks (masks[i]);
  atomic_fetch_add_explicit (&stream->transferred, size, memory_order_relaxed);
  atomic_fetch_add_explicit (&stream->zero, size - MIN (size, stored * VMA_BLOCK_SIZE),
                             memory_order_relaxed);
}

static gboolean
dump_batch (VmaWriter *writer, guint8 id, guint64 cluster, guint n, const guint8 *data, gsize size,
            GError **error)
{
  guint16 masks[BATCH];

  if (data != NULL)
    find_masks (data, size, n, masks);
  for (guint done = 0; done < n;) {
    Piece piece;
    {
      VMA_LOCK (&writer->lock);
      if (!take_slots (writer, id, cluster + done, n - done, data != NULL ? masks + done : NULL,
                       &piece, error))
        return FALSE;
    }
    gsize at = (gsize) done * VMA_CLUSTER_SIZE;
    guint taken = piece.n; /* the piece is gone with its extent afterwards */
    put_piece (writer, &piece, data != NULL ? data + at : NULL, size - at);
    done += taken;
  }
  count (&writer->streams[id], size, data != NULL ? masks : NULL, n);
  return TRUE;
}

gboolean
vma_writer_dump (VmaWriter *writer, guint8 id, guint64 cluster, guint64 n, const void *data,
                 GError **error)
{
  if (n == 0)
    return TRUE;
  {
    VMA_LOCK (&writer->lock);
    if (!begin (writer, error) || !claim (writer, id, cluster, n, error))
      return FALSE;
  }
  for (guint64 done = 0; done < n;) {
    guint batch = (guint) MIN (n - done, BATCH);
    gsize size = (gsize) bytes_in (&writer->streams[id], cluster + done, batch);

    if (!dump_batch (writer, id, cluster + done, batch,
                     data != NULL ? (const guint8 *) data + done * VMA_CLUSTER_SIZE : NULL, size,
                     error))
      return FALSE;
    done += batch;
  }
  VMA_LOCK (&writer->lock);
  return check_failure (writer, error);
}

/* --- dumping in three steps -------------------------------------------------------------------- */

gboolean
vma_writer_look (VmaWriter *writer, VmaDump *dump, guint8 id, guint64 cluster, guint n,
                 const void *data, GError **error)
{
  const Stream *stream = &writer->streams[id];

  if (n > writer->options.slots || !stream->registered || cluster >= stream->clusters
      || n > stream->clusters - cluster) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "stream %u: %u clusters from %" G_GUINT64_FORMAT " cannot be placed at once", id, n,
                 cluster);
    return FALSE;
  }
  dump->stream = id;
  dump->cluster = cluster;
  dump->n = n;
  dump->data = data;
  dump->size = (gsize) bytes_in (stream, cluster, n);
  dump->n_pieces = 0;
  find_masks (dump->data, dump->size, n, dump->masks);
  return TRUE;
}

/* Gives back places that will not be filled, after a failure. */
static void
drop_pieces (VmaWriter *writer, VmaDump *dump)
{
  for (guint i = 0; i < dump->n_pieces; i++) {
    g_autoptr (GError) failure = NULL;
    {
      VMA_LOCK (&writer->lock);
      check_failure (writer, &failure);
    }
    piece_done (writer, &dump->pieces[i], g_steal_pointer (&failure));
  }
  dump->n_pieces = 0;
}

gboolean
vma_writer_place (VmaWriter *writer, VmaDump *dump, GError **error)
{
  gboolean ok;

  {
    VMA_LOCK (&writer->lock);
    ok = begin (writer, error) && claim (writer, dump->stream, dump->cluster, dump->n, error);
    /* Two extents at most: the waiting for room inside cannot be for our own. */
    for (guint done = 0; ok && done < dump->n;) {
      Piece *piece = &dump->pieces[dump->n_pieces];
      ok = take_slots (writer, dump->stream, dump->cluster + done, dump->n - done,
                       dump->masks + done, piece, error);
      if (ok) {
        done += piece->n;
        dump->n_pieces++;
      }
    }
  }
  if (!ok)
    drop_pieces (writer, dump);
  return ok;
}

gboolean
vma_writer_put (VmaWriter *writer, VmaDump *dump, GError **error)
{
  gsize at = 0;

  for (guint i = 0; i < dump->n_pieces; i++) {
    gsize taken = (gsize) dump->pieces[i].n * VMA_CLUSTER_SIZE;
    put_piece (writer, &dump->pieces[i], dump->data + at, dump->size - at);
    at += taken;
  }
  dump->n_pieces = 0;
  count (&writer->streams[dump->stream], dump->size, dump->masks, dump->n);
  VMA_LOCK (&writer->lock);
  return check_failure (writer, error);
}

/* --- ending ------------------------------------------------------------------------------------ */

gboolean
vma_writer_close_stream (VmaWriter *writer, guint8 id, GError **error)
{
  VMA_LOCK (&writer->lock);
  if (!check_failure (writer, error))
    return FALSE;
  Stream *stream = &writer->streams[id];
  guint64 missing = 0;

  if (!stream->registered || stream->closed) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "stream %u is not open", id);
    return FALSE;
  }
  if (!stream->is_vmstate && !writer->options.partial)
    missing = stream->clusters - stream->n_seen;
  if (missing > 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING,
                 "stream %u: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                 " clusters were never written",
                 id, missing, stream->clusters);
    return FALSE;
  }
  stream->closed = TRUE;
  return TRUE;
}

/* Closes the last extent; the caller is alone. */
static void
flush (VmaWriter *writer)
{
  Extent *last = NULL;

  {
    VMA_LOCK (&writer->lock);
    if (writer->current != NULL) {
      last = writer->current;
      close_current (writer);
    }
  }
  if (last != NULL)
    seal (writer, last);
}

/* Whether all is in order for the end.  The caller holds the lock. */
static gboolean
check_streams (VmaWriter *writer, GError **error)
{
  if (writer->completed) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "the archive is complete already");
    return FALSE;
  }
  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    if (writer->streams[id].registered && !writer->streams[id].closed) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "stream %u is still open", id);
      return FALSE;
    }
  return TRUE;
}

gboolean
vma_writer_sync (VmaWriter *writer, GError **error)
{
  GError *failure = NULL;

  {
    VMA_LOCK (&writer->lock);
    if (!check_streams (writer, error) || !begin (writer, error))
      return FALSE;
    if (writer->synced)
      return TRUE;
  }
  flush (writer);
  {
    VMA_LOCK (&writer->lock);
    g_assert (writer->pending == 0 || writer->failure != NULL);
    if (!check_failure (writer, error))
      return FALSE;
  }
  /* Not under the lock: whoever asks how far it is shall not wait for the medium. */
  if (writer->sink->ops->finish (writer->sink, &failure))
    vma_output_sync (writer->output, &failure);
  VMA_LOCK (&writer->lock);
  if (failure != NULL)
    fail (writer, failure);
  writer->synced = failure == NULL;
  return check_failure (writer, error);
}

gboolean
vma_writer_complete (VmaWriter *writer, GError **error)
{
  GError *failure = NULL;

  if (!vma_writer_sync (writer, error))
    return FALSE;
  VMA_LOCK (&writer->lock);
  if (vma_output_finish (writer->output, &failure))
    writer->completed = TRUE;
  else
    fail (writer, failure);
  return check_failure (writer, error);
}

void
vma_writer_cancel (VmaWriter *writer, gboolean at_once)
{
  vma_output_cancel (writer->output, at_once);
}

/* --- asking ------------------------------------------------------------------------------------ */

void
vma_writer_get_progress (VmaWriter *writer, guint8 id, VmaStreamProgress *progress)
{
  Stream *stream = &writer->streams[id];

  *progress = (VmaStreamProgress){
    .total = stream->size,
    .transferred = atomic_load_explicit (&stream->transferred, memory_order_relaxed),
    .zero = atomic_load_explicit (&stream->zero, memory_order_relaxed),
  };
}

gboolean
vma_writer_is_readable (VmaWriter *writer)
{
  return writer->options.readable;
}

guint64
vma_writer_archive_bytes (VmaWriter *writer)
{
  VMA_LOCK (&writer->lock);
  return writer->position + (writer->current != NULL ? writer->current->size : 0);
}

guint64
vma_writer_written_bytes (VmaWriter *writer)
{
  return writer->sink->ops->written (writer->sink);
}

int
vma_writer_read_cluster (VmaWriter *writer, guint8 id, guint64 cluster, void *buffer,
                         GError **error)
{
  Stream *stream = &writer->streams[id];
  VmaEntry entry = VMA_ENTRY_MISSING;

  if (!stream->registered || stream->map == NULL || cluster >= stream->clusters) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "stream %u: cluster %" G_GUINT64_FORMAT " cannot be read back", id, cluster);
    return -1;
  }
  pthread_mutex_lock (&writer->lock);
  gboolean seen = stream->is_vmstate ? cluster < stream->next
                                     : vma_bits_get (stream->seen, cluster);
  while (seen && (entry = vma_map_get (stream->map, cluster)) == VMA_ENTRY_MISSING
         && writer->failure == NULL)
    pthread_cond_wait (&writer->changed, &writer->lock); /* its data are on their way */
  /* What was written before a failure can still be read. */
  gboolean ok = !seen || entry != VMA_ENTRY_MISSING || check_failure (writer, error);
  pthread_mutex_unlock (&writer->lock);
  if (!ok)
    return -1;
  if (!seen)
    return 0;

  guint16 mask = vma_entry_mask (entry);
  guint64 offset = vma_entry_offset (entry);
  memset (buffer, 0, VMA_CLUSTER_SIZE);
  for (guint block = 0; block < VMA_BLOCKS_PER_CLUSTER;) {
    guint n = 1;
    if ((mask >> block & 1) == 0) {
      block++;
      continue;
    }
    while (block + n < VMA_BLOCKS_PER_CLUSTER && (mask >> (block + n) & 1) != 0)
      n++;
    if (!vma_output_read_at (writer->output, (guint8 *) buffer + block * VMA_BLOCK_SIZE,
                             n * VMA_BLOCK_SIZE, offset, error))
      return -1;
    offset += n * VMA_BLOCK_SIZE;
    block += n;
  }
  return 1;
}
