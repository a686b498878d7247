/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuzz/slow-reader.h"

#include <string.h>

static guint64
big_endian (const guint8 *p, guint bytes)
{
  guint64 value = 0;

  while (bytes-- > 0)
    value = value << 8 | *p++;
  return value;
}

void
slow_open (SlowArchive *archive, const guint8 *bytes, gsize size, gboolean may_miss)
{
  const guint8 *blobs = bytes + big_endian (bytes + 48, 4);

  *archive = (SlowArchive){ .bytes = bytes, .size = size, .may_miss = may_miss };
  archive->first = (gsize)big_endian (bytes + 56, 4);
  archive->slots = g_array_new (FALSE, FALSE, sizeof (SlowSlot));
  for (guint id = 1; id < 255; id++) {
    const guint8 *info = bytes + 4096 + 32 * id;
    archive->sizes[id] = big_endian (info + 8, 8);
    if (archive->sizes[id] != 0 && archive->vmstate == 0
        && strcmp ((const char *)blobs + big_endian (info, 4) + 2, "vmstate") == 0)
      archive->vmstate = id;
  }
}

void
slow_close (SlowArchive *archive)
{
  g_array_unref (archive->slots);
}

static guint
count_bits (guint value)
{
  guint n = 0;

  for (; value != 0; value >>= 1)
    n += value & 1;
  return n;
}

static gboolean
sum_is_right (const guint8 *header)
{
  guint8 copy[512];
  guint8 digest[16];
  gsize length = sizeof digest;
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_MD5);

  memcpy (copy, header, sizeof copy);
  memset (copy + 24, 0, 16);
  g_checksum_update (sum, copy, sizeof copy);
  g_checksum_get_digest (sum, digest, &length);
  return memcmp (digest, header + 24, 16) == 0;
}

/* Whether a header stands here, by its own words. */
static gboolean
is_header (const SlowArchive *archive, gsize at)
{
  const guint8 *p = archive->bytes + at;

  return archive->size - at >= 512 && memcmp (p, "VMAE", 4) == 0
         && memcmp (p + 8, archive->bytes + 8, 16) == 0 && sum_is_right (p)
         && big_endian (p + 4, 2) == 0;
}

/* Appends the slots of the header at `at`; how many blocks they have. */
static guint
take_slots (SlowArchive *archive, gsize at)
{
  guint blocks = 0;

  for (guint i = 0; i < 59; i++) {
    const guint8 *p = archive->bytes + at + 40 + 8 * i;
    SlowSlot slot = { .device = p[3],
                      .cluster = (guint32)big_endian (p + 4, 4),
                      .mask = (guint16)big_endian (p, 2),
                      .data = at + 512 + blocks * 4096 };
    if (slot.device == 0)
      continue;
    g_array_append_val (archive->slots, slot);
    blocks += count_bits (slot.mask);
  }
  return blocks;
}

/* Whether slots[i] may stand there, behind all those before it. */
static gboolean
slot_is_right (const SlowArchive *archive, guint i)
{
  const SlowSlot *slot = &g_array_index (archive->slots, SlowSlot, i);
  guint64 size = archive->sizes[slot->device], before = 0;

  if (size == 0)
    return FALSE;
  for (guint k = 0; k < i; k++) {
    const SlowSlot *other = &g_array_index (archive->slots, SlowSlot, k);
    before += other->device == slot->device;
    if (other->device == slot->device && other->cluster == slot->cluster)
      return FALSE;
  }
  if (slot->device == archive->vmstate)
    return slot->cluster == before;
  for (guint bit = 0; bit < 16; bit++)
    if ((slot->mask >> bit & 1) != 0
        && slot->cluster * G_GUINT64_CONSTANT (65536) + bit * 4096 >= size)
      return FALSE;
  return slot->cluster * G_GUINT64_CONSTANT (65536) < size;
}

static gboolean
nothing_is_missing (const SlowArchive *archive)
{
  for (guint id = 1; id < 255; id++)
    for (guint64 cluster = 0;
         id != archive->vmstate && cluster < slow_clusters (archive, id); cluster++)
      if (slow_find (archive, id, cluster, 0) == NULL)
        return FALSE;
  return TRUE;
}

gboolean
slow_read (SlowArchive *archive)
{
  gsize at = archive->first;

  g_array_set_size (archive->slots, 0);
  while (at < archive->size) {
    guint n = archive->slots->len;
    if (!is_header (archive, at))
      return FALSE;
    guint blocks = take_slots (archive, at);
    if (blocks != big_endian (archive->bytes + at + 6, 2))
      return FALSE;
    if (archive->size - at - 512 < blocks * 4096)
      return FALSE;
    for (; n < archive->slots->len; n++)
      if (!slot_is_right (archive, n))
        return FALSE;
    at += 512 + blocks * 4096;
  }
  return archive->may_miss || nothing_is_missing (archive);
}

void
slow_collect (SlowArchive *archive)
{
  g_array_set_size (archive->slots, 0);
  for (gsize at = archive->first; at + 512 <= archive->size; at++)
    if (archive->bytes[at] == 'V' && is_header (archive, at))
      take_slots (archive, at);
}

guint64
slow_clusters (const SlowArchive *archive, guint device)
{
  guint64 n = 0;

  if (device != archive->vmstate)
    return archive->sizes[device] / 65536 + (archive->sizes[device] % 65536 != 0);
  for (guint i = 0; i < archive->slots->len; i++)
    n += g_array_index (archive->slots, SlowSlot, i).device == device;
  return n;
}

const SlowSlot *
slow_find (const SlowArchive *archive, guint device, guint64 cluster, guint n)
{
  for (guint i = 0; i < archive->slots->len; i++) {
    const SlowSlot *slot = &g_array_index (archive->slots, SlowSlot, i);
    if (slot->device == device && slot->cluster == cluster && n-- == 0)
      return slot;
  }
  return NULL;
}

gboolean
slow_content (const SlowArchive *archive, const SlowSlot *slot, guint8 content[65536])
{
  gsize at = slot->data;

  memset (content, 0, 65536);
  for (guint bit = 0; bit < 16; bit++) {
    if ((slot->mask >> bit & 1) == 0)
      continue;
    if (at > archive->size || archive->size - at < 4096)
      return FALSE;
    memcpy (content + bit * 4096, archive->bytes + at, 4096);
    at += 4096;
  }
  return TRUE;
}
