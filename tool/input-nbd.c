/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/input-nbd.h"

#include "index/lock.h"
#include "vma/error.h"

#include <libnbd.h>
#include <string.h>
#include <unistd.h>

/* A read is cut into requests of this size, which are under way together. */
#define REQUEST_SIZE (256u * 1024u)
#define MAX_REQUESTS 16

/* How much is asked about at once; servers may tell of less. */
#define STATUS_SIZE (1024u * 1024u * 1024u)

#define ALLOCATION "base:allocation"

typedef struct {
  guint64 end;
  gboolean zero;
} Stretch;

typedef struct {
  ToolInput base;
  gboolean has_status;

  pthread_mutex_t lock; /* of the list of idle connections */
  pthread_cond_t changed;
  GPtrArray *idle; /* struct nbd_handle * */

  pthread_mutex_t status_lock; /* of what follows: what the server last told */
  guint64 status_start;
  GArray *status; /* Stretch, ascending */
} NbdInput;

static struct nbd_handle *
take (NbdInput *input)
{
  VMA_LOCK (&input->lock);
  while (input->idle->len == 0)
    pthread_cond_wait (&input->changed, &input->lock);
  return g_ptr_array_steal_index_fast (input->idle, input->idle->len - 1);
}

static void
give_back (NbdInput *input, struct nbd_handle *nbd)
{
  VMA_LOCK (&input->lock);
  g_ptr_array_add (input->idle, nbd);
  pthread_cond_signal (&input->changed);
}

/* libnbd's last error, without the name of the function that it puts in front. */
static const char *
reason (void)
{
  const char *text = nbd_get_error ();
  const char *colon = text != NULL ? strstr (text, ": ") : NULL;

  if (text == NULL)
    return "unknown error";
  return colon != NULL && g_str_has_prefix (text, "nbd_") ? colon + 2 : text;
}

static gboolean
read_failed (NbdInput *input, guint64 offset, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: cannot read at offset %" G_GUINT64_FORMAT ": %s",
               input->base.shown, offset, reason ());
  return FALSE;
}

/* Up to MAX_REQUESTS requests at once on one connection. */
static gboolean
read_batch (NbdInput *input, struct nbd_handle *nbd, guint8 *buffer, gsize size, guint64 offset,
            GError **error)
{
  gint64 cookies[MAX_REQUESTS];
  guint n = 0;

  for (gsize at = 0; at < size; at += REQUEST_SIZE, n++) {
    cookies[n] = nbd_aio_pread (nbd, buffer + at, MIN (REQUEST_SIZE, size - at), offset + at,
                                NBD_NULL_COMPLETION, 0);
    if (cookies[n] < 0)
      return read_failed (input, offset + at, error);
  }
  for (guint i = 0; i < n; i++) {
    int done;
    while ((done = nbd_aio_command_completed (nbd, (guint64) cookies[i])) == 0)
      if (nbd_poll (nbd, -1) < 0)
        return read_failed (input, offset + (guint64) i * REQUEST_SIZE, error);
    if (done < 0)
      return read_failed (input, offset + (guint64) i * REQUEST_SIZE, error);
  }
  return TRUE;
}

static gboolean
nbd_input_read (ToolInput *base, void *buffer, gsize size, guint64 offset, GError **error)
{
  NbdInput *input = (NbdInput *) base;
  struct nbd_handle *nbd = take (input);
  const gsize most = MAX_REQUESTS * REQUEST_SIZE;
  gboolean ok = TRUE;

  for (gsize at = 0; ok && at < size; at += most)
    ok = read_batch (input, nbd, (guint8 *) buffer + at, MIN (most, size - at), offset + at, error);
  /* Where it failed nobody will read on; but those who wait must not wait for ever. */
  give_back (input, nbd);
  return ok;
}

/* Takes a server's answer.  Called by libnbd, in the thread that asked. */
static int
take_status (void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n,
             int *err G_GNUC_UNUSED)
{
  NbdInput *input = data;

  if (strcmp (context, ALLOCATION) != 0)
    return 0;
  for (size_t i = 0; i + 1 < n; i += 2) {
    Stretch stretch = { offset + entries[i], (entries[i + 1] & LIBNBD_STATE_ZERO) != 0 };
    offset = stretch.end;
    if (entries[i] > 0)
      g_array_append_val (input->status, stretch);
  }
  return 0;
}

/* Asks about what begins at `offset`.  The caller holds the lock. */
static gboolean
ask (NbdInput *input, guint64 offset, GError **error)
{
  guint64 size = MIN (input->base.size - offset, STATUS_SIZE);
  struct nbd_handle *nbd = take (input);

  input->status_start = offset;
  g_array_set_size (input->status, 0);
  int failed = nbd_block_status (
      nbd, size, offset, (nbd_extent_callback){ .callback = take_status, .user_data = input }, 0);
  give_back (input, nbd);
  if (failed == 0 && input->status->len > 0)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
               "%s: cannot find out what is allocated at offset %" G_GUINT64_FORMAT ": %s",
               input->base.shown, offset, failed != 0 ? reason () : "no answer");
  return FALSE;
}

