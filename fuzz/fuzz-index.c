/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents and the scan, strict and with salvage.
 *
 * Input: a byte of flags (see below) and a program that builds what follows a sound header: extents
 * whose sums are right, and everything that can go wrong with them.  Whatever comes of it, each
 * cluster that the index says can be read lies inside the file, and the counts add up.
 */
#include "fuzz/extents.h"
#include "fuzz/standalone.h"
#include "index/scan.h"
#include "tests/unit/synth.h"

#include <stdlib.h>
#include <string.h>

#define FLAG_VMSTATE 1
#define FLAG_HIDE 2 /* the size is known at the end only */
#define FLAG_BAD 4  /* a place that cannot be read */
#define FLAG_CUT 8  /* shorter than it says */

/* --- checking ---------------------------------------------------------------------------------- */

static guint
blocks_of (guint16 mask)
{
  guint n = 0;

  for (guint bit = 0; bit < 16; bit++)
    n += mask >> bit & 1;
  return n;
}

static void
check_device (VmaIndex *index, const VmaHeader *header, const VmaDevice *device, guint64 size)
{
  VmaDeviceCounts counts;
  guint64 data = 0, zero = 0, bad = 0, blocks = 0;

  vma_index_get_device_counts (index, device->id, &counts);
  for (guint64 cluster = 0, end; cluster < device->clusters; cluster = end) {
    gboolean pending;
    VmaEntry entry = vma_index_lookup (index, device->id, cluster, &end, &pending);

    CHECK (end > cluster && end <= device->clusters);
    CHECK (!pending);
    CHECK (entry != VMA_ENTRY_LOST);
    zero += entry == VMA_ENTRY_ZERO ? end - cluster : 0;
    bad += entry == VMA_ENTRY_BAD ? end - cluster : 0;
    if (!vma_entry_is_data (entry))
      continue;
    guint64 length = (end - cluster) * blocks_of (vma_entry_mask (entry)) * 4096;
    CHECK (vma_entry_offset (entry) >= header->size + 512);
    CHECK (size == 0 || vma_entry_offset (entry) + length <= size);
    data += end - cluster;
    blocks += length / 4096;
  }
  CHECK (data == counts.data && zero == counts.zero && bad == counts.bad);
  CHECK (blocks == counts.blocks);
}

static void
check_scan (GByteArray *archive, const VmaHeader *header, guint flags, gboolean salvage)
{
  g_autoptr (VmaIndex) index = vma_index_new (header, NULL);
  g_autofree guint8 *exact = g_memdup2 (archive->data, archive->len);
  g_autoptr (SynthSource) source = synth_source_new (exact, archive->len);
  g_autoptr (GError) error = NULL;

  if ((flags & FLAG_HIDE) != 0)
    synth_source_hide_size (source);
  if ((flags & FLAG_BAD) != 0)
    synth_source_set_bad (source, header->size + (flags >> 4) * 512u,
                          header->size + (flags >> 4) * 512u + 512);
  if ((flags & FLAG_CUT) != 0)
    synth_source_cut_off (source, archive->len - MIN (archive->len - header->size, flags * 16));
  g_autoptr (VmaScanner) scanner
      = vma_scanner_new (synth_source_base (source), header, index, salvage);

  gboolean ok = vma_scanner_run (scanner, NULL, &error);
  CHECK (ok == (error == NULL));
  CHECK (ok || !salvage || (flags & FLAG_HIDE) != 0 || strstr (error->message, "memory") != NULL);
  guint64 end = (flags & (FLAG_HIDE | FLAG_CUT)) == 0 ? archive->len : 0;
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    check_device (index, header, device, end);
    CHECK (!ok || salvage || vma_index_missing (index, device->id) == 0);
  }
  CHECK (!ok || salvage || vma_index_damage_count (index) == 0);
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  Input input = { bytes, size };
  guint flags = get (&input);
  g_autoptr (SynthHeader) builder = synth_header_new ();

  synth_header_device (builder, 1, "drive-scsi0", 6 * 65536 + 5000);
  synth_header_device (builder, 254, "drive-scsi1", 4200 * G_GUINT64_CONSTANT (65536));
  if ((flags & FLAG_VMSTATE) != 0)
    synth_header_device (builder, 2, "vmstate", 65536);
  g_autoptr (GByteArray) archive = synth_header_bytes (builder);
  g_autoptr (VmaHeader) header = vma_header_parse (archive->data, archive->len, NULL);
  extents_build (archive, &input);
  check_scan (archive, header, flags, FALSE);
  check_scan (archive, header, flags, TRUE);
  return 0;
}
