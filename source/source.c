/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/source-impl.h"

#include "base/io.h"
#include "source/gzip.h"
#include "source/lz4.h"
#include "source/lzop.h"
#include "source/nbd-uri.h"
#include "source/nbd.h"
#include "source/packed.h"
#include "source/zstd/codec.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The compressed kinds.  What is none of them is a plain archive, or no archive. */
static const VmaCodec *const codecs[] = {
  &vma_zstd_codec,
  &vma_gzip_codec,
  &vma_lzop_codec,
  &vma_lz4_codec,
};

static const VmaCodec *
find_codec (const guint8 *head, gsize size)
{
  for (gsize i = 0; i < G_N_ELEMENTS (codecs); i++)
    if (codecs[i]->probe (head, size))
      return codecs[i];
  return NULL;
}

static VmaSource *
open_packed (VmaPackedFile file, const VmaCodec *codec, const VmaSourceOptions *options,
             GError **error)
{
  VmaPackedOptions packed = { 0 };

  if (options != NULL)
    packed = (VmaPackedOptions){
      .sidecar_directory = options->cache_dir,
      .cache_size = options->cache_size,
      .memory_limit = options->memory_limit,
      .follow = options->follow,
    };
  return vma_packed_source_new (file, codec, &packed, error);
}

static VmaSource *
open_nbd (const char *uri, const VmaSourceOptions *options, GError **error)
{
#ifdef HAVE_LIBNBD
  guint8 head[VMA_PROBE_SIZE];

  if (options != NULL && options->follow) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "an archive on a server cannot be followed: a server does not tell that it grows");
    return NULL;
  }
  VmaSource *source = vma_nbd_source_new (uri, error);
  if (source == NULL)
    return NULL;
  gssize size = vma_source_pread (source, head, sizeof head, 0, VMA_READ_INDEX, NULL, error);
  const VmaCodec *codec = size > 0 ? find_codec (head, (gsize) size) : NULL;
  if (codec != NULL)
    return open_packed ((VmaPackedFile){ .fd = -1, .below = source }, codec, options, error);
  if (size < 0)
    g_clear_pointer (&source, vma_source_unref);
  return source;
#else
  (void) uri;
  (void) options;
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "this program was built without libnbd, and reads files only");
  return NULL;
#endif
}

VmaSource *
vma_source_open (const char *path, const VmaSourceOptions *options, GError **error)
{
  guint8 head[VMA_PROBE_SIZE];
  struct stat st;
  int errnum;

  if (vma_nbd_is_uri (path))
    return open_nbd (path, options, error);
  int fd = strcmp (path, "-") == 0 ? fcntl (STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                   : open (path, O_RDONLY | O_CLOEXEC);

  if (fd < 0) {
    vma_set_errno_error (error, errno, "cannot open");
    return NULL;
  }
  if (fstat (fd, &st) == 0 && S_ISDIR (st.st_mode)) {
    vma_set_errno_error (error, EISDIR, "cannot open");
    close (fd);
    return NULL;
  }
  gsize size = vma_io_read (fd, head, sizeof head, &errnum);
  if (errnum != 0) {
    vma_set_errno_error (error, errnum, "header at 0: cannot read");
    close (fd);
    return NULL;
  }
  const VmaCodec *codec = find_codec (head, size);
  gboolean sequential = lseek (fd, 0, SEEK_SET) < 0;
  if (sequential && errno != ESPIPE) {
    vma_set_errno_error (error, errno, "cannot open");
    close (fd);
    return NULL;
  }
  if (codec != NULL && !sequential)
    return open_packed ((VmaPackedFile){ .fd = fd }, codec, options, error);
  if (codec != NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "header at 0: compressed with %s, which cannot be read from a pipe"
                 " (decompress it on its way)",
                 codec->kind);
    close (fd);
    return NULL;
  }
  const VmaSourceOps *ops = sequential ? &vma_pipe_source_ops : &vma_file_source_ops;
  VmaSource *source = ops->open (fd, head, size, options, error);
  if (source != NULL) {
    source->ops = ops;
    atomic_init (&source->refs, 1);
  }
  return source;
}

VmaSource *
vma_source_ref (VmaSource *source)
{
  atomic_fetch_add (&source->refs, 1);
  return source;
}

void
vma_source_unref (VmaSource *source)
{
  if (atomic_fetch_sub (&source->refs, 1) == 1)
    source->ops->free (source);
}

gssize
vma_source_pread (VmaSource *source, void *buffer, gsize size, guint64 offset, VmaReadHint hint,
                  GCancellable *cancellable, GError **error)
{
  return source->ops->pread (source, buffer, size, offset, hint, cancellable, error);
}

gboolean
vma_source_pread_full (VmaSource *source, void *buffer, gsize size, guint64 offset,
                       VmaReadHint hint, GCancellable *cancellable, GError **error)
{
  gssize got = vma_source_pread (source, buffer, size, offset, hint, cancellable, error);

  if (got >= 0 && (gsize) got < size)
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                 "the archive ends at %" G_GUINT64_FORMAT ", inside data that must be there",
                 offset + (guint64) got);
  return got == (gssize) size;
}

guint64
vma_source_size (VmaSource *source)
{
  return source->ops->size (source);
}

gboolean
vma_source_is_sequential (VmaSource *source)
{
  return source->ops->sequential;
}

guint
vma_source_requests (VmaSource *source)
{
  return MAX (source->ops->requests, 1);
}

gboolean
vma_source_is_remote (VmaSource *source)
{
  return source->ops->remote;
}

void
vma_source_interrupt (VmaSource *source)
{
  if (source->ops->interrupt != NULL)
    source->ops->interrupt (source);
}

gboolean
vma_source_checks_data (VmaSource *source)
{
  return source->ops->checks_data;
}

const char *
vma_source_kind (VmaSource *source)
{
  return source->ops->kind;
}

gboolean
vma_source_identity (VmaSource *source, VmaSourceIdentity *identity, GError **error)
{
  if (source->ops->identity != NULL)
    return source->ops->identity (source, identity, error);
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "a %s has no identity", source->ops->kind);
  return FALSE;
}
