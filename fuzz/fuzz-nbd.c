/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an NBD server answers: sizes, what is allocated, data, errors, and lies.
 *
 * Input: flags, the size, what contexts there are, and then, for each request, what is done with it.
 * libnbd parses; what is ours is what becomes of the answers.  Data are those of their place, or
 * zeros where the server said that there is a hole.
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "tool/input-nbd.h"
#include "vma/bytes.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLAG_STRUCTURED 1
#define FLAG_CONTEXT    2
#define FLAG_SMALL      4

typedef struct {
  int fd;
  Input input;
  guint flags;
  gboolean status; /* what is allocated was negotiated */
} Server;

static guint8
content (guint64 offset)
{
  return (guint8)(1 + offset % 251);
}

static gboolean
put (Server *s, const void *bytes, gsize size)
{
  return send (s->fd, bytes, size, MSG_NOSIGNAL) == (gssize)size;
}

static gboolean
take (Server *s, void *bytes, gsize size)
{
  return size == 0 || recv (s->fd, bytes, size, MSG_WAITALL) == (gssize)size;
}

static void
put_be16 (guint8 *p, guint value)
{
  p[0] = (guint8)(value >> 8);
  p[1] = (guint8)value;
}

/* --- agreeing ---------------------------------------------------------------------------------- */

static gboolean
reply (Server *s, guint32 option, guint32 type, const void *data, guint32 size)
{
  guint8 head[20];

  vma_put_be64 (head, G_GUINT64_CONSTANT (0x3e889045565a9));
  vma_put_be32 (head + 8, option);
  vma_put_be32 (head + 12, type);
  vma_put_be32 (head + 16, size);
  return put (s, head, sizeof head) && (size == 0 || put (s, data, size));
}

static gboolean
tell_export (Server *s, guint32 option)
{
  guint8 info[12];
  guint64 size = get16 (&s->input) * G_GUINT64_CONSTANT (512) + get (&s->input);

  if ((s->flags & FLAG_SMALL) == 0)
    size <<= get (&s->input) % 50;
  put_be16 (info, 0);
  vma_put_be64 (info + 2, size);
  put_be16 (info + 10, 1 | (get (&s->input) & 0xfe) | 0x100);
  return reply (s, option, 3, info, sizeof info) && reply (s, option, 1, NULL, 0);
}

static gboolean
tell_contexts (Server *s, guint32 option)
{
  static const char name[] = "\0\0\0\7base:allocation";

  if ((s->flags & FLAG_CONTEXT) != 0) {
    s->status = TRUE;
    if (!reply (s, option, 4, name, sizeof name - 1))
      return FALSE;
  }
  return reply (s, option, 1, NULL, 0);
}

static gboolean
agree (Server *s)
{
  guint8 head[18], flags[4], request[16], skipped[4096];

  vma_put_be64 (head, G_GUINT64_CONSTANT (0x4e42444d41474943));
  vma_put_be64 (head + 8, G_GUINT64_CONSTANT (0x49484156454f5054));
  put_be16 (head + 16, 3);
  if (!put (s, head, sizeof head) || !take (s, flags, sizeof flags))
    return FALSE;
  while (take (s, request, sizeof request)) {
    guint32 option = vma_get_be32 (request + 8), size = vma_get_be32 (request + 12);
    if (size > sizeof skipped || !take (s, skipped, size))
      return FALSE;
    if (option == 7) /* go */
      return tell_export (s, option);
    gboolean ok = option == 8 && (s->flags & FLAG_STRUCTURED) != 0 ? reply (s, option, 1, NULL, 0)
                  : option == 10 ? tell_contexts (s, option)
                                 : reply (s, option, 0x80000001, NULL, 0);
    if (!ok)
      return FALSE;
  }
  return FALSE;
}

/* --- answering --------------------------------------------------------------------------------- */

static gboolean
chunk (Server *s, guint flags, guint type, const guint8 *cookie, const void *a, guint32 a_size,
       const void *b, guint32 b_size)
{
  guint8 head[20];

  vma_put_be32 (head, 0x668e33ef);
  put_be16 (head + 4, flags);
  put_be16 (head + 6, type);
  memcpy (head + 8, cookie, 8);
  vma_put_be32 (head + 16, a_size + b_size);
  return put (s, head, sizeof head) && (a_size == 0 || put (s, a, a_size))
         && (b_size == 0 || put (s, b, b_size));
}

static gboolean
simple (Server *s, guint32 error, const guint8 *cookie)
{
  guint8 head[16];

  vma_put_be32 (head, 0x67446698);
  vma_put_be32 (head + 4, error);
  memcpy (head + 8, cookie, 8);
  return put (s, head, sizeof head);
}

