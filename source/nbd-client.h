/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NBD server as a place to read from: several connections, each with many requests under way.
 *
 * Owns the connections and a thread for each, which alone touches its connection.  A read is cut
 * into requests that go out together, over all connections.  Where it was asked for, a connection
 * that is lost is made again, and what was under way on it is asked for once more; if the server
 * stays away for too long, reads fail (VMA_ERROR_CONNECTION) until it is back.  A server that does
 * not answer is taken for lost.
 *
 * Locking: any thread may call anything but free() at any time.  Callbacks are called by the pool's
 * threads with its lock held: they must be short, and may not call back.
 */
#pragma once

#include "source/nbd-uri.h"

#include <gio/gio.h>

typedef struct VmaNbd VmaNbd;

typedef struct {
  guint connections; /* at most, and one where the server does not let several see the same; 0: 1 */
  const char
      *context; /* a metadata context to be asked about besides base:allocation; may be NULL */
  gboolean
      reconnect; /* only for what never changes; the server must still show the same beginning */
} VmaNbdOptions;

#define VMA_NBD_ALLOCATION "base:allocation"

/* Errors have neither the URI nor an offset in them that is not known. */
VmaNbd *vma_nbd_connect (const char *uri, const VmaNbdOptions *options, GError **error);

/* Takes over connected sockets, whatever happens. */
VmaNbd *vma_nbd_adopt (const int *sockets, guint n, const VmaNbdOptions *options, GError **error);

/* Reads under way must have ended; fetches are cancelled. */
void vma_nbd_free (VmaNbd *nbd);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaNbd, vma_nbd_free)

guint64 vma_nbd_size (const VmaNbd *nbd);
gboolean vma_nbd_has_context (const VmaNbd *nbd, const char *context);

/*
 * Reads exactly buffer[0..size), which lies inside the export.  Errors: "cannot read at offset N:
 * ...", VMA_ERROR_IO (the server says so), _CONNECTION, _CANCELLED.  When it returns nothing will
 * be written into the buffer any more.
 */
gboolean vma_nbd_read (VmaNbd *nbd, void *buffer, gsize size, guint64 offset,
                       GCancellable *cancellable, GError **error);

/* Several short reads (up to 256 KiB each) at places that are multiples of 64 KiB, all at once. */
typedef struct {
  gpointer buffer;
  gsize size;
  guint64 offset;
} VmaNbdPiece;

gboolean vma_nbd_read_pieces (VmaNbd *nbd, const VmaNbdPiece *pieces, guint n,
                              GCancellable *cancellable, GError **error);

/*
 * The same as vma_nbd_read() without waiting.  `done` is called once, with an error or NULL;
 * perhaps before this returns.
 */
typedef void (*VmaNbdDone) (gpointer data, const GError *error);
void vma_nbd_fetch (VmaNbd *nbd, void *buffer, gsize size, guint64 offset, VmaNbdDone done,
                    gpointer data);

/* A server's answer: n pairs of length and flags, from `offset` on. */
typedef void (*VmaNbdExtents) (gpointer data, guint64 offset, const guint32 *pairs, gsize n);

/*
 * Asks what the context says of `size` (up to 4 GiB less one) bytes at `offset`.  The answer may be
 * about less.
 */
gboolean vma_nbd_block_status (VmaNbd *nbd, const char *context, guint64 size, guint64 offset,
                               VmaNbdExtents extents, gpointer data, GError **error);

/* Everything under way and to come fails at once with VMA_ERROR_CANCELLED. */
void vma_nbd_interrupt (VmaNbd *nbd);
