/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/input-nbd.h"

#include "index/lock.h"
#include "source/nbd-client.h"
#include "vma/error.h"

#include <libnbd.h>
#include <string.h>

/* How much is asked about at once; servers may tell of less. */
#define STATUS_SIZE (1024u * 1024u * 1024u)

typedef struct {
  guint64 end;
  gboolean zero;
} Stretch;

typedef struct {
  ToolInput base;
  VmaNbd *nbd;
  gboolean has_status;

  pthread_mutex_t status_lock; /* of what follows: what the server last told */
  guint64 status_start;
  GArray *status; /* Stretch, ascending */
} NbdInput;

static gboolean
nbd_input_read (ToolInput *base, void *buffer, gsize size, guint64 offset, GError **error)
{
  if (vma_nbd_read (((NbdInput *) base)->nbd, buffer, size, offset, NULL, error))
    return TRUE;
  g_prefix_error (error, "%s: ", base->shown);
  return FALSE;
}

/* Takes a server's answer. */
static void
take_status (gpointer data, guint64 offset, const guint32 *pairs, gsize n)
{
  NbdInput *input = data;

  for (gsize i = 0; i < n; i++) {
    Stretch stretch = { offset + pairs[2 * i], (pairs[2 * i + 1] & LIBNBD_STATE_ZERO) != 0 };
    offset = stretch.end;
    if (pairs[2 * i] > 0)
      g_array_append_val (input->status, stretch);
  }
}

/* Asks about what begins at `offset`.  The caller holds the lock. */
static gboolean
ask (NbdInput *input, guint64 offset, GError **error)
{
  guint64 size = MIN (input->base.size - offset, STATUS_SIZE);

  input->status_start = offset;
  g_array_set_size (input->status, 0);
  if (vma_nbd_block_status (input->nbd, VMA_NBD_ALLOCATION, size, offset, take_status, input,
                            error)
      && input->status->len > 0)
    return TRUE;
  if (error != NULL && *error == NULL)
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                 "cannot find out what is allocated at offset %" G_GUINT64_FORMAT ": no answer",
                 offset);
  g_prefix_error (error, "%s: ", input->base.shown);
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
nbd_input_free (ToolInput *base)
{
  NbdInput *input = (NbdInput *) base;

  vma_nbd_free (input->nbd);
  g_array_unref (input->status);
  pthread_mutex_destroy (&input->status_lock);
  g_free (input);
}

static const ToolInputOps nbd_ops = { nbd_input_read, nbd_input_next_data, nbd_input_free };

/* Takes over `nbd`; NULL is an error of connecting. */
static ToolInput *
new_input (VmaNbd *nbd, const char *shown, const char *format, GError **error)
{
  if (nbd == NULL) {
    g_prefix_error (error, "%s: ", shown);
    return NULL;
  }
  NbdInput *input = g_new0 (NbdInput, 1);
  input->base.ops = &nbd_ops;
  input->base.shown = g_strdup (shown);
  input->base.format = format;
  input->base.size = vma_nbd_size (nbd);
  input->nbd = nbd;
  input->has_status = vma_nbd_has_context (nbd, VMA_NBD_ALLOCATION);
  pthread_mutex_init (&input->status_lock, NULL);
  input->status = g_array_new (FALSE, FALSE, sizeof (Stretch));
  return &input->base;
}

ToolInput *
tool_input_nbd_sockets (const int *sockets, guint n, const char *format, const char *shown,
                        GError **error)
{
  const VmaNbdOptions options = { .connections = n };

  return new_input (vma_nbd_adopt (sockets, n, &options, error), shown, format, error);
}

/* A connection that is lost is not made again: behind a new one there may be another point in time. */
ToolInput *
tool_input_nbd_uri (const char *uri, char *shown, guint connections, GError **error)
{
  const VmaNbdOptions options = { .connections = connections };
  ToolInput *input = new_input (vma_nbd_connect (uri, &options, error), shown, "nbd", error);

  g_free (shown);
  return input;
}
