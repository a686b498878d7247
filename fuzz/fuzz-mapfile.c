/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map file of extract -r.  Input: the file.
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "tool/mapfile.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static VmaArchive *
get_archive (void)
{
  static VmaArchive *archive;

  if (archive == NULL) {
    g_autoptr (SynthHeader) builder = synth_header_new ();
    synth_header_device (builder, 1, "drive-scsi0", 65536);
    synth_header_device (builder, 2, "a", 65536);
    synth_header_device (builder, 7, "vmstate", 65536);
    g_autoptr (GByteArray) bytes = synth_header_bytes (builder);
    archive = vma_archive_open (util_file (bytes->data, bytes->len), NULL, NULL);
  }
  return archive;
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  VmaArchive *archive = get_archive ();
  int fd = memfd_create ("map", MFD_CLOEXEC);
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  g_autoptr (GError) error = NULL;

  CHECK (write (fd, bytes, size) == (gssize)size);
  ToolMap *map = tool_map_read (path, archive, &error);
  CHECK ((map == NULL) == (error != NULL));
  for (guint i = 0; map != NULL && i < VMA_MAX_DEVICES; i++) {
    const ToolMapLine *line = &map->lines[i];
    CHECK (!line->mentioned || vma_archive_header (archive)->by_id[i] != NULL);
    CHECK (line->mentioned || (line->path == NULL && !line->skip && !line->write_zeros));
    CHECK ((line->path != NULL) == (line->mentioned && !line->skip));
    CHECK (line->path == NULL || *line->path != '\0');
  }
  g_clear_pointer (&map, tool_map_free);
  close (fd);
  return 0;
}
