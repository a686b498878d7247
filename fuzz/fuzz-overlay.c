/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk with an overlay against a copy of it in memory.
 *
 * Input: a program of writes, zeros, reads, syncs and of opening the file again.  It may change bytes
 * of the file: where these are its header, it is not opened any more; where they are its map, what is
 * read may be anything, but comes.
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "overlay/disk.h"
#include "overlay/format.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DISK_SIZE (6u * 65536 + 5000)

typedef struct {
  VmaArchive *archive;
  VmaOverlay *overlay;
  VmaOverlayDisk *disk;
  char file[64];
  guint8 bytes[DISK_SIZE];
  gboolean unsure; /* the map was changed */
} Model;

static VmaArchive *
make_archive (guint8 bytes[DISK_SIZE])
{
  const SynthSlot slots[] = { { 1, 0, 0xffff }, { 1, 1, 0x0f }, { 1, 2, 0 }, { 1, 3, 0xffff },
                              { 1, 5, 0x8001 }, { 1, 4, 1 },    { 1, 6, 3 } };
  g_autoptr (SynthHeader) builder = synth_header_new ();

  synth_header_device (builder, 1, "drive-scsi0", DISK_SIZE);
  g_autoptr (GByteArray) file = synth_header_bytes (builder);
  synth_append_extent (file, 1, slots, G_N_ELEMENTS (slots));
  VmaArchive *archive = util_open (util_file (file->data, file->len), FALSE, NULL);
  CHECK (archive != NULL);
  CHECK (vma_image_pread (vma_archive_image (archive, 1), bytes, DISK_SIZE, 0, NULL, NULL)
         == DISK_SIZE);
  return archive;
}

static gboolean
model_open (Model *m)
{
  m->overlay = vma_overlay_open (m->file, m->archive, NULL);
  if (m->overlay == NULL)
    return FALSE;
  vma_overlay_keep (m->overlay);
  m->disk = vma_overlay_disk (m->overlay, 1);
  return TRUE;
}

static void
model_close (Model *m)
{
  if (m->overlay == NULL)
    return;
  CHECK (vma_overlay_close (m->overlay, NULL));
  g_clear_pointer (&m->overlay, vma_overlay_free);
}

static void
check_read (Model *m, guint64 offset, gsize size)
{
  g_autofree guint8 *got = g_malloc (size + 1);
  gssize n = vma_overlay_pread (m->disk, got, size, offset, NULL, NULL);
  gsize wanted = offset < DISK_SIZE ? (gsize)MIN (size, DISK_SIZE - offset) : 0;

  CHECK (n == (gssize)wanted);
  CHECK (m->unsure || memcmp (got, m->bytes + MIN (offset, DISK_SIZE), wanted) == 0);
}

static void
do_write (Model *m, Input *input)
{
  guint64 offset = get (input) * 4096 + get (input) * 16;
  gsize size = get16 (input) % 20000 + 1;
  g_autofree guint8 *data = g_malloc (size);
  gsize wanted = offset < DISK_SIZE ? (gsize)MIN (size, DISK_SIZE - offset) : 0;

  memset (data, (int)get (input), size);
  gssize n = vma_overlay_pwrite (m->disk, data, size, offset, NULL, NULL);
  CHECK (n == (wanted > 0 ? (gssize)wanted : -1));
  memcpy (m->bytes + MIN (offset, DISK_SIZE), data, wanted);
}

static void
do_zero (Model *m, Input *input)
{
  guint64 offset = get (input) * 4096 + get (input) * 16;
  gsize size = get16 (input) * 4u;

  offset = MIN (offset, DISK_SIZE);
  size = (gsize)MIN (size, DISK_SIZE - offset);
  if (vma_overlay_zero (m->disk, offset, size, NULL, NULL))
    memset (m->bytes + offset, 0, size);
  else
    m->unsure = TRUE;
}

static void
do_search (Model *m, Input *input)
{
  guint64 offset = get (input) * 4096, data, hole;

  if (offset >= DISK_SIZE || m->unsure)
    return;
  CHECK (vma_overlay_next_data (m->disk, offset, &data, NULL, NULL));
  CHECK (vma_overlay_next_hole (m->disk, offset, &hole, NULL, NULL));
  CHECK (data >= offset && hole >= offset && data <= DISK_SIZE && hole <= DISK_SIZE);
  for (guint64 at = offset; at < data; at++)
    CHECK (m->bytes[at] == 0);
}

/* Changes a byte of the file; FALSE where it cannot be opened again. */
static gboolean
do_change (Model *m, Input *input)
{
  guint place = get16 (input);
  guint8 value = (guint8)get (input), old;
  int fd;

  if (value == 0)
    return TRUE;
  model_close (m);
  fd = open (m->file, O_RDWR | O_CLOEXEC);
  place += place >= 0x8000 ? 0x8000 : 0; /* the header, or the map at 64 KiB */
  if (pread (fd, &old, 1, place) == 1) {
    old ^= value;
    CHECK (pwrite (fd, &old, 1, place) == 1);
  }
  close (fd);
  gboolean opened = model_open (m);
  CHECK (opened == (place >= VMA_OVERLAY_HEADER_SIZE));
  m->unsure = m->unsure || place >= 0x10000;
  return opened;
}

static void
run (Model *m, Input *input)
{
  for (guint n = 0; input->left > 0 && n < 200; n++)
    switch (get (input) % 8) {
    case 0:
    case 1:
      do_write (m, input);
      break;
    case 2:
      do_zero (m, input);
      break;
    case 3:
      do_search (m, input);
      break;
    case 4:
      CHECK (vma_overlay_sync (m->overlay, NULL));
      break;
    case 5:
      model_close (m);
      CHECK (model_open (m));
      break;
    case 6:
      if (!do_change (m, input))
        return;
      break;
    default:
      check_read (m, get (input) * 4096 + get (input) * 16, get16 (input));
    }
  check_read (m, 0, DISK_SIZE + 1);
}

static VmaArchive *archive; /* for all inputs */

static void
free_archive (void)
{
  vma_archive_free (archive);
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  static guint8 start[DISK_SIZE];
  static Model m;
  Input input = { bytes, size };

  if (archive == NULL) {
    archive = make_archive (start);
    atexit (free_archive);
  }
  m = (Model){ .archive = archive };
  memcpy (m.bytes, start, DISK_SIZE);
  g_snprintf (m.file, sizeof m.file, "/dev/shm/fuzz-overlay-%d", (int)getpid ());
  unlink (m.file);
  CHECK (model_open (&m));
  run (&m, &input);
  model_close (&m);
  unlink (m.file);
  return 0;
}
