/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/nbd-client.h"

#include "base/thread.h"
#include "source/nbd-link.h"
#include "vma/error.h"

#include <errno.h>
#include <libnbd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

/* A read is cut into requests of this size. */
#define REQUEST_SIZE (256u * 1024u)
/* Under way on one connection; servers work at some 16 of them at once. */
#define MAX_UNDER_WAY 32u
#define MAX_CONNECTIONS 16u
/* Without an answer for so long a server is taken for lost; and so long it may be away. */
#define ANSWER_SECONDS 20
#define ANSWER_VARIABLE "VMAFS_NBD_TIMEOUT"

/*
 * How long requests that nobody wants any more may go on before their connection is cut.  It is
 * rude to do so earlier: nbdkit 1.32 falls over what it cannot send.
 */
#define DRAIN_MS 1000
#define POLL_MS 50
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 2000

/* What is compared after a reconnection. */
#define HEAD_SIZE 65536u

typedef struct {
  VmaNbd *nbd;
  guint number;
  int socket; /* handed over; -1 */
  int wake;   /* an eventfd */
  pthread_t thread;
  guint busy;           /* requests on it; the pool's lock */
  gboolean alive, gone; /* connected; will never be (again).  The pool's lock */
  gint64 next_try;
  gint backoff_ms;
} Connection;

struct VmaNbd {
  char *uri; /* NULL: sockets */
  char *context;
  gboolean reconnect;
  gint timeout_ms;
  guint64 size;
  guint32 alignment;
  gboolean has_allocation, has_context, multi;
  guint8 head[16]; /* hash */
  atomic_bool stop;

  pthread_mutex_t lock;   /* of what follows */
  pthread_cond_t changed; /* the first connection; or there is something to do */
  GQueue queue;           /* VmaNbdRequest * */
  Connection connections[MAX_CONNECTIONS];
  guint n_connections, n_alive, n_gone;
  atomic_bool ready;      /* the first connection is made; set with the lock */
  gboolean interrupted;
  gint64 interrupted_at;
  gint64 down_since; /* when somebody first missed a connection; 0 */
  GError *failure;   /* why there is none, and none will come */
};

/* --- requests; the caller holds the lock ------------------------------------------------------ */

static void
complete (VmaNbdRequest *request, const GError *error)
{
  gboolean owned = request->owned;

  request->done (request->data, error);
  if (owned)
    g_free (request);
}

static void
complete_with (VmaNbdRequest *request, VmaError code, const char *reason)
{
  g_autoptr (GError) error = NULL;

  if (code == VMA_ERROR_CANCELLED)
    g_set_error (&error, VMA_ERROR, code, "interrupted");
  else
    g_set_error (&error, VMA_ERROR, code, "cannot %s at offset %" G_GUINT64_FORMAT ": %s",
                 request->buffer != NULL ? "read" : "find out what is allocated", request->offset,
                 reason);
  complete (request, error);
}

static void
fail_queue (VmaNbd *nbd, VmaError code, const char *reason)
{
  VmaNbdRequest *request;

  while ((request = g_queue_pop_head (&nbd->queue)) != NULL)
    complete_with (request, request->abandoned ? VMA_ERROR_CANCELLED : code, reason);
}

static void
wake (Connection *connection)
{
  guint64 one = 1;

  if (write (connection->wake, &one, sizeof one) < 0)
    return; /* it is awake */
}

/* Has somebody look at the queue: those who are connected, and those who might be. */
static void
wake_for_queue (VmaNbd *nbd)
{
  Connection *idlest = NULL;

  if (nbd->queue.length == 0)
    return;
  if (nbd->n_alive + nbd->n_gone < nbd->n_connections)
    pthread_cond_broadcast (&nbd->changed);
  for (guint i = 0; i < nbd->n_connections; i++) {
    Connection *connection = &nbd->connections[i];
    if (connection->alive && nbd->queue.length > 1)
      wake (connection);
    else if (connection->alive && (idlest == NULL || connection->busy < idlest->busy))
      idlest = connection;
  }
  if (idlest != NULL)
    wake (idlest);
}

