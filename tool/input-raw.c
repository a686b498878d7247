/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/input.h"

#include "base/io.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

typedef struct {
  ToolInput base;
  int fd;
  atomic_bool no_holes; /* cannot be asked for */
} RawInput;

static gboolean
raw_read (ToolInput *base, void *buffer, gsize size, guint64 offset, GError **error)
{
  RawInput *input = (RawInput *) base;
  int errnum;
  gsize done = vma_io_pread (input->fd, buffer, size, offset, &errnum);

  if (done == size)
    return TRUE;
  if (errnum != 0)
    vma_set_errno_error (error, errnum, "%s: cannot read at offset %" G_GUINT64_FORMAT, base->shown,
                         offset + done);
  else
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                 "%s: has shrunk: nothing left at offset %" G_GUINT64_FORMAT, base->shown,
                 offset + done);
  return FALSE;
}

static gboolean
raw_next_data (ToolInput *base, guint64 offset, guint64 *start, guint64 *end, GError **error)
{
  RawInput *input = (RawInput *) base;
  off_t data = -1, hole;

  *start = offset;
  *end = base->size;
  if (atomic_load (&input->no_holes))
    return TRUE;
  data = lseek (input->fd, (off_t) offset, SEEK_DATA);
  if (data < 0 && errno == ENXIO) {
    /* Nothing but a hole up to the end; or the end has come nearer, which must not pass for zeros. */
    off_t size = lseek (input->fd, 0, SEEK_END);
    if (size >= 0 && (guint64) size < base->size) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
                   "%s: has shrunk: nothing left at offset %" G_GUINT64_FORMAT, base->shown,
                   (guint64) size);
      return FALSE;
    }
    *start = base->size;
    return TRUE;
  }
  hole = data < 0 ? -1 : lseek (input->fd, data, SEEK_HOLE);
  if (data < 0 || hole < 0) {
    /* Block devices and some file systems do not know. */
    atomic_store (&input->no_holes, TRUE);
    return TRUE;
  }
  *start = MIN ((guint64) data, base->size);
  *end = MIN ((guint64) hole, base->size);
  return TRUE;
}

static void
raw_free (ToolInput *base)
{
  RawInput *input = (RawInput *) base;

  if (input->fd >= 0)
    close (input->fd);
  g_free (input);
}

static const ToolInputOps raw_ops = { raw_read, raw_next_data, raw_free };

ToolInput *
tool_input_raw (int fd, char *shown, GError **error)
{
  RawInput *input = g_new0 (RawInput, 1);
  off_t size = lseek (fd, 0, SEEK_END);

  input->base.ops = &raw_ops;
  input->base.shown = shown;
  input->base.format = "raw";
  input->fd = fd;
  if (size < 0) {
    vma_set_errno_error (error, errno, "%s: cannot find out its size", shown);
    tool_input_free (&input->base);
    return NULL;
  }
  input->base.size = (guint64) size;
  posix_fadvise (fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  return &input->base;
}
