/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection to an NBD server, driven by one thread that never blocks in it for longer than it
 * says.
 *
 * Owns the handle, and borrows the requests that are under way.  For source/nbd-client.c only.
 */
#pragma once

#include "source/nbd-client.h"

#include <stdatomic.h>

typedef struct VmaNbdLink VmaNbdLink;

/* A request on its way.  Those who wait for it are told by `done`. */
typedef struct {
  gpointer buffer; /* of a read; NULL: asks about `context` */
  guint64 size, offset;
  const char *context;
  VmaNbdExtents extents;
  gpointer extents_data;

  VmaNbdDone done;
  gpointer data;
  gboolean owned;   /* freed when it is done */
  gint64 submitted; /* the pool's: when; and how often it was lost */
  guint tries;
  gboolean abandoned; /* nobody waits for its data any more, but its buffer must be let go */
  gpointer where;     /* the pool's: on which connection it is; NULL: on none */

  gint64 sent; /* the link's: when; and how it ended */
  int errnum;
  GPtrArray *finished;
} VmaNbdRequest;

/*
 * Connects, within `timeout_ms`; *stop (read without a lock) ends it early.  `socket` < 0: to
 * `uri`; else that is taken over.
 */
VmaNbdLink *vma_nbd_link_open (const char *uri, int socket, const char *context, gint timeout_ms,
                               const atomic_bool *stop, GError **error);

/* Says good-bye if nothing is under way.  Libnbd lets go of all buffers. */
void vma_nbd_link_close (VmaNbdLink *link);

struct nbd_handle *vma_nbd_link_handle (VmaNbdLink *link);

/* FALSE: the connection is lost. */
gboolean vma_nbd_link_send (VmaNbdLink *link, VmaNbdRequest *request, GError **error);

/*
 * Waits for something to happen on the connection, or for `wake` (-1: nothing) to become readable.
 * FALSE: the connection is lost.
 */
gboolean vma_nbd_link_wait (VmaNbdLink *link, int wake, int timeout_ms, GError **error);

/* Requests (VmaNbdRequest *) that are answered, to be taken out; and those that are not. */
GPtrArray *vma_nbd_link_finished (VmaNbdLink *link);
GPtrArray *vma_nbd_link_under_way (VmaNbdLink *link);

/* When the server last sent anything, or was first asked something. */
gint64 vma_nbd_link_heard (VmaNbdLink *link);