static gboolean
answer_read (Server *s, const guint8 *cookie, guint64 offset, guint32 size)
{
  guint what = get (&s->input);
  g_autofree guint8 *data = g_malloc (size + 1);
  guint8 place[12];

  for (guint32 i = 0; i < size; i++)
    data[i] = content (offset + i);
  vma_put_be64 (place, offset + ((what & 7) == 4 ? get (&s->input) : 0));
  if ((what & 7) == 1)
    return simple (s, 1 + get (&s->input), cookie);
  if ((s->flags & FLAG_STRUCTURED) == 0)
    return simple (s, 0, cookie)
           && ((what & 7) == 2 ? put (s, data, size / 2) && FALSE : put (s, data, size));
  if ((what & 7) == 2) { /* a hole, and the rest */
    guint32 hole = get (&s->input) * 16u;
    hole = MIN (size, hole);
    vma_put_be32 (place + 8, hole);
    if (hole > 0 && !chunk (s, hole == size, 2, cookie, place, 12, NULL, 0))
      return FALSE;
    vma_put_be64 (place, offset + hole);
    return hole == size || chunk (s, 1, 1, cookie, place, 8, data + hole, size - hole);
  }
  if ((what & 7) == 3) { /* an error behind data */
    const guint8 error[6] = { 0, 0, 0, 5, 0, 0 };
    return chunk (s, 0, 1, cookie, place, 8, data, size)
           && chunk (s, 1, 0x8001, cookie, error, 6, NULL, 0);
  }
  return chunk (s, 1, 1, cookie, place, 8, data, size);
}

static gboolean
answer_status (Server *s, const guint8 *cookie, guint32 size)
{
  guint n = get (&s->input) % 8;
  guint8 pairs[8 * 8] = { 0 };
  guint8 context[4] = { 0, 0, 0, (guint8)((get (&s->input) & 0xf0) == 0xf0 ? 9 : 7) };

  for (guint i = 0; i < n; i++) {
    guint what = get (&s->input);
    guint32 length = get16 (&s->input) << (what >> 4);
    vma_put_be32 (pairs + 8 * i, (what & 4) != 0 ? size : (what & 8) != 0 ? ~length : length);
    vma_put_be32 (pairs + 8 * i + 4, what & 3);
  }
  return chunk (s, 1, 5, cookie, context, 4, pairs, 8 * n);
}

static void *
serve (void *data)
{
  Server *s = data;
  guint8 request[28];

  if (agree (s))
    while (s->input.left > 0 && take (s, request, sizeof request)) {
      guint type = request[6] * 256u + request[7];
      guint64 offset = vma_get_be64 (request + 16);
      guint32 size = vma_get_be32 (request + 24);
      if ((type == 0 && size <= (32u << 20) && answer_read (s, request + 8, offset, size))
          || (type == 7 && answer_status (s, request + 8, size)))
        continue;
      break;
    }
  shutdown (s->fd, SHUT_RDWR);
  return NULL;
}

/* --- asking ------------------------------------------------------------------------------------ */

static void
check_read (ToolInput *input, guint64 offset, gsize size)
{
  g_autoptr (GError) error = NULL;
  g_autofree guint8 *got = g_malloc (size);

  gboolean ok = tool_input_read (input, got, size, offset, &error);
  CHECK (ok == (error == NULL));
  for (gsize i = 0; ok && i < size; i++)
    CHECK (got[i] == 0 || got[i] == content (offset + i));
}

static void
look (ToolInput *input)
{
  guint64 at = 0, start, end;

  CHECK (input->size <= G_MAXINT64);
  for (guint i = 0; i < 12; i++) {
    g_autoptr (GError) error = NULL;
    if (!tool_input_next_data (input, at, &start, &end, &error)) {
      CHECK (error != NULL);
      break;
    }
    CHECK (start >= MIN (at, input->size) && start <= end && end <= input->size);
    if (start >= input->size)
      break;
    CHECK (end > start);
    check_read (input, start, (gsize)MIN (end - start, 5000 * (i + 1)));
    at = end;
  }
  if (input->size > 100)
    check_read (input, input->size - 100, 100);
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  int pair[2];
  pthread_t thread;

  CHECK (socketpair (AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  Server s = { .fd = pair[1], .input = { bytes, size } };
  s.flags = get (&s.input);
  CHECK (pthread_create (&thread, NULL, serve, &s) == 0);
  g_autoptr (GError) error = NULL;
  ToolInput *input = tool_input_nbd_sockets (pair, 1, "nbd", "disk", &error);
  CHECK ((input == NULL) == (error != NULL));
  if (input != NULL) {
    look (input);
    tool_input_free (input);
  }
  shutdown (s.fd, SHUT_RDWR);
  pthread_join (thread, NULL);
  close (pair[1]);
  return 0;
}