static void
submit (VmaNbd *nbd, VmaNbdRequest *request)
{
  request->submitted = g_get_monotonic_time ();
  if (nbd->interrupted)
    complete_with (request, VMA_ERROR_CANCELLED, NULL);
  else if (nbd->failure != NULL)
    complete_with (request, VMA_ERROR_CONNECTION, nbd->failure->message);
  else
    g_queue_push_tail (&nbd->queue, request);
}

/* Whether a request was lost more than once, over a time that is long enough. */
static gboolean
is_exhausted (const VmaNbd *nbd, VmaNbdRequest *request)
{
  return ++request->tries > 1
         && g_get_monotonic_time () - request->submitted
                > nbd->timeout_ms * G_GINT64_CONSTANT (1000);
}

/* A request whose connection was lost. */
static void
submit_again (VmaNbd *nbd, VmaNbdRequest *request, gboolean our_doing, const char *reason)
{
  request->where = NULL;
  request->errnum = 0;
  if (request->abandoned || nbd->interrupted)
    complete_with (request, VMA_ERROR_CANCELLED, NULL);
  else if (!nbd->reconnect || (!our_doing && is_exhausted (nbd, request)))
    complete_with (request, VMA_ERROR_CONNECTION, reason);
  else
    g_queue_push_head (&nbd->queue, request);
}

/* --- a connection's thread -------------------------------------------------------------------- */

/* The hash of the export's first bytes. */
static gboolean
hash_head (VmaNbd *nbd, VmaNbdLink *link, guint8 hash[16], GError **error)
{
  gsize size = (gsize) MIN (HEAD_SIZE, nbd->size);
  g_autofree guint8 *buffer = g_malloc0 (HEAD_SIZE);
  VmaNbdRequest request = { .buffer = buffer, .size = size };
  gint64 until = g_get_monotonic_time () + nbd->timeout_ms * G_GINT64_CONSTANT (1000);
  GPtrArray *finished = vma_nbd_link_finished (link);

  if (size > 0) {
    if (!vma_nbd_link_send (link, &request, error))
      return FALSE;
    while (finished->len == 0 && g_get_monotonic_time () < until && !atomic_load (&nbd->stop))
      if (!vma_nbd_link_wait (link, -1, POLL_MS, error))
        return FALSE;
    if (finished->len == 0 || request.errnum != 0) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CONNECTION, "its beginning cannot be read%s%s",
                   finished->len == 0 ? "" : ": ",
                   finished->len == 0 ? "" : g_strerror (request.errnum));
      return FALSE;
    }
    g_ptr_array_set_size (finished, 0);
    g_ptr_array_set_size (vma_nbd_link_under_way (link), 0);
  }
  XXH128_canonicalFromHash ((XXH128_canonical_t *) hash, XXH3_128bits (buffer, size));
  return TRUE;
}

/* Asks the first connection about the export; a later one must show the same. */
static gboolean
check_export (VmaNbd *nbd, VmaNbdLink *link, GError **error)
{
  struct nbd_handle *handle = vma_nbd_link_handle (link);
  gint64 size = nbd_get_size (handle), alignment;
  guint8 head[16];

  if (size < 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CONNECTION, "its size is not known");
    return FALSE;
  }
  if (!nbd->ready) {
    alignment = nbd_get_block_size (handle, LIBNBD_SIZE_MINIMUM);
    nbd->size = (guint64) size;
    nbd->alignment = (guint32) CLAMP (alignment, 1, 65536);
    nbd->has_allocation = nbd_can_meta_context (handle, VMA_NBD_ALLOCATION) > 0;
    nbd->has_context = nbd->context != NULL && nbd_can_meta_context (handle, nbd->context) > 0;
    nbd->multi = nbd_can_multi_conn (handle) > 0;
    return !nbd->reconnect || hash_head (nbd, link, nbd->head, error);
  }
  if ((guint64) size == nbd->size
      && (!nbd->reconnect
          || (hash_head (nbd, link, head, error) && memcmp (head, nbd->head, sizeof head) == 0)))
    return TRUE;
  if (error != NULL && *error == NULL)
    g_set_error (error, VMA_ERROR, VMA_ERROR_CONNECTION, "the server has something else there now");
  return FALSE;
}

