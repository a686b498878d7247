/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/packed.h"

#include "source/chunks.h"
#include "source/packed-pass.h"
#include "source/packed-streams.h"
#include "source/sidecar.h"
#include "source/source-impl.h"
#include "vma/error.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

#define DEFAULT_CACHE ((guint64) 256 << 20)
#define DEFAULT_MEMORY ((guint64) 1 << 30)
#define DEFAULT_SPACING ((guint64) 13 << 20)

/* Threads that decode ahead, and half-decoded chunks whose decoder is kept. */
#define MAX_THREADS 4u
#define MAX_PARKED 8u

/* How often a read tries again while checkpoints are made anew, a millisecond or more apart. */
#define MAX_STALLED 30000u

/* What an index can be in a key of the chunk cache; the rest tells generations apart. */
#define INDEX_BITS 48
#define INDEX_MASK (((guint64) 1 << INDEX_BITS) - 1)

typedef struct {
  VmaSource base;
  VmaSourceOps ops;
  VmaPackedFile file;
  const VmaCodec *codec;
  VmaCodecLimits limits;
  VmaCodecInput input;
  VmaSidecar *sidecar;
  VmaPackedPass *pass;
  VmaChunks *chunks;
  VmaStreams *streams;
  /* A broken sidecar makes checkpoints (and chunks) anew, perhaps elsewhere. */
  atomic_ullong generation;
  atomic_ullong broken; /* key + 1 of the chunk whose saved checkpoint is broken, or 0 */
  pthread_mutex_t repair; /* held while that is dealt with */
} Packed;

/* What a chunk needs while it is decoded in parts. */
typedef struct {
  const VmaCodec *codec;
  VmaSidecarChunk *chunk;
  VmaDecoder *decoder;
  gsize decoded; /* by `decoder` */
} Parked;

static void
parked_free (gpointer data)
{
  Parked *parked = data;

  if (parked->decoder != NULL)
    parked->codec->decoder_free (parked->decoder);
  g_clear_pointer (&parked->chunk, vma_sidecar_chunk_free);
  g_free (parked);
}

/* For decoders: everything a closed chunk needs is in the file, also where that still grows. */
static gssize
decoder_input (gpointer data, void *buffer, gsize size, guint64 offset, GError **error)
{
  const Packed *packed = data;
  gsize done = 0;

  while (done < size) {
    gssize n = vma_packed_file_read (&packed->file, (guint8 *) buffer + done, size - done,
                                     offset + done, NULL, error);
    if (n < 0)
      return -1;
    if (n == 0)
      break;
    done += (gsize) n;
  }
  return (gssize) done;
}

/* The first end of a piece at or behind `want`. */
static gsize
piece_end (const VmaSidecarChunk *chunk, gsize want)
{
  gsize end = 0;

  for (guint i = 0; i < chunk->n_pieces && end < want; i++)
    end += chunk->pieces[i].size;
  return end;
}

/* Proves bytes[have..end) of a chunk; `have` and `end` are ends of pieces. */
static gboolean
check_pieces (const VmaSidecarChunk *chunk, const guint8 *bytes, gsize have, gsize end,
              GError **error)
{
  gsize at = 0;

  for (guint i = 0; i < chunk->n_pieces && at < end; i++) {
    const VmaPiece *piece = &chunk->pieces[i];
    if (at >= have) {
      XXH128_canonical_t hash;
      XXH128_canonicalFromHash (&hash, XXH3_128bits (bytes + at, piece->size));
      if (memcmp (&hash, piece->hash, sizeof piece->hash) != 0) {
        g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                     "what was decoded at %" G_GUINT64_FORMAT
                     " of the archive is not what it was when it was indexed",
                     chunk->from.out + at);
        return FALSE;
      }
    }
    at += piece->size;
  }
  return TRUE;
}

/* Brings a decoder that had to be made anew to where the last one stood. */
static gboolean
skip_to (Parked *parked, gsize have, GError **error)
{
  gsize room = 256u << 10;
  g_autofree guint8 *scratch = parked->decoded < have ? g_malloc (room) : NULL;

  while (parked->decoded < have) {
    gsize n = MIN (room, have - parked->decoded);
    if (!parked->codec->decoder_read (parked->decoder, scratch, n, error))
      return FALSE;
    parked->decoded += n;
  }
  return TRUE;
}

