/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/nbd-link.h"

#include "vma/error.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* How long a good-bye may take. */
#define SHUTDOWN_MS 100
/* How often a connection in the making looks whether it is still wanted. */
#define STOP_POLL_MS 50

struct VmaNbdLink {
  struct nbd_handle *handle;
  GPtrArray *under_way, *finished; /* VmaNbdRequest * */
  gint64 heard;
};

/* libnbd's last error, without the names of the functions that it puts in front. */
static gboolean
set_error (GError **error)
{
  const char *text = nbd_get_error ();
  const char *colon;

  while (text != NULL && g_str_has_prefix (text, "nbd_") && (colon = strstr (text, ": ")) != NULL)
    text = colon + 2;
  g_set_error_literal (error, VMA_ERROR, VMA_ERROR_CONNECTION,
                       text != NULL ? text : "the connection was lost");
  return FALSE;
}

/*
 * What to do about a connection that could not be made.  Libnbd and GnuTLS say what they met, which
 * is seldom what is wrong.
 */
static const char *
advice_of (const char *text, const char *uri)
{
  gboolean tls = uri != NULL && g_str_has_prefix (uri, "nbds");

  if (strstr (text, "requires TLS") != NULL)
    return "the server wants encryption: nbds://";
  if (tls
      && (strstr (text, "server does not support TLS") != NULL
          || strstr (text, "refused TLS") != NULL))
    return "the server has no encryption: nbd://";
  if (strstr (text, "certificate verification") != NULL)
    return "the server's certificate must be for the name in the URI, and signed by ca-cert.pem in "
           "tls-certificates=";
  if (strstr (text, "getlogin") != NULL)
    return "name the user of the key: nbds://USER@HOST/";
  if (tls && strstr (text, "gnutls_") != NULL)
    return "the keys do not fit: see tls-certificates= and tls-psk-file=";
  return NULL;
}

static void
add_advice (GError **error, const char *uri)
{
  const char *advice = error != NULL && *error != NULL ? advice_of ((*error)->message, uri) : NULL;

  if (advice != NULL) {
    g_autofree char *text = g_strdup_printf ("%s (%s)", (*error)->message, advice);
    g_free (g_steal_pointer (&(*error)->message));
    (*error)->message = g_steal_pointer (&text);
  }
}

static gboolean
is_lost (VmaNbdLink *link)
{
  return nbd_aio_is_dead (link->handle) > 0 || nbd_aio_is_closed (link->handle) > 0;
}

gboolean
vma_nbd_link_wait (VmaNbdLink *link, int wake, int timeout_ms, GError **error)
{
  unsigned direction = nbd_aio_get_direction (link->handle);
  struct pollfd fds[2]
      = { { .fd = nbd_aio_get_fd (link->handle) }, { .fd = wake, .events = POLLIN } };
  int failed = 0;

  if (is_lost (link) || fds[0].fd < 0)
    return set_error (error);
  if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0)
    fds[0].events |= POLLIN;
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0)
    fds[0].events |= POLLOUT;
  if (poll (fds, 2, timeout_ms) < 0 && errno != EINTR) {
    vma_set_errno_error (error, errno, "poll");
    return FALSE;
  }
  if (fds[1].revents != 0) {
    guint64 count;
    if (read (wake, &count, sizeof count) < 0)
      fds[1].revents = 0; /* another time */
  }
  /* An error of the socket is found by using it. */
  short broken = fds[0].revents & (POLLHUP | POLLERR);
  if ((fds[0].events & POLLIN) != 0 && (fds[0].revents & POLLIN || broken != 0)) {
    link->heard = g_get_monotonic_time ();
    failed = nbd_aio_notify_read (link->handle);
  } else if ((fds[0].events & POLLOUT) != 0 && (fds[0].revents & POLLOUT || broken != 0))
    failed = nbd_aio_notify_write (link->handle);
  if (failed != 0 || is_lost (link))
    return set_error (error);
  return TRUE;
}

