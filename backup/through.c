/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/through.h"

#include "index/lock.h"
#include "vma/error.h"
#include "vma/format.h"
#include "vma/header.h"
#include "writer/bits.h"

#include <libnbd.h>

#define CONNECTIONS 4
/* How often those who wait for QEMU look whether they are still wanted. */
#define POLL_MS 100
/* Requests under way on one connection. */
#define BATCH 32

struct VmaThrough {
  char *uri;
  guint64 size;
  char *context; /* of the bitmap; NULL: none */
  atomic_bool ended;
  _Atomic guint64 bytes;

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  guint readers;
  guint n_connections;
  GPtrArray *idle; /* struct nbd_handle * */

  pthread_mutex_t bitmap_lock; /* of what follows; held while QEMU is asked */
  guint8 *dirty;               /* a bit a cluster; NULL: not asked yet */
};

VmaThrough *
vma_through_new (const char *uri, guint64 size, const char *bitmap)
{
  VmaThrough *through = g_new0 (VmaThrough, 1);

  through->uri = g_strdup (uri);
  through->size = size;
  if (bitmap != NULL)
    through->context = g_strconcat ("qemu:dirty-bitmap:", bitmap, NULL);
  pthread_mutex_init (&through->bitmap_lock, NULL);
  pthread_mutex_init (&through->lock, NULL);
  pthread_cond_init (&through->changed, NULL);
  through->idle = g_ptr_array_new ();
  return through;
}

static void
close_idle (VmaThrough *through)
{
  VMA_LOCK (&through->lock);
  while (through->idle->len > 0) {
    struct nbd_handle *nbd = g_ptr_array_steal_index_fast (through->idle, through->idle->len - 1);
    if (nbd_aio_is_ready (nbd) > 0)
      nbd_aio_disconnect (nbd, 0);
    nbd_close (nbd);
    through->n_connections--;
  }
}

void
vma_through_free (VmaThrough *through)
{
  vma_through_end (through);
  g_ptr_array_unref (through->idle);
  pthread_cond_destroy (&through->changed);
  pthread_mutex_destroy (&through->lock);
  pthread_mutex_destroy (&through->bitmap_lock);
  g_free (through->dirty);
  g_free (through->context);
  g_free (through->uri);
  g_free (through);
}

/* libnbd's error of this thread. */
static void
set_error (VmaThrough *through, GError **error)
{
  const char *text = nbd_get_error ();

  if (error != NULL && *error == NULL)
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "cannot read from QEMU (%s): %s", through->uri,
                 text != NULL ? text : "unknown error");
}

static gboolean
is_unwanted (VmaThrough *through, const atomic_bool *interrupted)
{
  return atomic_load (&through->ended) || (interrupted != NULL && atomic_load (interrupted));
}

/* A connection of the caller's own, or NULL. */
static struct nbd_handle *
take_connection (VmaThrough *through, GError **error)
{
  {
    VMA_LOCK (&through->lock);
    while (through->idle->len == 0 && through->n_connections >= CONNECTIONS
           && !atomic_load (&through->ended))
      pthread_cond_wait (&through->changed, &through->lock);
    if (through->idle->len > 0)
      return g_ptr_array_steal_index_fast (through->idle, through->idle->len - 1);
    through->n_connections++;
  }
  struct nbd_handle *nbd = nbd_create ();
  if (nbd != NULL
      && (through->context == NULL || nbd_add_meta_context (nbd, through->context) == 0)
      && nbd_connect_uri (nbd, through->uri) == 0)
    return nbd;
  set_error (through, error);
  if (nbd != NULL)
    nbd_close (nbd);
  VMA_LOCK (&through->lock);
  through->n_connections--;
  pthread_cond_signal (&through->changed);
  return NULL;
}

static void
give_back (VmaThrough *through, struct nbd_handle *nbd, gboolean sound)
{
  if (!sound)
    nbd_close (nbd); /* forgets what is under way: nothing writes to its buffers any more */
  VMA_LOCK (&through->lock);
  if (sound)
    g_ptr_array_add (through->idle, nbd);
  else
    through->n_connections--;
  pthread_cond_signal (&through->changed);
}

