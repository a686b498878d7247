/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents and the scan, strict and with salvage.
 *
 * Input: a byte of flags (see below) and a program that builds what follows a sound header: extents
 * whose sums are right, and everything that can go wrong with them.  Whatever comes of it, each
 * cluster that the index says can be read lies inside the file, and the counts add up.
 */
#include "fuzz/standalone.h"
#include "index/scan.h"
#include "tests/unit/synth.h"

#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                                \
  do {                                                                                             \
    if (!(what))                                                                                   \
      g_error ("does not hold: %s", #what);                                                        \
  } while (0)

#define FLAG_VMSTATE 1
#define FLAG_HIDE 2 /* the size is known at the end only */
#define FLAG_BAD 4  /* a place that cannot be read */
#define FLAG_CUT 8  /* shorter than it says */

#define ARCHIVE_MAX (1u << 20)

/* --- building ---------------------------------------------------------------------------------- */

typedef struct {
  const guint8 *at;
  gsize left;
} Input;

static guint
get (Input *input)
{
  if (input->left == 0)
    return 0;
  input->left--;
  return *input->at++;
}

static guint
get_slots (Input *input, SynthSlot *slots)
{
  guint n = get (input) % 60, cluster = 0;

  for (guint i = 0; i < n && input->left > 0; i++) {
    guint what = get (input);
    slots[i].device = (what & 3) == 3 ? get (input) : (what & 3);
    cluster = (what & 4) != 0 ? get (input) : cluster + 1;
    slots[i].cluster = (what & 0x80) != 0 ? G_MAXUINT32 - cluster : cluster;
    slots[i].mask = (what & 8) != 0 ? 0xffff : (what & 0x10) != 0 ? (guint16) get (input) : 0;
  }
  return n;
}

static void
add_extent (GByteArray *archive, Input *input, gboolean data)
{
  SynthSlot slots[59] = { 0 };
  guint n = get_slots (input, slots), start = archive->len;
  guint8 header[512];

  synth_extent (header, slots, n);
  g_byte_array_append (archive, header, sizeof header);
  guint blocks = archive->data[start + 6] * 256u + archive->data[start + 7];
  if (data) {
    g_byte_array_set_size (archive, archive->len + blocks * 4096);
    memset (archive->data + start + 512, 0xda, blocks * 4096);
  }
}

/* A byte of the archive, counted from its end, and the sum of the header 512 bytes around made
 * right. */
static void
change_byte (GByteArray *archive, guint32 first, Input *input, gboolean sum)
{
  guint32 back = get (input) * 256u + get (input);
  guint8 value = (guint8) get (input);

  if (back >= archive->len - first)
    return;
  guint32 at = archive->len - 1 - back;
  archive->data[at] ^= value;
  for (guint32 start = at >= first + 511 ? at - 511 : first; sum && start <= at; start++)
    if (start + 512 <= archive->len && memcmp (archive->data + start, "VMAE", 4) == 0)
      synth_sum (archive->data + start, 512, 24);
}

static void
build (GByteArray *archive, Input *input)
{
  guint32 first = archive->len;

  while (input->left > 0 && archive->len < ARCHIVE_MAX) {
    guint op = get (input), n;
    switch (op % 8) {
    case 0:
    case 1:
      add_extent (archive, input, TRUE);
      break;
    case 2: /* a header that promises data */
      add_extent (archive, input, FALSE);
      break;
    case 3: /* bytes gained */
      n = get (input) * 16u;
      n = MIN (n, (guint) input->left);
      g_byte_array_append (archive, input->at, n);
      input->at += n;
      input->left -= n;
      break;
    case 4: /* bytes lost */
      n = get (input) * 64u + get (input);
      g_byte_array_set_size (archive, archive->len - MIN (n, archive->len - first));
      break;
    case 5:
      change_byte (archive, first, input, FALSE);
      break;
    case 6:
      change_byte (archive, first, input, TRUE);
      break;
    case 7: { /* all so far once more */
      guint size = archive->len - first;
      if (size < ARCHIVE_MAX / 2) {
        g_autofree guint8 *copy = g_memdup2 (archive->data + first, size);
        g_byte_array_append (archive, copy, size);
      }
      break;
    }
    }
  }
}

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
  synth_header_device (builder, 254, "drive-scsi1", 9000 * G_GUINT64_CONSTANT (65536));
  if ((flags & FLAG_VMSTATE) != 0)
    synth_header_device (builder, 2, "vmstate", 65536);
  g_autoptr (GByteArray) archive = synth_header_bytes (builder);
  g_autoptr (VmaHeader) header = vma_header_parse (archive->data, archive->len, NULL);
  build (archive, &input);
  check_scan (archive, header, flags, FALSE);
  check_scan (archive, header, flags, TRUE);
  return 0;
}