static VmaNbdLink *
make_link (Connection *connection, GError **error)
{
  VmaNbd *nbd = connection->nbd;
  int socket = connection->socket;

  connection->socket = -1;
  VmaNbdLink *link
      = vma_nbd_link_open (nbd->uri, socket, nbd->context, nbd->timeout_ms, &nbd->stop, error);
  if (link == NULL || check_export (nbd, link, error))
    return link;
  vma_nbd_link_close (link);
  return NULL;
}

/* A connection could not be made.  FALSE: nor will it be.  The caller holds the lock. */
static gboolean
connect_failed (Connection *connection, const GError *error)
{
  VmaNbd *nbd = connection->nbd;
  gint64 now = g_get_monotonic_time ();

  connection->gone
      = !nbd->ready || !nbd->reconnect || (connection->number > 0 && connection->backoff_ms == 0);
  connection->backoff_ms = CLAMP (connection->backoff_ms * 2, BACKOFF_MIN_MS, BACKOFF_MAX_MS);
  connection->next_try = now + connection->backoff_ms * G_GINT64_CONSTANT (1000);
  nbd->n_gone += connection->gone;
  if (nbd->n_gone == nbd->n_connections && nbd->failure == NULL)
    nbd->failure = g_error_copy (error);
  if (nbd->failure != NULL
      || (nbd->n_alive == 0 && nbd->down_since != 0
          && now - nbd->down_since > nbd->timeout_ms * G_GINT64_CONSTANT (1000)))
    fail_queue (nbd, VMA_ERROR_CONNECTION, error->message);
  pthread_cond_broadcast (&nbd->changed);
  return !connection->gone;
}

/* Waits until somebody wants a connection.  FALSE: the end.  The caller holds the lock. */
static gboolean
wait_for_demand (Connection *connection)
{
  VmaNbd *nbd = connection->nbd;

  if (!nbd->ready || connection->backoff_ms == 0) /* the first time */
    return !atomic_load (&nbd->stop);
  while (!atomic_load (&nbd->stop)) {
    gint64 now = g_get_monotonic_time (), left = connection->next_try - now;
    if (nbd->queue.length == 0)
      pthread_cond_wait (&nbd->changed, &nbd->lock);
    else {
      if (nbd->n_alive == 0 && nbd->down_since == 0)
        nbd->down_since = now;
      if (left <= 0)
        return TRUE;
      gint64 until = g_get_real_time () + MIN (left, POLL_MS * 1000);
      struct timespec ts = { until / G_USEC_PER_SEC, until % G_USEC_PER_SEC * 1000 };
      pthread_cond_timedwait (&nbd->changed, &nbd->lock, &ts);
    }
  }
  return FALSE;
}

/* Requests for this connection: its share of all there are.  The caller holds the lock. */
static void
take_requests (Connection *connection, GPtrArray *taken)
{
  VmaNbd *nbd = connection->nbd;
  guint total = nbd->queue.length;

  for (guint i = 0; i < nbd->n_connections; i++)
    total += nbd->connections[i].busy;
  guint share = MIN (MAX_UNDER_WAY, (total + nbd->n_alive - 1) / MAX (nbd->n_alive, 1));
  while (connection->busy < share && nbd->queue.length > 0) {
    VmaNbdRequest *request = g_queue_pop_head (&nbd->queue);
    request->where = connection;
    connection->busy++;
    g_ptr_array_add (taken, request);
  }
}

/* Tells those whose answer has come.  FALSE where one says that the connection is lost. */
static gboolean
finish_requests (Connection *connection, VmaNbdLink *link)
{
  GPtrArray *finished = vma_nbd_link_finished (link);
  gboolean ok = TRUE;

  if (finished->len == 0)
    return TRUE;
  pthread_mutex_lock (&connection->nbd->lock);
  for (guint i = 0; i < finished->len; i++) {
    VmaNbdRequest *request = g_ptr_array_index (finished, i);
    if (request->errnum == ENOTCONN || request->errnum == ESHUTDOWN) {
      ok = FALSE; /* stays under way */
      continue;
    }
    g_ptr_array_remove_fast (vma_nbd_link_under_way (link), request);
    connection->busy--;
    if (request->errnum != 0)
      complete_with (request, VMA_ERROR_IO, g_strerror (request->errnum));
    else
      complete (request, NULL);
  }
  g_ptr_array_set_size (finished, 0);
  if (connection->nbd->queue.length > 0)
    wake (connection);
  pthread_mutex_unlock (&connection->nbd->lock);
  return ok;
}

