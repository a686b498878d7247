/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A compressed file as a source: found out, indexed while it is read, and opened again with the
 * checkpoints of the first time.
 *
 * Input: flags and the file, whose sums are put right if a flag says so.  Bytes that a read gives are the
 * same every time, at any place.
 */
#include "fuzz/input.h"
#include "fuzz/repair.h"
#include "fuzz/standalone.h"
#include "source/source.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FLAG_REPAIR 1
#define FLAG_CACHE  2
#define FLAG_BACKWARDS 4 /* the first reads are somewhere in the middle */

#define OUT_MAX (1u << 20)

typedef struct {
  guint8 *bytes;
  guint8 *known; /* by byte: it was read */
} Content;

static void
note (Content *c, const guint8 *got, guint64 offset, gsize n)
{
  for (gsize i = 0; i < n; i++) {
    CHECK (!c->known[offset + i] || c->bytes[offset + i] == got[i]);
    c->bytes[offset + i] = got[i];
    c->known[offset + i] = 1;
  }
}

static gboolean
read_some (VmaSource *source, Content *c, guint64 offset, gsize size)
{
  static guint8 buffer[OUT_MAX];
  g_autoptr (GError) error = NULL;

  size = MIN (size, OUT_MAX - offset);
  gssize n = vma_source_pread (source, buffer, size, offset, VMA_READ_DATA, NULL, &error);
  CHECK ((n < 0) == (error != NULL) && n <= (gssize)size);
  if (n > 0)
    note (c, buffer, offset, (gsize)n);
  return n > 0;
}

static void
read_all (VmaSource *source, Content *c, guint flags)
{
  if ((flags & FLAG_BACKWARDS) != 0)
    for (guint64 offset = (flags >> 3) * 1000u + 1; offset > 0; offset /= 2)
      read_some (source, c, offset, 3000);
  for (guint64 offset = 0; offset < OUT_MAX && read_some (source, c, offset, 65536);
       offset += 65536)
    ;
  for (guint64 offset = 1, step = 7; offset < OUT_MAX; offset += step, step = step * 5 % 299993)
    read_some (source, c, offset, step % 9000 + 1);
  guint64 size = vma_source_size (source);
  if (size < OUT_MAX)
    CHECK (!c->known[size]);
}

static void
empty (const char *folder)
{
  g_autoptr (GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *path = g_build_filename (folder, name, NULL);
    g_unlink (path);
  }
}

static void
be_quiet (const char *domain G_GNUC_UNUSED, GLogLevelFlags level, const char *message,
          gpointer data G_GNUC_UNUSED)
{
  if ((level & G_LOG_FLAG_FATAL) != 0)
    g_printerr ("%s\n", message);
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  static char *folder;
  static guint8 content[OUT_MAX + 1], known[OUT_MAX + 1];
  Content c = { content, known };

  if (folder == NULL) {
    g_log_set_default_handler (be_quiet, NULL);
    folder = g_dir_make_tmp ("fuzz-packed-XXXXXX", NULL);
  }
  if (size < 2)
    return 0;
  guint flags = bytes[0];
  g_autofree guint8 *file = g_memdup2 (bytes + 1, size - 1);
  if ((flags & FLAG_REPAIR) != 0)
    repair_sums (file, size - 1);
  int fd = memfd_create ("packed", MFD_CLOEXEC);
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  CHECK (write (fd, file, size - 1) == (gssize)(size - 1));
  memset (known, 0, sizeof known);

  VmaSourceOptions options = { .memory_limit = 64 << 20 };
  options.cache_dir = (flags & FLAG_CACHE) != 0 ? folder : NULL;
  for (guint i = 0; i < ((flags & FLAG_CACHE) != 0 ? 2 : 1); i++) {
    g_autoptr (VmaSource) source = vma_source_open (path, &options, NULL);
    if (source != NULL)
      read_all (source, &c, flags);
  }
  close (fd);
  empty (folder);
  return 0;
}