static gboolean
decode_in_steps (Packed *packed, Parked *parked, guint8 *bytes, gsize have, gsize end,
                 GError **error)
{
  if (parked->decoder == NULL) {
    parked->decoder = packed->codec->decoder_new (&parked->chunk->from, &packed->input,
                                                  &packed->limits, error);
    parked->decoded = 0;
    if (parked->decoder == NULL)
      return FALSE;
  }
  if (!skip_to (parked, have, error)
      || !packed->codec->decoder_read (parked->decoder, bytes + have, end - have, error))
    return FALSE;
  parked->decoded = end;
  return TRUE;
}

static gboolean
decode_at_once (Packed *packed, Parked *parked, guint8 *bytes, gsize have, gsize end,
                GError **error)
{
  /* Others may be reading what is valid: it is not to be written again. */
  g_autofree guint8 *scratch = have > 0 ? g_try_malloc (end) : NULL;
  guint8 *to = have > 0 ? scratch : bytes;

  if (to == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "not enough memory to decode %" G_GSIZE_FORMAT " bytes", end);
    return FALSE;
  }
  if (!packed->codec->decode (&parked->chunk->from, &packed->input, &packed->limits, to, end,
                              error))
    return FALSE;
  if (have > 0)
    memcpy (bytes + have, scratch + have, end - have);
  return TRUE;
}

/*
 * Notes a chunk whose saved checkpoint is broken, for repair().  A thread that comes late, with a key of
 * an earlier generation, must not hide what another one has found since.
 */
static void
note_broken (Packed *packed, guint64 key)
{
  unsigned long long seen = atomic_load (&packed->broken);

  while ((seen == 0 || (seen - 1) >> INDEX_BITS <= key >> INDEX_BITS)
         && !atomic_compare_exchange_weak (&packed->broken, &seen, key + 1))
    ;
}

static Parked *
parked_new (Packed *packed, guint64 key, gsize size, GError **error)
{
  g_autoptr (GError) local_error = NULL;
  g_autoptr (VmaSidecarChunk) chunk = vma_sidecar_read (packed->sidecar, key & INDEX_MASK, &local_error);

  if (chunk == NULL || chunk->size != size) {
    if (chunk == NULL && g_error_matches (local_error, VMA_ERROR, VMA_ERROR_DAMAGED))
      note_broken (packed, key);
    if (chunk != NULL)
      g_set_error (&local_error, VMA_ERROR, VMA_ERROR_INVALID, "the chunk has another size now");
    g_propagate_error (error, g_steal_pointer (&local_error));
    return NULL;
  }
  Parked *parked = g_new0 (Parked, 1);
  parked->codec = packed->codec;
  parked->chunk = g_steal_pointer (&chunk);
  return parked;
}

/* How far to decode now.  What cannot be checked, or taken up again, is decoded whole. */
static gsize
choose_end (const Packed *packed, const Parked *parked, gsize size, gsize have, gsize want)
{
  gboolean steps = packed->codec->decoder_new != NULL;

  if (parked->chunk->n_pieces == 0 || (have > 0 && !steps))
    return size;
  return piece_end (parked->chunk, want);
}

static gsize
packed_fill (gpointer data, guint64 key, guint8 *bytes, gsize size, gsize have, gsize want,
             gpointer *slot, GError **error)
{
  Packed *packed = data;
  Parked *parked = g_steal_pointer (slot);

  if (parked == NULL)
    parked = parked_new (packed, key, size, error);
  if (parked == NULL)
    return 0;

  gsize end = choose_end (packed, parked, size, have, want);
  gboolean ok = packed->codec->decoder_new != NULL && parked->chunk->n_pieces > 0
                    ? decode_in_steps (packed, parked, bytes, have, end, error)
                    : decode_at_once (packed, parked, bytes, have, end, error);
  ok = ok && check_pieces (parked->chunk, bytes, have, end, error);
  if (ok && end < size)
    *slot = parked;
  else
    parked_free (parked);
  return ok ? end : 0;
}