/* Whether to go on with the connection; *our_doing where not because of the server. */
static gboolean
is_worth_it (Connection *connection, VmaNbdLink *link, gboolean *our_doing, GError **error)
{
  VmaNbd *nbd = connection->nbd;
  GPtrArray *under_way = vma_nbd_link_under_way (link);
  gint64 now = g_get_monotonic_time (), timeout = nbd->timeout_ms * G_GINT64_CONSTANT (1000);

  pthread_mutex_lock (&nbd->lock);
  *our_doing = nbd->interrupted
               && (now - nbd->interrupted_at > DRAIN_MS * 1000
                   || (under_way->len == 0 && atomic_load (&nbd->stop)));
  for (guint i = 0; i < under_way->len; i++) {
    const VmaNbdRequest *request = g_ptr_array_index (under_way, i);
    *our_doing |= request->abandoned && now - request->sent > DRAIN_MS * 1000;
  }
  pthread_mutex_unlock (&nbd->lock);
  if (*our_doing) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
    return FALSE;
  }
  if (under_way->len == 0 || now - vma_nbd_link_heard (link) < timeout)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_CONNECTION, "no answer within %d seconds",
               nbd->timeout_ms / 1000);
  return FALSE;
}

/* Until the connection is lost, or all ends. */
static void
serve (Connection *connection, VmaNbdLink *link, gboolean *our_doing, GError **error)
{
  g_autoptr (GPtrArray) taken = g_ptr_array_new ();
  gboolean ok = TRUE;

  while (ok && is_worth_it (connection, link, our_doing, error)) {
    pthread_mutex_lock (&connection->nbd->lock);
    take_requests (connection, taken);
    pthread_mutex_unlock (&connection->nbd->lock);
    for (guint i = 0; i < taken->len; i++) {
      VmaNbdRequest *request = g_ptr_array_index (taken, i);
      if (ok)
        ok = vma_nbd_link_send (link, request, error);
      else
        g_ptr_array_add (vma_nbd_link_under_way (link), request);
    }
    g_ptr_array_set_size (taken, 0);
    gboolean idle = vma_nbd_link_under_way (link)->len == 0;
    ok = ok && vma_nbd_link_wait (link, connection->wake, idle ? -1 : POLL_MS * 4, error);
    ok = finish_requests (connection, link) && ok;
  }
  if (error != NULL && *error == NULL)
    g_set_error (error, VMA_ERROR, VMA_ERROR_CONNECTION, "the connection was lost");
}

/* What was under way goes elsewhere, or fails. */
static void
lost (Connection *connection, VmaNbdLink *link, gboolean our_doing, const GError *error)
{
  VmaNbd *nbd = connection->nbd;
  g_autoptr (GPtrArray) left = g_ptr_array_ref (vma_nbd_link_under_way (link));

  vma_nbd_link_close (link); /* lets go of the buffers */
  pthread_mutex_lock (&nbd->lock);
  connection->alive = FALSE;
  nbd->n_alive--;
  connection->busy = 0;
  connection->gone = !nbd->reconnect;
  connection->backoff_ms = BACKOFF_MIN_MS;
  connection->next_try = g_get_monotonic_time () + BACKOFF_MIN_MS * 1000;
  nbd->n_gone += connection->gone;
  if (nbd->n_gone == nbd->n_connections && nbd->failure == NULL)
    nbd->failure = g_error_copy (error);
  for (guint i = 0; i < left->len; i++)
    submit_again (nbd, g_ptr_array_index (left, i), our_doing, error->message);
  if (nbd->failure != NULL)
    fail_queue (nbd, VMA_ERROR_CONNECTION, nbd->failure->message);
  wake_for_queue (nbd);
  pthread_mutex_unlock (&nbd->lock);
}