static gboolean
connect_handle (VmaNbdLink *link, const char *uri, int socket, const char *context, GError **error)
{
  struct nbd_handle *nbd = link->handle;

  if (nbd == NULL || nbd_add_meta_context (nbd, VMA_NBD_ALLOCATION) != 0
      || (context != NULL && nbd_add_meta_context (nbd, context) != 0)
      /* The files with keys that the URI names are the user's own wish. */
      || nbd_set_uri_allow_local_file (nbd, true) != 0) {
    if (socket >= 0)
      close (socket);
    return set_error (error);
  }
  if ((socket < 0 ? nbd_aio_connect_uri (nbd, uri) : nbd_aio_connect_socket (nbd, socket)) != 0)
    return set_error (error);
  return TRUE;
}

VmaNbdLink *
vma_nbd_link_open (const char *uri, int socket, const char *context, gint timeout_ms,
                   const atomic_bool *stop, GError **error)
{
  VmaNbdLink *link = g_new0 (VmaNbdLink, 1);
  gint64 until = g_get_monotonic_time () + timeout_ms * G_GINT64_CONSTANT (1000);

  link->handle = nbd_create ();
  link->under_way = g_ptr_array_new ();
  link->finished = g_ptr_array_new ();
  gboolean ok = connect_handle (link, uri, socket, context, error);
  while (ok && nbd_aio_is_ready (link->handle) <= 0) {
    if (atomic_load (stop)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      ok = FALSE;
    } else if (g_get_monotonic_time () > until) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CONNECTION, "the server does not answer");
      ok = FALSE;
    } else
      ok = vma_nbd_link_wait (link, -1, STOP_POLL_MS, error);
  }
  if (ok)
    return link;
  add_advice (error, uri);
  vma_nbd_link_close (link);
  return NULL;
}

void
vma_nbd_link_close (VmaNbdLink *link)
{
  if (link->handle != NULL && link->under_way->len == 0 && nbd_aio_is_ready (link->handle) > 0
      && nbd_aio_disconnect (link->handle, 0) == 0) {
    gint64 until = g_get_monotonic_time () + SHUTDOWN_MS * G_GINT64_CONSTANT (1000);
    while (g_get_monotonic_time () < until && vma_nbd_link_wait (link, -1, SHUTDOWN_MS, NULL))
      ;
  }
  nbd_close (link->handle);
  g_ptr_array_unref (link->under_way);
  g_ptr_array_unref (link->finished);
  g_free (link);
}

struct nbd_handle *
vma_nbd_link_handle (VmaNbdLink *link)
{
  return link->handle;
}

/* --- requests --------------------------------------------------------------------------------- */

/* Called by libnbd at the end of a request; 1: it may forget it. */
static int
on_completed (void *data, int *errnum)
{
  VmaNbdRequest *request = data;

  request->errnum = *errnum;
  g_ptr_array_add (request->finished, request);
  return 1;
}

static int
on_extents (void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n,
            int *errnum G_GNUC_UNUSED)
{
  VmaNbdRequest *request = data;

  if (strcmp (context, request->context) == 0)
    request->extents (request->extents_data, offset, entries, n / 2);
  return 0;
}

gboolean
vma_nbd_link_send (VmaNbdLink *link, VmaNbdRequest *request, GError **error)
{
  nbd_completion_callback completed = { .callback = on_completed, .user_data = request };
  nbd_extent_callback extents = { .callback = on_extents, .user_data = request };

  request->sent = g_get_monotonic_time ();
  if (link->under_way->len == 0)
    link->heard = request->sent;
  request->finished = link->finished;
  gint64 cookie = request->buffer != NULL
                      ? nbd_aio_pread (link->handle, request->buffer, (size_t)request->size,
                                       request->offset, completed, 0)
                      : nbd_aio_block_status (link->handle, request->size, request->offset, extents,
                                              completed, 0);
  g_ptr_array_add (link->under_way, request);
  return cookie >= 0 || set_error (error);
}

GPtrArray *
vma_nbd_link_finished (VmaNbdLink *link)
{
  return link->finished;
}

GPtrArray *
vma_nbd_link_under_way (VmaNbdLink *link)
{
  return link->under_way;
}

gint64
vma_nbd_link_heard (VmaNbdLink *link)
{
  return link->heard;
}