/* Where a reader goes forwards, has the chunks before it decoded. */
static void
read_ahead (Packed *packed, guint64 offset, gsize n, guint64 index, gsize chunk_size)
{
  guint depth = vma_chunks_depth (packed->chunks, chunk_size);
  guint64 first, generation = atomic_load (&packed->generation);

  if (depth == 0 || !vma_streams_note (packed->streams, offset, n, index, depth, &first))
    return;
  for (guint64 i = first; i <= index + depth; i++) {
    guint64 out, size;
    if (vma_sidecar_get (packed->sidecar, i, &out, &size) && size <= packed->limits.memory)
      vma_chunks_prefetch (packed->chunks, generation << INDEX_BITS | i, (gsize) size);
  }
}

/*
 * After a failed read: where a saved checkpoint is broken, throws it and the ones behind it away, so
 * that the pass makes them anew.  TRUE where that has been done since `generation`: try again.
 */
static gboolean
repair (Packed *packed, guint64 generation)
{
  pthread_mutex_lock (&packed->repair);
  gboolean again = atomic_load (&packed->generation) != generation;
  guint64 broken = atomic_load (&packed->broken);
  if (!again && broken > 0 && (broken - 1) >> INDEX_BITS == generation
      && vma_packed_pass_rewind (packed->pass, (broken - 1) & INDEX_MASK)) {
    atomic_fetch_add (&packed->generation, 1);
    again = TRUE;
  }
  pthread_mutex_unlock (&packed->repair);
  return again;
}

/* Reads from the chunk at `offset`: up to its end.  0 where the checkpoints changed meanwhile. */
static gssize
read_chunk (Packed *packed, guint8 *buffer, gsize size, guint64 offset, VmaReadHint hint,
            GCancellable *cancellable, GError **error)
{
  guint64 generation = atomic_load (&packed->generation);
  guint64 index, out, chunk_size;
  g_autoptr (GError) local_error = NULL;

  if (!vma_sidecar_find (packed->sidecar, offset, &index, &out, &chunk_size))
    return 0;
  if (chunk_size > packed->limits.memory) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "there is no place to begin decoding for %" G_GUINT64_FORMAT
                 " bytes from %" G_GUINT64_FORMAT " of the archive on, more than the memory limit",
                 chunk_size, out);
    return -1;
  }
  gsize from = (gsize) (offset - out);
  gsize n = MIN (size, (gsize) chunk_size - from);
  if (hint == VMA_READ_DATA)
    read_ahead (packed, offset, n, index, (gsize) chunk_size);
  if (vma_chunks_read (packed->chunks, generation << INDEX_BITS | index, (gsize) chunk_size, from,
                       buffer, n, cancellable, &local_error))
    return (gssize) n;

  if (repair (packed, generation))
    return 0;
  /*
   * The chunk was found, and then cut away or made anew before it was read.  The cache may have kept it
   * with the size it had; a new generation gives it another key there.
   */
  if (g_error_matches (local_error, VMA_ERROR, VMA_ERROR_INVALID)) {
    unsigned long long expected = generation;
    atomic_compare_exchange_strong (&packed->generation, &expected, generation + 1);
    return 0;
  }
  g_propagate_error (error, g_steal_pointer (&local_error));
  return -1;
}

static gssize
packed_pread (VmaSource *base, void *buffer, gsize size, guint64 offset, VmaReadHint hint,
              GCancellable *cancellable, GError **error)
{
  Packed *packed = (Packed *) base;
  guint8 *to = buffer;
  gsize done = 0;
  guint stalled = 0; /* rounds without progress */

  while (done < size) {
    gsize n = 0;
    gssize from_chunk;
    switch (vma_packed_pass_read (packed->pass, to + done, size - done, offset + done, &n,
                                  cancellable, error)) {
    case VMA_PASS_COPIED:
      done += n;
      break;
    case VMA_PASS_CHUNK:
      from_chunk = read_chunk (packed, to + done, size - done, offset + done, hint, cancellable,
                               error);
      if (from_chunk < 0)
        return -1;
      stalled = from_chunk > 0 ? 0 : stalled + 1;
      if (stalled > 1) /* another thread is making them anew */
        g_usleep (1000);
      if (stalled > MAX_STALLED) {
        g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                     "the checkpoints for %" G_GUINT64_FORMAT " of the archive keep changing",
                     offset + done);
        return -1;
      }
      done += (gsize) from_chunk;
      break;
    case VMA_PASS_END:
      return (gssize) done;
    case VMA_PASS_FAILED:
      return -1;
    }
  }
  return (gssize) done;
}