static void *
connection_thread (void *data)
{
  Connection *connection = data;
  VmaNbd *nbd = connection->nbd;

  pthread_mutex_lock (&nbd->lock);
  while (!connection->gone && wait_for_demand (connection)) {
    g_autoptr (GError) error = NULL;
    gboolean our_doing = FALSE;

    pthread_mutex_unlock (&nbd->lock);
    VmaNbdLink *link = make_link (connection, &error);
    pthread_mutex_lock (&nbd->lock);
    if (link == NULL) {
      connect_failed (connection, error);
      continue;
    }
    connection->alive = TRUE;
    atomic_store (&nbd->ready, TRUE);
    nbd->n_alive++;
    nbd->down_since = 0;
    pthread_cond_broadcast (&nbd->changed);
    pthread_mutex_unlock (&nbd->lock);
    serve (connection, link, &our_doing, &error);
    lost (connection, link, our_doing, error);
    pthread_mutex_lock (&nbd->lock);
  }
  pthread_mutex_unlock (&nbd->lock);
  return NULL;
}

/* --- the pool --------------------------------------------------------------------------------- */

/* Takes over the socket.  The caller holds the lock. */
static gboolean
start (VmaNbd *nbd, int socket, GError **error)
{
  Connection *connection = &nbd->connections[nbd->n_connections];

  *connection = (Connection){
    .nbd = nbd,
    .number = nbd->n_connections,
    .socket = socket,
    .wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK),
  };
  int failed = connection->wake < 0 ? errno : 0;
  if (failed == 0) {
    nbd->n_connections++; /* before the thread counts itself among those that are no more */
    failed = vma_thread_start (&connection->thread, connection_thread, connection);
  }
  if (failed == 0)
    return TRUE;
  if (connection->wake >= 0)
    nbd->n_connections--;
  vma_set_errno_error (error, failed, "cannot start a thread");
  if (connection->wake >= 0)
    close (connection->wake);
  if (socket >= 0)
    close (socket);
  return FALSE;
}

static VmaNbd *
nbd_new (const VmaNbdOptions *options)
{
  const char *seconds = g_getenv (ANSWER_VARIABLE);
  gint64 timeout = seconds != NULL ? g_ascii_strtoll (seconds, NULL, 10) : 0;
  VmaNbd *nbd = g_new0 (VmaNbd, 1);

  nbd->context = g_strdup (options->context);
  nbd->reconnect = options->reconnect;
  nbd->timeout_ms = (gint) (timeout >= 1 && timeout <= 3600 ? timeout : ANSWER_SECONDS) * 1000;
  pthread_mutex_init (&nbd->lock, NULL);
  pthread_cond_init (&nbd->changed, NULL);
  g_queue_init (&nbd->queue);
  return nbd;
}

/* Waits for the first connection to be made. */
static gboolean
wait_ready (VmaNbd *nbd, GError **error)
{
  pthread_mutex_lock (&nbd->lock);
  while (!nbd->ready && nbd->failure == NULL)
    pthread_cond_wait (&nbd->changed, &nbd->lock);
  if (!nbd->ready)
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "cannot connect: %s", nbd->failure->message);
  gboolean ok = nbd->ready;
  pthread_mutex_unlock (&nbd->lock);
  return ok;
}

VmaNbd *
vma_nbd_connect (const char *uri, const VmaNbdOptions *options, GError **error)
{
  g_autoptr (VmaNbd) nbd = nbd_new (options);

  nbd->uri = vma_nbd_absolute (uri);
  pthread_mutex_lock (&nbd->lock);
  gboolean started = start (nbd, -1, error);
  pthread_mutex_unlock (&nbd->lock);
  if (!started || !wait_ready (nbd, error))
    return NULL;
  pthread_mutex_lock (&nbd->lock); /* the threads look at how many there are */
  for (guint i = 1; i < MIN (options->connections, MAX_CONNECTIONS) && nbd->multi; i++)
    if (!start (nbd, -1, NULL))
      break;
  pthread_mutex_unlock (&nbd->lock);
  return g_steal_pointer (&nbd);
}