/* The stretch that holds `offset`, from what is known or by asking.  The caller holds the lock. */
static gboolean
stretch_at (NbdInput *input, guint64 offset, Stretch *stretch, GError **error)
{
  for (guint round = 0; round < 2; round++) {
    if (offset >= input->status_start)
      for (guint i = 0; i < input->status->len; i++) {
        *stretch = g_array_index (input->status, Stretch, i);
        if (offset < stretch->end)
          return TRUE;
      }
    if (round == 0 && !ask (input, offset, error))
      return FALSE;
  }
  return FALSE;
}

static gboolean
nbd_input_next_data (ToolInput *base, guint64 offset, guint64 *start, guint64 *end, GError **error)
{
  NbdInput *input = (NbdInput *) base;
  Stretch stretch = { .end = base->size };

  *start = offset;
  *end = base->size;
  if (!input->has_status || offset >= base->size)
    return TRUE;

  VMA_LOCK (&input->status_lock);
  for (*start = offset; *start < base->size; *start = stretch.end) {
    if (!stretch_at (input, *start, &stretch, error))
      return FALSE;
    if (!stretch.zero)
      break;
  }
  *start = MIN (*start, base->size);
  *end = MIN (MAX (stretch.end, *start), base->size);
  return TRUE;
}

static void
close_handle (gpointer data)
{
  struct nbd_handle *nbd = data;

  if (nbd_aio_is_ready (nbd) > 0)
    nbd_shutdown (nbd, 0);
  nbd_close (nbd);
}

static void
nbd_input_free (ToolInput *base)
{
  NbdInput *input = (NbdInput *) base;

  g_ptr_array_unref (input->idle);
  g_array_unref (input->status);
  pthread_cond_destroy (&input->changed);
  pthread_mutex_destroy (&input->status_lock);
  pthread_mutex_destroy (&input->lock);
  g_free (input);
}

static const ToolInputOps nbd_ops = { nbd_input_read, nbd_input_next_data, nbd_input_free };

static NbdInput *
new_input (const char *shown, const char *format)
{
  NbdInput *input = g_new0 (NbdInput, 1);

  input->base.ops = &nbd_ops;
  input->base.shown = g_strdup (shown);
  input->base.format = format;
  pthread_mutex_init (&input->lock, NULL);
  pthread_mutex_init (&input->status_lock, NULL);
  pthread_cond_init (&input->changed, NULL);
  input->idle = g_ptr_array_new_with_free_func (close_handle);
  input->status = g_array_new (FALSE, FALSE, sizeof (Stretch));
  return input;
}

/* Another connection, by `uri` or by `socket`.  NULL with libnbd's error. */
static struct nbd_handle *
connect_one (const char *uri, int socket)
{
  struct nbd_handle *nbd = nbd_create ();
  int failed;

  if (nbd == NULL) {
    if (socket >= 0)
      close (socket);
    return NULL;
  }
  failed = nbd_add_meta_context (nbd, ALLOCATION);
  if (failed == 0)
    failed = uri != NULL ? nbd_connect_uri (nbd, uri) : nbd_connect_socket (nbd, socket);
  if (failed == 0)
    return nbd;
  nbd_close (nbd);
  return NULL;
}

static gboolean
no_connection (NbdInput *input, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: cannot connect: %s", input->base.shown,
               reason ());
  tool_input_free (&input->base);
  return FALSE;
}

/* Asks the first connection about the disk. */
static ToolInput *
finish_input (NbdInput *input, GError **error)
{
  struct nbd_handle *nbd = g_ptr_array_index (input->idle, 0);
  gint64 size = nbd_get_size (nbd);

  if (size < 0) {
    no_connection (input, error);
    return NULL;
  }
  input->base.size = (guint64) size;
  input->has_status = nbd_can_meta_context (nbd, ALLOCATION) > 0;
  return &input->base;
}

ToolInput *
tool_input_nbd_sockets (const int *sockets, guint n, const char *format, const char *shown,
                        GError **error)
{
  NbdInput *input = new_input (shown, format);
  struct nbd_handle *nbd;

  for (guint i = 0; i < n; i++) {
    if ((nbd = connect_one (NULL, sockets[i])) == NULL) {
      while (++i < n)
        close (sockets[i]);
      no_connection (input, error);
      return NULL;
    }
    g_ptr_array_add (input->idle, nbd);
  }
  return finish_input (input, error);
}

ToolInput *
tool_input_nbd_uri (const char *uri, char *shown, guint connections, GError **error)
{
  NbdInput *input = new_input (shown, "nbd");
  struct nbd_handle *nbd = connect_one (uri, -1);

  g_free (shown);
  if (nbd == NULL) {
    no_connection (input, error);
    return NULL;
  }
  g_ptr_array_add (input->idle, nbd);
  /* More connections where the server says that they see the same; one is enough if it refuses them. */
  for (guint i = 1; i < connections && nbd_can_multi_conn (nbd) > 0; i++) {
    struct nbd_handle *another = connect_one (uri, -1);
    if (another == NULL)
      break;
    g_ptr_array_add (input->idle, another);
  }
  return finish_input (input, error);
}
