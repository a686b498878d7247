/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/line-reader.h"

#include "vma/error.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 65536
#define MAX_FDS 8

struct VmaLineReader {
  int fd, stop;
  gsize max;
  GByteArray *bytes;
  gsize start, looked; /* of the line to come; so far no end of line was found */
  gboolean is_pipe;
  int passed;
};

VmaLineReader *
vma_line_reader_new (int fd, int stop, gsize max)
{
  VmaLineReader *reader = g_new0 (VmaLineReader, 1);

  reader->fd = fd;
  reader->stop = stop;
  reader->max = max;
  reader->bytes = g_byte_array_new ();
  reader->passed = -1;
  return reader;
}

void
vma_line_reader_free (VmaLineReader *reader)
{
  if (reader->passed >= 0)
    close (reader->passed);
  g_byte_array_unref (reader->bytes);
  g_free (reader);
}

/* Keeps the last descriptor of a message. */
static void
take_passed (VmaLineReader *reader, struct msghdr *message)
{
  for (struct cmsghdr *c = CMSG_FIRSTHDR (message); c != NULL; c = CMSG_NXTHDR (message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
      continue;
    for (gsize i = 0; i < (c->cmsg_len - CMSG_LEN (0)) / sizeof (int); i++) {
      if (reader->passed >= 0)
        close (reader->passed);
      memcpy (&reader->passed, CMSG_DATA (c) + i * sizeof (int), sizeof (int));
    }
  }
}

static gssize
receive (VmaLineReader *reader, void *buffer, gsize size)
{
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE (MAX_FDS * sizeof (int))];
  } control;
  struct iovec iov = { buffer, size };
  struct msghdr message = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control.space };

  if (reader->is_pipe)
    return read (reader->fd, buffer, size);
  gssize n = recvmsg (reader->fd, &message, MSG_CMSG_CLOEXEC);
  if (n >= 0)
    take_passed (reader, &message);
  else if (errno == ENOTSOCK) {
    reader->is_pipe = TRUE;
    return read (reader->fd, buffer, size);
  }
  return n;
}

/* More bytes.  FALSE at the end, with an error or without. */
static gboolean
fill (VmaLineReader *reader, GError **error)
{
  GByteArray *bytes = reader->bytes;

  if (reader->start > 0) {
    g_byte_array_remove_range (bytes, 0, (guint) reader->start);
    reader->looked -= reader->start;
    reader->start = 0;
  }
  for (;;) {
    struct pollfd wait[2] = { { reader->fd, POLLIN, 0 }, { reader->stop, 0, 0 } };
    if (poll (wait, 2, -1) < 0 && errno != EINTR)
      break;
    if (wait[1].revents != 0)
      return FALSE;
    if (wait[0].revents == 0)
      continue;
    guint old = bytes->len;
    g_byte_array_set_size (bytes, old + PIECE);
    gssize n = receive (reader, bytes->data + old, PIECE);
    g_byte_array_set_size (bytes, old + (guint) MAX (n, 0));
    if (n > 0)
      return TRUE;
    if (n == 0)
      return FALSE;
    if (errno != EINTR && errno != EAGAIN)
      break;
  }
  if (errno != ECONNRESET)
    vma_set_errno_error (error, errno, "cannot read");
  return FALSE;
}

const char *
vma_line_reader_next (VmaLineReader *reader, gsize *size, int *passed, GError **error)
{
  for (;;) {
    GByteArray *bytes = reader->bytes;
    guint8 *end = bytes->len > reader->looked
                      ? memchr (bytes->data + reader->looked, '\n', bytes->len - reader->looked)
                      : NULL;
    gsize length = (end != NULL ? (gsize) (end - bytes->data) : bytes->len) - reader->start;
    if (length > reader->max) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "a line of more than %zu bytes",
                   reader->max);
      return NULL;
    }
    if (end == NULL) {
      reader->looked = bytes->len;
      if (!fill (reader, error))
        return NULL;
      continue;
    }
    const char *line = (const char *) bytes->data + reader->start;
    reader->start = reader->looked = (gsize) (end - bytes->data) + 1;
    while (length > 0 && g_ascii_isspace (line[length - 1]))
      length--;
    if (length == 0)
      continue;
    *size = length;
    if (passed != NULL) {
      *passed = reader->passed;
      reader->passed = -1;
    }
    return line;
  }
}
