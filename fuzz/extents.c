/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuzz/extents.h"

#include "tests/unit/synth.h"

#include <string.h>

static guint
get_slots (Input *input, SynthSlot *slots)
{
  guint n = get (input) % 60, cluster = 0;

  for (guint i = 0; i < n && input->left > 0; i++) {
    guint what = get (input);
    slots[i].device = (what & 3) == 3 ? get (input) : (what & 3);
    cluster = (what & 4) != 0 ? get (input) : cluster + 1;
    slots[i].cluster = (what & 0x80) != 0 ? G_MAXUINT32 - cluster : cluster;
    slots[i].mask = (what & 8) != 0 ? 0xffff : (what & 0x10) != 0 ? (guint16)get (input) : 0;
  }
  return n;
}

static void
add_extent (GByteArray *archive, Input *input, gboolean data)
{
  SynthSlot slots[59] = { 0 };
  guint n = get_slots (input, slots), start = archive->len;

  /* The place as the seed: no two extents hold the same. */
  synth_append_extent (archive, start, slots, n);
  if (!data)
    g_byte_array_set_size (archive, start + 512);
}

/* A byte of the archive, counted from its end; with the sum of the header around it put right. */
static void
change_byte (GByteArray *archive, guint32 first, Input *input, gboolean sum)
{
  guint32 back = get16 (input);
  guint8 value = (guint8)get (input);

  if (back >= archive->len - first)
    return;
  guint32 at = archive->len - 1 - back;
  archive->data[at] ^= value;
  for (guint32 start = at >= first + 511 ? at - 511 : first; sum && start <= at; start++)
    if (start + 512 <= archive->len && memcmp (archive->data + start, "VMAE", 4) == 0)
      synth_sum (archive->data + start, 512, 24);
}

static void
append_again (GByteArray *archive, guint32 first)
{
  guint size = archive->len - first;

  if (size >= EXTENTS_ARCHIVE_MAX / 2)
    return;
  g_autofree guint8 *copy = g_memdup2 (archive->data + first, size);
  g_byte_array_append (archive, copy, size);
}

void
extents_build (GByteArray *archive, Input *input)
{
  guint32 first = archive->len;

  while (input->left > 0 && archive->len < EXTENTS_ARCHIVE_MAX) {
    const guint8 *bytes;
    gsize n;
    switch (get (input) % 8) {
    case 0:
    case 1:
      add_extent (archive, input, TRUE);
      break;
    case 2: /* a header that promises data */
      add_extent (archive, input, FALSE);
      break;
    case 3: /* bytes gained */
      n = get_bytes (input, get (input) * 16u, &bytes);
      g_byte_array_append (archive, bytes, (guint)n);
      break;
    case 4: /* bytes lost */
      n = get (input) * 64u + get (input);
      g_byte_array_set_size (archive, archive->len - (guint)MIN (n, archive->len - first));
      break;
    case 5:
      change_byte (archive, first, input, FALSE);
      break;
    case 6:
      change_byte (archive, first, input, TRUE);
      break;
    case 7: /* all so far once more */
      append_again (archive, first);
      break;
    }
  }
}
