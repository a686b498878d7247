/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole archive, from its file to the bytes of its disks, against a second reader
 * (slow-reader.h): strict or with salvage, or as a delta over a base
 * (then there is no salvage).
 *
 * Input: a byte of flags and a program as in extents.h.  What one reader takes as sound the other one
 * takes, too, and both read the same.  Of a damaged archive whatever can be read is what some header
 * with a right sum says that it is; and of a damaged delta nothing comes from the base.
 */
#include "fuzz/extents.h"
#include "fuzz/slow-reader.h"
#include "fuzz/standalone.h"
#include "image/delta.h"
#include "image/image.h"
#include "tests/unit/synth.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FLAG_VMSTATE  1
#define FLAG_DELTA    2
#define FLAG_COMPLETE 4 /* what is not listed is, at the end */
#define FLAG_SALVAGE  8

static const guint64 sizes[] = { 0, 6 * 65536 + 5000, 3 * 65536, 65536 };

static int
put_file (const GByteArray *bytes, char path[64])
{
  int fd = memfd_create ("fuzz.vma", MFD_CLOEXEC);

  CHECK (fd >= 0 && write (fd, bytes->data, bytes->len) == (gssize)bytes->len);
  g_snprintf (path, 64, "/proc/self/fd/%d", fd);
  return fd;
}

static GByteArray *
make_header (guint flags)
{
  g_autoptr (SynthHeader) builder = synth_header_new ();

  synth_header_device (builder, 1, "drive-scsi0", sizes[1]);
  synth_header_device (builder, 2, "drive-scsi1", sizes[2]);
  if ((flags & FLAG_VMSTATE) != 0)
    synth_header_device (builder, 3, "vmstate", sizes[3]);
  if ((flags & FLAG_DELTA) != 0) {
    g_autofree char *text = vma_delta_text (synth_uuid);
    synth_header_config (builder, 0, VMA_DELTA_CONFIG, text, strlen (text));
  }
  return synth_header_bytes (builder);
}

/* The base holds all clusters, each with a different mask. */
static const GByteArray *
get_base (const char **path)
{
  static GByteArray *base;
  static char name[64];

  if (base == NULL) {
    SynthSlot slots[10];
    guint n = 0;
    for (guint id = 1; id <= 2; id++)
      for (guint32 i = 0; i * G_GUINT64_CONSTANT (65536) < sizes[id]; i++)
        slots[n++] = (SynthSlot){ id, i, (guint16)(i % 3 == 2 ? 0 : 1 + i % 2 * 2) };
    base = make_header (0);
    synth_append_extent (base, 0xba5e, slots, n);
    put_file (base, name);
  }
  *path = name;
  return base;
}

static void
complete (GByteArray *bytes)
{
  SynthSlot slots[59];
  SlowArchive slow;
  guint n = 0;

  slow_open (&slow, bytes->data, bytes->len, TRUE);
  slow_read (&slow);
  for (guint id = 1; id <= 2; id++)
    for (guint32 i = 0; i < slow_clusters (&slow, id); i++)
      if (slow_find (&slow, id, i, 0) == NULL)
        slots[n++] = (SynthSlot){ id, i, (guint16)(i % 2) };
  slow_close (&slow);
  synth_append_extent (bytes, bytes->len, slots, n);
}

/* --- comparing --------------------------------------------------------------------------------- */

typedef struct {
  SlowArchive slow, base;
  gboolean sound; /* the slow reader found nothing wrong */
  gboolean delta;
} Truth;

static gboolean
may_be (const SlowArchive *slow, guint device, guint64 cluster, const guint8 *got, gsize size)
{
  g_autofree guint8 *content = g_malloc (65536);
  const SlowSlot *slot;

  for (guint n = 0; (slot = slow_find (slow, device, cluster, n)) != NULL; n++)
    if (slow_content (slow, slot, content) && memcmp (got, content, size) == 0)
      return TRUE;
  return FALSE;
}

