/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extent headers: where data stand, and every way to break one. */
#include "tests/unit/util.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>

static const guint8 uuid[VMA_UUID_SIZE] = "0123456789abcdef";

static void
put_slot (guint8 *header, guint slot, guint16 mask, guint8 device, guint32 cluster)
{
  guint8 *raw = header + VMA_EXTENT_OFF_SLOTS + VMA_EXTENT_SLOT_SIZE * slot;

  vma_put_be16 (raw, mask);
  raw[3] = device;
  vma_put_be32 (raw + 4, cluster);
}

/* Three clusters in slots 0, 5 and 58. */
static void
make (guint8 header[VMA_EXTENT_HEADER_SIZE])
{
  memset (header, 0, VMA_EXTENT_HEADER_SIZE);
  memcpy (header, "VMAE", 4);
  vma_put_be16 (header + VMA_EXTENT_OFF_BLOCK_COUNT, 3 + 0 + 16);
  memcpy (header + VMA_EXTENT_OFF_UUID, uuid, VMA_UUID_SIZE);
  put_slot (header, 0, 0x8500, 1, 7);
  put_slot (header, 5, 0, 254, 0xffffffff);
  put_slot (header, 58, 0xffff, 2, 0);
  util_fix_md5 (header, VMA_EXTENT_HEADER_SIZE, VMA_EXTENT_OFF_MD5);
}

static void
test_sound (void)
{
  guint8 header[VMA_EXTENT_HEADER_SIZE];
  g_autoptr (GError) error = NULL;
  VmaExtent extent;

  make (header);
  g_assert_true (vma_extent_parse (header, uuid, &extent, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (extent.n_slots, ==, 3);
  g_assert_cmpuint (extent.size, ==, 512 + 19 * 4096);
  g_assert_cmpuint (extent.slots[0].mask, ==, 0x8500);
  g_assert_cmpuint (extent.slots[0].device, ==, 1);
  g_assert_cmpuint (extent.slots[0].cluster, ==, 7);
  g_assert_cmpuint (extent.slots[0].offset, ==, 512);
  g_assert_cmpuint (extent.slots[1].device, ==, 254);
  g_assert_cmpuint (extent.slots[1].cluster, ==, 0xffffffff);
  g_assert_cmpuint (extent.slots[1].mask, ==, 0);
  g_assert_cmpuint (extent.slots[2].offset, ==, 512 + 3 * 4096);
}

static void
test_flip (void)
{
  guint8 header[VMA_EXTENT_HEADER_SIZE];

  make (header);
  for (guint bit = 0; bit < 8 * VMA_EXTENT_HEADER_SIZE; bit++) {
    g_autoptr (GError) error = NULL;
    VmaExtent extent;

    header[bit / 8] ^= (guint8) (1 << (bit % 8));
    g_assert_false (vma_extent_parse (header, uuid, &extent, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
    header[bit / 8] ^= (guint8) (1 << (bit % 8));
  }
}

/* With the checksum right, what remains must hold together. */
static void
test_flip_with_checksum (void)
{
  guint8 header[VMA_EXTENT_HEADER_SIZE];
  guint accepted = 0;

  for (guint bit = 0; bit < 8 * VMA_EXTENT_HEADER_SIZE; bit++) {
    g_autoptr (GError) error = NULL;
    VmaExtent extent;
    guint blocks = 0;

    make (header);
    header[bit / 8] ^= (guint8) (1 << (bit % 8));
    util_fix_md5 (header, VMA_EXTENT_HEADER_SIZE, VMA_EXTENT_OFF_MD5);
    if (!vma_extent_parse (header, uuid, &extent, &error))
      continue;
    accepted++;
    /* Only slots and the checksum's own field can be changed so. */
    g_assert_cmpuint (bit / 8, >=, VMA_EXTENT_OFF_MD5);
    g_assert_cmpuint (extent.n_slots, <=, VMA_EXTENT_SLOTS);
    for (guint i = 0; i < extent.n_slots; i++) {
      g_assert_cmpuint (extent.slots[i].offset, ==, 512 + 4096 * blocks);
      blocks += vma_mask_blocks (extent.slots[i].mask);
    }
    g_assert_cmpuint (extent.size, ==, 512 + 4096 * blocks);
  }
  g_assert_cmpuint (accepted, >, 100);
}

static void
test_largest (void)
{
  guint8 header[VMA_EXTENT_HEADER_SIZE];
  g_autoptr (GError) error = NULL;
  VmaExtent extent;

  make (header);
  for (guint i = 0; i < VMA_EXTENT_SLOTS; i++)
    put_slot (header, i, 0xffff, 1, i);
  vma_put_be16 (header + VMA_EXTENT_OFF_BLOCK_COUNT, 59 * 16);
  util_fix_md5 (header, VMA_EXTENT_HEADER_SIZE, VMA_EXTENT_OFF_MD5);
  g_assert_true (vma_extent_parse (header, uuid, &extent, &error));
  g_assert_cmpuint (extent.size, ==, 3867136);
  g_assert_cmpuint (extent.size, ==, VMA_EXTENT_MAX_SIZE);
}

static void
test_search (void)
{
  guint8 header[VMA_EXTENT_HEADER_SIZE], other[VMA_UUID_SIZE] = "another archive";
  const gsize size = 9000;
  g_autofree guint8 *data = g_malloc0 (size);

  make (header);
  g_assert_cmpuint (vma_extent_search (data, size, 0, uuid), ==, size);
  memcpy (data + 1234, "VMAE", 4); /* a guest may well hold the magic */
  memcpy (data + 2345, header, sizeof header);
  memcpy (data + size - 24, header, 24);
  g_assert_cmpuint (vma_extent_search (data, size, 0, uuid), ==, 2345);
  g_assert_cmpuint (vma_extent_search (data, size, 2345, uuid), ==, 2345);
  g_assert_cmpuint (vma_extent_search (data, size, 2346, uuid), ==, size - 24);
  g_assert_cmpuint (vma_extent_search (data, size - 1, 2346, uuid), ==, size - 1);
  g_assert_cmpuint (vma_extent_search (data, size, size - 23, uuid), ==, size);
  g_assert_cmpuint (vma_extent_search (data, size, size, uuid), ==, size);
  g_assert_cmpuint (vma_extent_search (data, 0, 0, uuid), ==, 0);
  g_assert_cmpuint (vma_extent_search (data, size, 0, other), ==, size);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/extent/sound", test_sound);
  g_test_add_func ("/extent/flip", test_flip);
  g_test_add_func ("/extent/flip-with-checksum", test_flip_with_checksum);
  g_test_add_func ("/extent/largest", test_largest);
  g_test_add_func ("/extent/search", test_search);
  return g_test_run ();
}
