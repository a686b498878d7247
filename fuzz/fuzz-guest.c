/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest's disk says of itself, as far as we read it: boot records, and LVM's labels, metadata
 * areas and text.
 *
 * Input: the bytes, taken for each of these.  The sum of a metadata area is put right.
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "guest/layout.h"
#include "guest/lvm.h"
#include "vma/bytes.h"

#include <string.h>
#include <zlib.h>

static const char pv[] = "abcdef-0123-4567-89ab-cdef-0123-456789";

static void
check_text (const guint8 *bytes, gsize size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaLvmGroup) group = vma_lvm_parse ((const char *) bytes, size, pv, &error);

  CHECK ((group == NULL) == (error != NULL));
  for (guint i = 0; group != NULL && i < group->volumes->len; i++) {
    const VmaLvmVolume *v = g_ptr_array_index (group->volumes, i);
    CHECK (v->name != NULL && (v->is_window || v->layout != NULL));
    CHECK (!v->is_window || v->length > 0);
  }
}

static void
check_area (const guint8 *bytes, gsize size)
{
  g_autofree guint8 *area = g_memdup2 (bytes, size);

  memcpy (area + 4, " LVM2 x[5A%r0N*>", 16);
  guint64 offset = vma_get_le64 (area + 40), length = vma_get_le64 (area + 48);
  if (offset < size && length <= size - offset)
    vma_put_le32 (area + 56, ~(guint32) crc32 (~0xf597a6cfu, area + offset, (uInt) length));
  g_autoptr (GBytes) text = vma_lvm_area_text (area, size, NULL);
  if (text != NULL)
    check_text (g_bytes_get_data (text, NULL), g_bytes_get_size (text));
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  guint32 start, starts[4];
  guint64 offset, length;

  check_text (bytes, size);
  if (vma_lvm_find_area (bytes, size, &offset, &length))
    CHECK (offset > 0 && length > VMA_LVM_AREA_HEADER);
  if (size >= VMA_LAYOUT_SECTOR) {
    vma_layout_extended (bytes, &start);
    CHECK (vma_layout_primaries (bytes, starts) <= 4);
    vma_layout_elsewhere (bytes, &offset);
    check_area (bytes, size);
  }
  return 0;
}