VmaNbd *
vma_nbd_adopt (const int *sockets, guint n, const VmaNbdOptions *options, GError **error)
{
  g_autoptr (VmaNbd) nbd = nbd_new (options);
  guint i = 0;

  pthread_mutex_lock (&nbd->lock);
  gboolean started = start (nbd, sockets[i++], error);
  pthread_mutex_unlock (&nbd->lock);
  if (started && wait_ready (nbd, error)) {
    pthread_mutex_lock (&nbd->lock);
    while (i < MIN (n, MAX_CONNECTIONS) && start (nbd, sockets[i], NULL))
      i++;
    pthread_mutex_unlock (&nbd->lock);
    while (i < n)
      close (sockets[i++]);
    return g_steal_pointer (&nbd);
  }
  while (i < n)
    close (sockets[i++]);
  return NULL;
}

void
vma_nbd_interrupt (VmaNbd *nbd)
{
  pthread_mutex_lock (&nbd->lock);
  if (!nbd->interrupted)
    nbd->interrupted_at = g_get_monotonic_time ();
  nbd->interrupted = TRUE;
  fail_queue (nbd, VMA_ERROR_CANCELLED, NULL);
  for (guint i = 0; i < nbd->n_connections; i++)
    wake (&nbd->connections[i]);
  pthread_mutex_unlock (&nbd->lock);
}

void
vma_nbd_free (VmaNbd *nbd)
{
  vma_nbd_interrupt (nbd);
  pthread_mutex_lock (&nbd->lock);
  atomic_store (&nbd->stop, TRUE);
  pthread_cond_broadcast (&nbd->changed);
  guint n = nbd->n_connections;
  pthread_mutex_unlock (&nbd->lock);
  for (guint i = 0; i < n; i++) {
    wake (&nbd->connections[i]);
    pthread_join (nbd->connections[i].thread, NULL);
    close (nbd->connections[i].wake);
  }
  g_clear_error (&nbd->failure);
  pthread_cond_destroy (&nbd->changed);
  pthread_mutex_destroy (&nbd->lock);
  g_free (nbd->uri);
  g_free (nbd->context);
  g_free (nbd);
}

guint64
vma_nbd_size (const VmaNbd *nbd)
{
  return nbd->size;
}

gboolean
vma_nbd_has_context (const VmaNbd *nbd, const char *context)
{
  return strcmp (context, VMA_NBD_ALLOCATION) == 0
             ? nbd->has_allocation
             : nbd->has_context && strcmp (context, nbd->context) == 0;
}

/* --- requests that are waited for ------------------------------------------------------------- */

typedef struct {
  pthread_cond_t done;
  guint pending; /* the pool's lock */
  GError *failure;
} Batch;

static void
on_done (gpointer data, const GError *error)
{
  Batch *batch = data;

  if (error != NULL && batch->failure == NULL)
    batch->failure = g_error_copy (error);
  if (--batch->pending == 0)
    pthread_cond_signal (&batch->done);
}

/* Nobody wants these any more.  The caller holds the lock. */
static void
abandon (VmaNbd *nbd, VmaNbdRequest *requests, guint n)
{
  for (guint i = 0; i < n; i++)
    requests[i].abandoned = TRUE;
  for (GList *at = nbd->queue.head, *next; at != NULL; at = next) {
    VmaNbdRequest *request = at->data;
    next = at->next;
    if (request >= requests && request < requests + n) {
      g_queue_delete_link (&nbd->queue, at);
      complete_with (request, VMA_ERROR_CANCELLED, NULL);
    }
  }
}