/*
 * Waits for a request: TRUE where its bytes came.  *sound becomes FALSE where the connection cannot
 * be used any more.
 */
static gboolean
wait_for (VmaThrough *through, struct nbd_handle *nbd, gint64 cookie,
          const atomic_bool *interrupted, gboolean *sound, GError **error)
{
  int done;

  while ((done = nbd_aio_command_completed (nbd, (guint64) cookie)) == 0) {
    if (is_unwanted (through, interrupted)) {
      if (error != NULL && *error == NULL)
        g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      *sound = FALSE;
      return FALSE;
    }
    if (nbd_poll (nbd, POLL_MS) < 0) {
      set_error (through, error);
      *sound = FALSE;
      return FALSE;
    }
  }
  if (done < 0)
    set_error (through, error);
  if (nbd_aio_is_ready (nbd) <= 0 && nbd_aio_is_processing (nbd) <= 0)
    *sound = FALSE;
  return done > 0;
}

/* Reads n <= BATCH clusters; FALSE where not all of them came. */
static gboolean
read_batch (VmaThrough *through, struct nbd_handle *nbd, const guint64 *clusters, guint n,
            guint8 *buffer, gboolean *got, const atomic_bool *interrupted, gboolean *sound,
            GError **error)
{
  gint64 cookies[BATCH];
  gboolean all = TRUE;

  for (guint i = 0; i < n; i++) {
    guint64 offset = clusters[i] * VMA_CLUSTER_SIZE;
    cookies[i] = nbd_aio_pread (nbd, buffer + (gsize) i * VMA_CLUSTER_SIZE,
                                MIN (VMA_CLUSTER_SIZE, through->size - offset), offset,
                                NBD_NULL_COMPLETION, 0);
    if (cookies[i] < 0) {
      set_error (through, error);
      *sound = FALSE;
      return FALSE;
    }
  }
  for (guint i = 0; i < n && *sound; i++) {
    got[i] = wait_for (through, nbd, cookies[i], interrupted, sound, error);
    if (got[i])
      atomic_fetch_add_explicit (&through->bytes, VMA_CLUSTER_SIZE, memory_order_relaxed);
    all = all && got[i];
  }
  return all && *sound;
}

static gboolean
read_all (VmaThrough *through, const guint64 *clusters, guint n, guint8 *buffer, gboolean *got,
          const atomic_bool *interrupted, GError **error)
{
  gboolean sound = TRUE, all = TRUE;
  struct nbd_handle *nbd = take_connection (through, error);

  if (nbd == NULL)
    return FALSE;
  for (guint at = 0; at < n && sound; at += BATCH)
    all = read_batch (through, nbd, clusters + at, MIN (BATCH, n - at),
                      buffer + (gsize) at * VMA_CLUSTER_SIZE, got + at, interrupted, &sound, error)
          && all;
  give_back (through, nbd, sound);
  return all && sound;
}

gboolean
vma_through_read (VmaThrough *through, const guint64 *clusters, guint n, guint8 *buffer,
                  gboolean *got, const atomic_bool *interrupted, GError **error)
{
  gboolean ok = FALSE;

  for (guint i = 0; i < n; i++)
    got[i] = FALSE;
  {
    VMA_LOCK (&through->lock);
    through->readers++;
  }
  if (!atomic_load (&through->ended))
    ok = read_all (through, clusters, n, buffer, got, interrupted, error);
  else
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "QEMU is not asked any more");
  VMA_LOCK (&through->lock);
  through->readers--;
  pthread_cond_broadcast (&through->changed);
  return ok;
}

/* --- the bitmap -------------------------------------------------------------------------------- */

/* So much is asked about at once; servers may tell of less. */
#define STATUS_SIZE  (1024u * 1024u * 1024u)
#define STATUS_DIRTY 1u