static void
check_cluster (const Truth *truth, guint device, guint64 cluster, const guint8 *got, gsize size)
{
  gboolean listed = slow_find (&truth->slow, device, cluster, 0) != NULL;

  if (listed)
    CHECK (may_be (&truth->slow, device, cluster, got, size));
  else
    CHECK (truth->delta && truth->sound && may_be (&truth->base, device, cluster, got, size));
}

static void
check_disk (const Truth *truth, VmaArchive *archive, const VmaDevice *device)
{
  VmaImage *image = vma_archive_image (archive, device->id);
  g_autofree guint8 *all = NULL, *part = NULL, *lost = NULL;
  guint64 size;

  if (!vma_image_size (image, &size, NULL, NULL)) {
    CHECK (!truth->sound);
    return;
  }
  CHECK (!device->is_vmstate ? size == device->size
                             : !truth->sound || size == slow_clusters (&truth->slow, 3) * 65536);
  CHECK (size < 4 * EXTENTS_ARCHIVE_MAX || !truth->sound);
  size = MIN (size, 2 * EXTENTS_ARCHIVE_MAX);
  all = g_malloc0 (size + 1);
  part = g_malloc (size + 1);
  lost = g_malloc0 (size / 65536 + 1);
  for (guint64 at = 0; at < size; at += 65536) {
    g_autoptr (GError) error = NULL;
    gsize want = (gsize)MIN (65536, size - at);
    gssize n = vma_image_pread (image, all + at, want, at, NULL, &error);
    CHECK ((n < 0) == (error != NULL) && (n < 0 || n == (gssize)want));
    CHECK (n >= 0 || !truth->sound);
    if (n >= 0)
      check_cluster (truth, device->id, at / 65536, all + at, want);
    lost[at / 65536] = n < 0;
  }
  /* Reads of other sizes give the same. */
  for (guint64 at = 1, step = 7; at < size; at += step, step = step * 3 % 99991) {
    gsize want = (gsize)MIN (size - at, step * 5 % 200000);
    gssize n = vma_image_pread (image, part, want, at, NULL, NULL);
    if (n < 0)
      CHECK (memchr (lost + at / 65536, 1, (at + want - 1) / 65536 - at / 65536 + 1) != NULL);
    else
      CHECK (n == (gssize)want && memcmp (part, all + at, want) == 0);
  }
}

static void
check_archive (const Truth *truth, const char *path, const char *base, gboolean salvage)
{
  VmaArchiveOptions options = { .salvage = salvage, .base = base };
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaArchive) archive = vma_archive_open (path, &options, &error);

  CHECK (archive != NULL);
  vma_archive_start_index (archive);
  gboolean ok = vma_archive_wait_index (archive, -1, NULL, &error);
  CHECK (ok == (error == NULL));
  CHECK (salvage || ok == truth->sound);
  if (ok && salvage && truth->sound)
    CHECK (vma_index_damage_count (vma_archive_index (archive)) == 0);
  const VmaHeader *header = vma_archive_header (archive);
  for (guint i = 0; i < header->devices->len; i++)
    check_disk (truth, archive, g_ptr_array_index (header->devices, i));
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  Input input = { bytes, size };
  guint flags = get (&input);
  g_autoptr (GByteArray) file = make_header (flags);
  const char *base_path;
  const GByteArray *base = get_base (&base_path);
  char path[64];
  Truth truth = { .delta = (flags & FLAG_DELTA) != 0 };

  extents_build (file, &input);
  if ((flags & FLAG_COMPLETE) != 0)
    complete (file);
  slow_open (&truth.slow, file->data, file->len, truth.delta);
  slow_open (&truth.base, base->data, base->len, FALSE);
  CHECK (slow_read (&truth.base));
  truth.sound = slow_read (&truth.slow);
  if (!truth.sound)
    slow_collect (&truth.slow);
  int fd = put_file (file, path);
  check_archive (&truth, path, truth.delta ? base_path : NULL, !truth.delta && (flags & FLAG_SALVAGE) != 0);
  close (fd);
  slow_close (&truth.slow);
  slow_close (&truth.base);
  return 0;
}