static gboolean
run_batch (VmaNbd *nbd, VmaNbdRequest *requests, guint n, GCancellable *cancellable, GError **error)
{
  Batch batch = { .done = PTHREAD_COND_INITIALIZER, .pending = n };
  gboolean cancelled = FALSE;

  pthread_mutex_lock (&nbd->lock);
  for (guint i = 0; i < n; i++) {
    requests[i].done = on_done;
    requests[i].data = &batch;
    submit (nbd, &requests[i]);
  }
  wake_for_queue (nbd);
  while (batch.pending > 0) {
    if (cancellable == NULL || cancelled) {
      pthread_cond_wait (&batch.done, &nbd->lock);
      continue;
    }
    if (g_cancellable_is_cancelled (cancellable)) {
      cancelled = TRUE;
      abandon (nbd, requests, n);
      continue;
    }
    gint64 until = g_get_real_time () + POLL_MS * 1000;
    struct timespec ts = { until / G_USEC_PER_SEC, until % G_USEC_PER_SEC * 1000 };
    pthread_cond_timedwait (&batch.done, &nbd->lock, &ts);
  }
  pthread_mutex_unlock (&nbd->lock);
  pthread_cond_destroy (&batch.done);
  /* Nothing is pending: no request points to the batch any more. */
  if (batch.failure == NULL)
    return TRUE; /* NOLINT(clang-analyzer-core.StackAddressEscape) */
  g_propagate_error (error, batch.failure);
  return FALSE; /* NOLINT(clang-analyzer-core.StackAddressEscape) */
}

/* What the server can only give in larger units. */
static gboolean
read_aligned (VmaNbd *nbd, void *buffer, gsize size, guint64 offset, GCancellable *cancellable,
              GError **error)
{
  guint64 start = offset - offset % nbd->alignment;
  guint64 end
      = MIN ((offset + size + nbd->alignment - 1) / nbd->alignment * nbd->alignment, nbd->size);
  g_autofree guint8 *around = g_malloc ((gsize) (end - start));

  if (!vma_nbd_read (nbd, around, (gsize) (end - start), start, cancellable, error))
    return FALSE;
  memcpy (buffer, around + (offset - start), size);
  return TRUE;
}

gboolean
vma_nbd_read_pieces (VmaNbd *nbd, const VmaNbdPiece *pieces, guint n, GCancellable *cancellable,
                     GError **error)
{
  g_autofree VmaNbdRequest *requests = g_new0 (VmaNbdRequest, n);

  for (guint i = 0; i < n; i++) {
    requests[i].buffer = pieces[i].buffer;
    requests[i].size = pieces[i].size;
    requests[i].offset = pieces[i].offset;
  }
  return run_batch (nbd, requests, n, cancellable, error);
}

gboolean
vma_nbd_read (VmaNbd *nbd, void *buffer, gsize size, guint64 offset, GCancellable *cancellable,
              GError **error)
{
  guint n = 0;

  if (offset % nbd->alignment != 0 || (size % nbd->alignment != 0 && offset + size != nbd->size))
    return read_aligned (nbd, buffer, size, offset, cancellable, error);
  g_autofree VmaNbdPiece *pieces = g_new (VmaNbdPiece, size / REQUEST_SIZE + 1);
  for (gsize at = 0; at < size; at += REQUEST_SIZE)
    pieces[n++]
        = (VmaNbdPiece){ (guint8 *) buffer + at, MIN (REQUEST_SIZE, size - at), offset + at };
  return vma_nbd_read_pieces (nbd, pieces, n, cancellable, error);
}

void
vma_nbd_fetch (VmaNbd *nbd, void *buffer, gsize size, guint64 offset, VmaNbdDone done,
               gpointer data)
{
  VmaNbdRequest *request = g_new0 (VmaNbdRequest, 1);

  *request = (VmaNbdRequest){
    .buffer = buffer, .size = size, .offset = offset, .done = done, .data = data, .owned = TRUE
  };
  pthread_mutex_lock (&nbd->lock);
  submit (nbd, request);
  wake_for_queue (nbd);
  pthread_mutex_unlock (&nbd->lock);
}

gboolean
vma_nbd_block_status (VmaNbd *nbd, const char *context, guint64 size, guint64 offset,
                      VmaNbdExtents extents, gpointer data, GError **error)
{
  VmaNbdRequest request = {
    .context = context, .size = size, .offset = offset, .extents = extents, .extents_data = data
  };

  return run_batch (nbd, &request, 1, NULL, error);
}