typedef struct {
  VmaThrough *through;
  guint8 *dirty;
  guint64 end; /* what comes before is known */
} Status;

/* Takes QEMU's answer.  Called by libnbd in the thread that asks. */
static int
take_status (void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n,
             int *err G_GNUC_UNUSED)
{
  Status *status = data;

  if (g_strcmp0 (context, status->through->context) != 0)
    return 0;
  for (size_t i = 0; i + 1 < n && offset < status->through->size; i += 2) {
    guint64 end = MIN (offset + entries[i], status->through->size);
    if ((entries[i + 1] & STATUS_DIRTY) != 0 && end > offset)
      vma_bits_set (status->dirty, offset / VMA_CLUSTER_SIZE,
                    vma_clusters_for_size (end) - offset / VMA_CLUSTER_SIZE);
    offset = end;
  }
  status->end = offset;
  return 0;
}

static gboolean
ask_status (VmaThrough *through, struct nbd_handle *nbd, Status *status,
            const atomic_bool *interrupted, gboolean *sound, GError **error)
{
  nbd_extent_callback callback = { .callback = take_status, .user_data = status };
  guint64 start = status->end;
  gint64 cookie = nbd_aio_block_status (nbd, MIN (STATUS_SIZE, through->size - start), start,
                                        callback, NBD_NULL_COMPLETION, 0);

  if (cookie < 0) {
    set_error (through, error);
    *sound = FALSE;
    return FALSE;
  }
  if (!wait_for (through, nbd, cookie, interrupted, sound, error))
    return FALSE;
  if (status->end > start)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "QEMU does not tell what changed (%s)",
               through->uri);
  return FALSE;
}

/* The caller holds the bitmap's lock, and counts as a reader. */
static gboolean
load_dirty (VmaThrough *through, const atomic_bool *interrupted, GError **error)
{
  g_autofree guint8 *dirty
      = g_try_malloc0 (vma_bits_bytes (vma_clusters_for_size (through->size)));
  Status status = { through, dirty, 0 };
  gboolean sound = TRUE, ok = TRUE;
  struct nbd_handle *nbd = dirty != NULL ? take_connection (through, error) : NULL;

  if (nbd == NULL)
    return FALSE;
  while (ok && status.end < through->size)
    ok = ask_status (through, nbd, &status, interrupted, &sound, error);
  give_back (through, nbd, sound);
  if (ok)
    through->dirty = g_steal_pointer (&dirty);
  return ok;
}

static gboolean
find_dirty (VmaThrough *through, const guint64 *clusters, guint n, gboolean *dirty,
            const atomic_bool *interrupted, GError **error)
{
  VMA_LOCK (&through->bitmap_lock);
  if (through->dirty == NULL && !load_dirty (through, interrupted, error))
    return FALSE;
  for (guint i = 0; i < n; i++)
    dirty[i] = vma_bits_get (through->dirty, clusters[i]);
  return TRUE;
}

gboolean
vma_through_find_dirty (VmaThrough *through, const guint64 *clusters, guint n, gboolean *dirty,
                        const atomic_bool *interrupted, GError **error)
{
  {
    VMA_LOCK (&through->lock);
    through->readers++;
  }
  gboolean ok = through->context != NULL
                && find_dirty (through, clusters, n, dirty, interrupted, error);
  VMA_LOCK (&through->lock);
  through->readers--;
  pthread_cond_broadcast (&through->changed);
  return ok;
}

void
vma_through_end (VmaThrough *through)
{
  {
    VMA_LOCK (&through->lock);
    atomic_store (&through->ended, TRUE);
    pthread_cond_broadcast (&through->changed);
    while (through->readers > 0)
      pthread_cond_wait (&through->changed, &through->lock);
  }
  close_idle (through);
}

gboolean
vma_through_has_ended (VmaThrough *through)
{
  return atomic_load (&through->ended);
}

guint64
vma_through_bytes (VmaThrough *through)
{
  return atomic_load_explicit (&through->bytes, memory_order_relaxed);
}
