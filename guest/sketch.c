/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/sketch.h"

#include "base/io.h"
#include "vma/error.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE 65536u

struct VmaSketch {
  VmaImage *image;
  guint64 offset, length;
  int fd;
  char *problem;
};

VmaSketch *
vma_sketch_new (VmaImage *image, guint64 offset, guint64 length, GError **error)
{
  int fd = memfd_create ("vma-sketch", MFD_CLOEXEC);

  if (fd < 0 || ftruncate (fd, (off_t) length) != 0) {
    vma_set_errno_error (error, errno, "cannot make an anonymous file");
    vma_archive_prefix_error (vma_image_archive (image), error);
    if (fd >= 0)
      close (fd);
    return NULL;
  }
  VmaSketch *sketch = g_new0 (VmaSketch, 1);
  *sketch = (VmaSketch){ .image = image, .offset = offset, .length = length, .fd = fd };
  return sketch;
}

void
vma_sketch_free (VmaSketch *sketch)
{
  close (sketch->fd);
  g_free (sketch->problem);
  g_free (sketch);
}

static gboolean
is_zero (const guint8 *bytes, gsize n)
{
  return n == 0 || (bytes[0] == 0 && memcmp (bytes, bytes + 1, n - 1) == 0);
}

/* One piece, which does not cross a multiple of PIECE on the disk: what is lost costs its neighbours nothing. */
static gboolean
copy (VmaSketch *sketch, guint8 *buffer, guint64 offset, gsize size, GCancellable *cancellable,
      GError **error)
{
  g_autoptr (GError) local = NULL;
  gssize n = vma_image_pread (sketch->image, buffer, size, sketch->offset + offset, cancellable,
                              &local);

  if (n >= 0 && !is_zero (buffer, (gsize) n) && !vma_io_pwrite_all (sketch->fd, buffer, (gsize) n, offset)) {
    vma_set_errno_error (&local, errno, "cannot write an anonymous file");
    vma_archive_prefix_error (vma_image_archive (sketch->image), &local);
  }
  if (local == NULL)
    return TRUE;
  if (g_error_matches (local, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    g_propagate_error (error, g_steal_pointer (&local));
    return FALSE;
  }
  if (sketch->problem == NULL)
    sketch->problem = g_strdup (local->message);
  return TRUE;
}

gboolean
vma_sketch_fill (VmaSketch *sketch, guint64 offset, guint64 size, GCancellable *cancellable,
                 GError **error)
{
  if (offset >= sketch->length)
    return TRUE;
  guint64 end = offset + MIN (size, sketch->length - offset);
  g_autofree guint8 *buffer = g_malloc (PIECE);

  while (offset < end) {
    gsize step = (gsize) MIN (PIECE - (sketch->offset + offset) % PIECE, end - offset);
    if (!copy (sketch, buffer, offset, step, cancellable, error))
      return FALSE;
    offset += step;
  }
  return TRUE;
}

void
vma_sketch_read (VmaSketch *sketch, void *buffer, gsize size, guint64 offset)
{
  gssize n = offset < sketch->length ? pread (sketch->fd, buffer, size, (off_t) offset) : 0;
  gsize got = n > 0 ? (gsize) n : 0;

  memset ((guint8 *) buffer + got, 0, size - got);
}

int
vma_sketch_fd (const VmaSketch *sketch)
{
  return sketch->fd;
}

const char *
vma_sketch_problem (const VmaSketch *sketch)
{
  return sketch->problem;
}
