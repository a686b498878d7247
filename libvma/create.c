/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The writing half of include/vma.h: a thin skin over writer/. */
#include "libvma/result.h"

#include "vma/error.h"
#include "writer/writer.h"

#include <string.h>

struct VmaCreate {
  VmaWriter *writer;
  guint8 last; /* stream; they count from 1 */
};

static VmaCreateOptions
options_of (const VmaCreateOptions *options)
{
  VmaCreateOptions all = VMA_CREATE_OPTIONS_INIT;

  if (options != NULL)
    memcpy (&all, options, MIN (options->struct_size, sizeof all));
  return all;
}

static gboolean
parse_compression (const char *name, VmaCompression *compression)
{
  static const struct {
    const char *name;
    VmaCompression compression;
  } known[] = {
    { "none", VMA_COMPRESS_NONE },
    { "zstd", VMA_COMPRESS_ZSTD },
    { "lz4", VMA_COMPRESS_LZ4 },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (known); i++)
    if (name == NULL || strcmp (name, known[i].name) == 0) {
      *compression = known[i].compression;
      return TRUE;
    }
  return FALSE;
}

VmaResult
vma_create (VmaCreate **create, const char *target, const VmaCreateOptions *options)
{
  VmaCreateOptions all = options_of (options);
  VmaWriterOptions writer_options = {
    .uuid = all.uuid,
    .ctime = all.ctime,
    .level = all.level,
    .threads = all.threads,
  };
  GError *error = NULL;

  *create = NULL;
  if (!parse_compression (all.compression, &writer_options.compression))
    return vma_result_invalid ("%s: compression '%s' is not known (none, zstd or lz4)", target,
                               all.compression);
  VmaWriter *writer = vma_writer_open (target, &writer_options, &error);
  if (writer == NULL)
    return vma_result_take (error);
  *create = g_new0 (VmaCreate, 1);
  (*create)->writer = writer;
  return VMA_OK;
}

VmaResult
vma_create_add_config (VmaCreate *create, const char *name, const void *data, size_t size)
{
  GError *error = NULL;

  vma_writer_add_config (create->writer, name, data, size, &error);
  return vma_result_take (error);
}

VmaResult
vma_create_add_disk (VmaCreate *create, const char *name, uint64_t size, unsigned *disk)
{
  GError *error = NULL;

  *disk = vma_writer_register_stream (create->writer, name, size, &error);
  if (*disk != 0)
    create->last = (guint8) *disk;
  return vma_result_take (error);
}

VmaResult
vma_create_write (VmaCreate *create, unsigned disk, uint64_t first, uint64_t n, const void *data)
{
  GError *error = NULL;

  if (disk == 0 || disk > create->last)
    return vma_result_invalid ("there is no disk %u", disk);
  vma_writer_dump (create->writer, (guint8) disk, first, n, data, &error);
  return vma_result_take (error);
}

VmaResult
vma_create_finish (VmaCreate *create)
{
  GError *error = NULL;
  gboolean ok = TRUE;

  for (guint stream = 1; ok && stream <= create->last; stream++)
    ok = vma_writer_close_stream (create->writer, (guint8) stream, &error);
  if (ok)
    vma_writer_complete (create->writer, &error);
  vma_create_abort (create); /* which takes nothing back of what is complete */
  return vma_result_take (error);
}

void
vma_create_abort (VmaCreate *create)
{
  if (create == NULL)
    return;
  vma_writer_free (create->writer);
  g_free (create);
}
