/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/nbd.h"

#include "source/identity.h"
#include "source/nbd-ahead.h"
#include "source/source-impl.h"
#include "vma/error.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

#define CONNECTIONS 4
/* Chains of headers that are followed at once (index/ahead.h): what so many connections can take.
 */
#define REQUESTS 64

/* Places between head and tail that are looked at to know an archive again. */
#define SAMPLES 16u
#define SAMPLE_SIZE 4096u

typedef struct {
  VmaSource base;
  VmaNbd *nbd;
  VmaNbdAhead *ahead;

  pthread_mutex_t lock; /* of what follows */
  gboolean identified;
  VmaSourceIdentity identity;
} NbdSource;

static gssize
nbd_pread (VmaSource *base, void *buffer, gsize size, guint64 offset, VmaReadHint hint,
           GCancellable *cancellable, GError **error)
{
  NbdSource *source = (NbdSource *) base;
  guint64 total = vma_nbd_size (source->nbd);

  if (offset >= total)
    return 0;
  size = (gsize) MIN (size, total - offset);
  return vma_nbd_ahead_read (source->ahead, buffer, size, offset, hint == VMA_READ_DATA,
                             cancellable, error)
             ? (gssize) size
             : -1;
}

static guint64
nbd_size (VmaSource *base)
{
  return vma_nbd_size (((NbdSource *) base)->nbd);
}

/* A hash of pieces from all over the export. */
static gboolean
hash_samples (NbdSource *source, gint64 *hash, GError **error)
{
  guint64 total = vma_nbd_size (source->nbd), step = total / (SAMPLES + 1) / 65536 * 65536;
  g_autofree guint8 *buffer = g_malloc0 (SAMPLES * SAMPLE_SIZE);
  VmaNbdPiece pieces[SAMPLES];

  *hash = 0;
  if (step == 0) /* head and tail are nearly all of it */
    return TRUE;
  for (guint i = 0; i < SAMPLES; i++)
    pieces[i] = (VmaNbdPiece){ buffer + i * SAMPLE_SIZE, SAMPLE_SIZE, (i + 1) * step };
  if (!vma_nbd_read_pieces (source->nbd, pieces, SAMPLES, NULL, error))
    return FALSE;
  *hash = (gint64) XXH3_64bits (buffer, SAMPLES * SAMPLE_SIZE);
  return TRUE;
}

static gboolean
hash_at (NbdSource *source, guint64 offset, guint8 digest[16], GError **error)
{
  gsize size = (gsize) MIN (VMA_IDENTITY_HASHED, vma_nbd_size (source->nbd));
  g_autofree guint8 *buffer = g_malloc (VMA_IDENTITY_HASHED);

  if (!vma_nbd_read (source->nbd, buffer, size, offset, NULL, error))
    return FALSE;
  XXH128_canonicalFromHash ((XXH128_canonical_t *) digest, XXH3_128bits (buffer, size));
  return TRUE;
}

/*
 * A server tells no time of change.  In its place stands a hash of samples: with the archive's
 * uuid, which is in every one of its headers, that tells apart all that are not made to be
 * mistaken.  The address is not part of it: it may change.
 */
static gboolean
nbd_identity (VmaSource *base, VmaSourceIdentity *identity, GError **error)
{
  NbdSource *source = (NbdSource *) base;
  VmaSourceIdentity *own = &source->identity;

  pthread_mutex_lock (&source->lock);
  if (!source->identified) {
    own->size = vma_nbd_size (source->nbd);
    source->identified
        = hash_at (source, 0, own->head, error)
          && hash_at (source, own->size > VMA_IDENTITY_HASHED ? own->size - VMA_IDENTITY_HASHED : 0,
                      own->tail, error)
          && hash_samples (source, &own->mtime_ns, error);
  }
  gboolean ok = source->identified;
  *identity = *own;
  pthread_mutex_unlock (&source->lock);
  return ok;
}

static void
nbd_interrupt (VmaSource *base)
{
  vma_nbd_interrupt (((NbdSource *) base)->nbd);
}

static void
nbd_free (VmaSource *base)
{
  NbdSource *source = (NbdSource *) base;

  vma_nbd_free (source->nbd);
  vma_nbd_ahead_free (source->ahead);
  pthread_mutex_destroy (&source->lock);
  g_free (source);
}

static const VmaSourceOps nbd_source_ops = {
  .kind = "nbd",
  .requests = REQUESTS,
  .remote = TRUE,
  .pread = nbd_pread,
  .size = nbd_size,
  .identity = nbd_identity,
  .interrupt = nbd_interrupt,
  .free = nbd_free,
};

VmaSource *
vma_nbd_source_new (const char *uri, GError **error)
{
  const VmaNbdOptions options = { .connections = CONNECTIONS, .reconnect = TRUE };
  VmaNbd *nbd = vma_nbd_connect (uri, &options, error);

  if (nbd == NULL)
    return NULL;
  NbdSource *source = g_new0 (NbdSource, 1);
  source->base.ops = &nbd_source_ops;
  atomic_init (&source->base.refs, 1);
  source->nbd = nbd;
  source->ahead = vma_nbd_ahead_new (nbd);
  pthread_mutex_init (&source->lock, NULL);
  return &source->base;
}