static guint64
packed_size (VmaSource *base)
{
  return vma_packed_pass_total (((Packed *) base)->pass);
}

static gboolean
packed_identity (VmaSource *base, VmaSourceIdentity *identity, GError **error)
{
  return vma_packed_file_identity (&((Packed *) base)->file, identity, error);
}

static void
packed_interrupt (VmaSource *base)
{
  Packed *packed = (Packed *) base;

  if (packed->file.below != NULL)
    vma_source_interrupt (packed->file.below);
}

static void
packed_free (VmaSource *base)
{
  Packed *packed = (Packed *) base;

  packed_interrupt (base);
  g_clear_pointer (&packed->pass, vma_packed_pass_free);
  g_clear_pointer (&packed->chunks, vma_chunks_free);
  g_clear_pointer (&packed->streams, vma_streams_free);
  g_clear_pointer (&packed->sidecar, vma_sidecar_free);
  pthread_mutex_destroy (&packed->repair);
  vma_packed_file_clear (&packed->file);
  g_free (packed);
}

static const VmaSourceOps packed_ops = {
  .pread = packed_pread,
  .size = packed_size,
  .identity = packed_identity,
  .interrupt = packed_interrupt,
  .free = packed_free,
};

static VmaSidecar *
open_sidecar (const Packed *packed, const VmaPackedOptions *options, GError **error)
{
  VmaSidecarKey key = { .kind = packed->codec->kind, .spacing = packed->limits.spacing };

  if (!vma_packed_file_identity (&packed->file, &key.identity, error))
    return NULL;
  /* A file that grows has no identity yet. */
  return vma_sidecar_open (options->follow ? NULL : options->sidecar_directory, &key, error);
}

static guint64
or_default (guint64 value, guint64 otherwise)
{
  return value != 0 ? value : otherwise;
}

VmaSource *
vma_packed_source_new (VmaPackedFile file, const VmaCodec *codec,
                       const VmaPackedOptions *options, GError **error)
{
  static const VmaPackedOptions defaults = { 0 };
  Packed *packed = g_new0 (Packed, 1);

  if (options == NULL)
    options = &defaults;
  packed->ops = packed_ops;
  packed->ops.kind = codec->kind;
  packed->ops.checks_data = TRUE;
  packed->base.ops = &packed->ops;
  atomic_init (&packed->base.refs, 1);
  pthread_mutex_init (&packed->repair, NULL);
  packed->file = file;
  packed->ops.remote = file.below != NULL && vma_source_is_remote (file.below);
  packed->codec = codec;
  packed->limits.memory = or_default (options->memory_limit, DEFAULT_MEMORY);
  packed->limits.spacing
      = or_default (options->spacing, or_default (codec->spacing, DEFAULT_SPACING));
  packed->input = (VmaCodecInput){ packed, decoder_input, G_MAXUINT64 };
  if (!options->follow)
    packed->input.size = vma_packed_file_size (&file);

  VmaChunksOps chunks_ops = { packed, packed_fill, parked_free, codec->decoder_new != NULL };
  packed->chunks = vma_chunks_new (&chunks_ops, or_default (options->cache_size, DEFAULT_CACHE),
                                   MIN (g_get_num_processors (), MAX_THREADS), MAX_PARKED);
  packed->streams = vma_streams_new ();
  packed->sidecar = open_sidecar (packed, options, error);
  if (packed->sidecar == NULL) {
    packed_free (&packed->base);
    return NULL;
  }
  packed->pass
      = vma_packed_pass_new (&packed->file, codec, &packed->limits, packed->sidecar, options->follow);
  return &packed->base;
}

gboolean
vma_packed_source_progress (VmaSource *source, guint64 *position, guint64 *size)
{
  const Packed *packed = (const Packed *) source;

  if (source->ops->pread != packed_pread)
    return FALSE;
  *size = vma_packed_file_size (&packed->file);
  *position = vma_packed_pass_total (packed->pass) != VMA_SIZE_UNKNOWN
                  ? *size
                  : vma_packed_pass_position (packed->pass);
  return TRUE;
}
