/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The archive header: a sound one, and every way to break it. */
#include "tests/unit/util.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>

static GByteArray *
sound_header (void)
{
  GByteArray *archive = util_generated ("tiny.vma");
  guint32 size = vma_header_peek_size (archive->data, archive->len, NULL);

  g_assert_cmpuint (size, >, VMA_HEADER_FIXED_SIZE);
  g_byte_array_set_size (archive, size);
  return archive;
}

/* Parses a copy that is exactly as long, so that a sanitizer sees each byte read too far. */
static VmaHeader *
parse (const guint8 *data, gsize size, GError **error)
{
  g_autofree guint8 *copy = g_memdup2 (data, size);
  VmaHeader *header = vma_header_parse (copy, size, error);

  g_assert_true ((header == NULL) == (error != NULL && *error != NULL));
  return header;
}

static void
test_sound (void)
{
  g_autoptr (GByteArray) data = sound_header ();
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaHeader) header = parse (data->data, data->len, &error);

  g_assert_no_error (error);
  g_assert_cmpint (header->ctime, ==, 1600000001);
  g_assert_cmpmem (header->uuid, 16, data->data + 8, 16);
  g_assert_cmpuint (header->devices->len, ==, 2);
  const VmaDevice *device = g_ptr_array_index (header->devices, 0);
  g_assert_cmpuint (device->id, ==, 1);
  g_assert_cmpuint (device->size, ==, 4 * 65536 + 700);
  g_assert_cmpuint (device->clusters, ==, 5);
  g_assert_cmpstr (device->name, ==, "drive-scsi0");
  g_assert_true (header->by_id[1] == device);
  g_assert_null (header->by_id[3]);
  g_assert_cmpuint (header->configs->len, ==, 1);
  const VmaConfig *config = g_ptr_array_index (header->configs, 0);
  g_assert_cmpstr (config->name, ==, "qemu-server.conf");
  g_assert_cmpmem (g_bytes_get_data (config->data, NULL), g_bytes_get_size (config->data),
                   "bootdisk: scsi0\nmemory: 512\n", 28);
}

static void
test_truncated (void)
{
  g_autoptr (GByteArray) data = sound_header ();

  for (gsize size = 0; size < data->len; size += size < 64 ? 1 : 37) {
    g_autoptr (GError) error = NULL;
    g_assert_null (parse (data->data, size, &error));
    g_assert_true (error->domain == VMA_ERROR);
  }
}

/* One changed bit anywhere is noticed. */
static void
test_flip (void)
{
  g_autoptr (GByteArray) data = sound_header ();

  for (gsize i = 0; i < data->len; i++) {
    g_autoptr (GError) error = NULL;
    data->data[i] ^= (guint8) (1 << (i % 8));
    g_assert_null (parse (data->data, data->len, &error));
    data->data[i] ^= (guint8) (1 << (i % 8));
  }
}

/* With the checksum put right again it may be a header, but it must be a sane one. */
static void
check_sane (const VmaHeader *header, gsize size)
{
  g_assert_cmpuint (header->size, <=, size);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    g_assert_cmpuint (device->id, >=, 1);
    g_assert_cmpuint (device->id, <=, 254);
    g_assert_cmpuint (device->size, >, 0);
    g_assert_cmpuint (device->clusters, <=, VMA_MAX_CLUSTERS);
    g_assert_true (header->by_id[device->id] == device);
  }
  g_autoptr (VmaNames) names = vma_names_new (header);
  for (guint i = 0; i < header->configs->len; i++) {
    g_assert_null (strchr (vma_names_config (names, i), '/'));
    g_assert_cmpstr (vma_names_config (names, i), !=, "");
  }
}

static void
test_flip_with_checksum (void)
{
  g_autoptr (GByteArray) data = sound_header ();
  const guint8 flips[] = { 0x01, 0x80, 0xff };

  for (gsize i = 0; i < data->len; i++)
    for (guint f = 0; f < G_N_ELEMENTS (flips); f++) {
      g_autoptr (GByteArray) changed = g_byte_array_new ();
      g_byte_array_append (changed, data->data, data->len);
      changed->data[i] ^= flips[f];

      /* The size may be what was changed. */
      guint32 size = vma_header_peek_size (changed->data, changed->len, NULL);
      if (size != 0 && size <= changed->len)
        util_fix_md5 (changed->data, size, VMA_HEADER_OFF_MD5);
      g_autoptr (GError) error = NULL;
      g_autoptr (VmaHeader) header = parse (changed->data, changed->len, &error);
      if (header != NULL)
        check_sane (header, changed->len);
    }
}

static void
test_random (void)
{
  g_autoptr (GByteArray) data = sound_header ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (2);

  for (guint round = 0; round < 5000; round++) {
    g_autoptr (GByteArray) changed = g_byte_array_new ();
    g_byte_array_append (changed, data->data, data->len);
    /* In the fields that steer: pointers, sizes, names. */
    for (int n = g_rand_int_range (rand, 1, 6); n > 0; n--) {
      static const guint32 places[][2]
          = { { 48, 12 }, { 2044, 16 }, { 3068, 16 }, { 4096, 128 }, { 12288, 200 } };
      const guint32 *place = places[g_rand_int_range (rand, 0, G_N_ELEMENTS (places))];
      gsize at = place[0] + (gsize) g_rand_int_range (rand, 0, (gint32) place[1]);
      changed->data[at] = (guint8) g_rand_int (rand);
    }
    guint32 size = vma_header_peek_size (changed->data, changed->len, NULL);
    if (size != 0 && size <= changed->len)
      util_fix_md5 (changed->data, size, VMA_HEADER_OFF_MD5);
    g_autoptr (GError) error = NULL;
    g_autoptr (VmaHeader) header = parse (changed->data, changed->len, &error);
    if (header != NULL)
      check_sane (header, changed->len);
  }
}

/* A header size that no memory could hold must be refused before anything is allocated. */
static void
test_sizes (void)
{
  g_autoptr (GByteArray) data = sound_header ();
  const guint32 bad[] = { 0, 1, 12287, 12288, 0x7fffffff, 0xffffffff, VMA_HEADER_MAX_SIZE + 1 };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    vma_put_be32 (data->data + 56, bad[i]);
    g_assert_cmpuint (vma_header_peek_size (data->data, data->len, &error), ==, 0);
    g_assert_error (error, VMA_ERROR, VMA_ERROR_HEADER);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/header/sound", test_sound);
  g_test_add_func ("/header/truncated", test_truncated);
  g_test_add_func ("/header/flip", test_flip);
  g_test_add_func ("/header/flip-with-checksum", test_flip_with_checksum);
  g_test_add_func ("/header/random", test_random);
  g_test_add_func ("/header/sizes", test_sizes);
  return g_test_run ();
}
