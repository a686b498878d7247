/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Headers and extent headers: each rule of the format, and the offset that each error names. */
#include "tests/unit/synth.h"

#include "vma/error.h"

#include <string.h>

static VmaHeader *
parse (const GByteArray *bytes, GError **error)
{
  /* A copy of exactly that size, so that a sanitizer sees each byte read too far. */
  g_autofree guint8 *copy = g_memdup2 (bytes->data, bytes->len);
  VmaHeader *header = vma_header_parse (copy, bytes->len, error);

  g_assert_true ((header == NULL) == (*error != NULL));
  return header;
}

/* Refused, at this offset of the header. */
static void
check_refused (const GByteArray *bytes, guint64 offset)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *prefix = g_strdup_printf ("header at %" G_GUINT64_FORMAT ": ", offset);

  g_assert_null (parse (bytes, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_HEADER);
  if (!g_str_has_prefix (error->message, prefix))
    g_error ("'%s' instead of '%s...'", error->message, prefix);
}

/* The header of a builder that was tampered with; its sum is right. */
static void
check_builder_refused (SynthHeader *header, guint64 offset)
{
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);

  check_refused (bytes, offset);
}

static VmaHeader *
parse_builder (SynthHeader *header)
{
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);
  g_autoptr (GError) error = NULL;
  VmaHeader *parsed = parse (bytes, &error);

  g_assert_no_error (error);
  return parsed;
}

static SynthHeader *
small_header (void)
{
  SynthHeader *header = synth_header_new ();

  synth_header_device (header, 1, "drive-scsi0", 65536);
  synth_header_config (header, 0, "qemu-server.conf", "a: b\n", 5);
  return header;
}

static void
test_empty (void)
{
  g_autoptr (SynthHeader) header = synth_header_new ();
  g_autoptr (VmaHeader) parsed = parse_builder (header);

  g_assert_cmpuint (parsed->devices->len, ==, 0);
  g_assert_cmpuint (parsed->configs->len, ==, 0);
  g_assert_cmpuint (parsed->size, ==, 12288 + 512);
  g_assert_cmpint (parsed->ctime, ==, 1234567890);
  g_assert_cmpmem (parsed->uuid, 16, synth_uuid, 16);
  g_assert_false (parsed->has_vmstate);
}

/* All slots taken, and every blob as long as a blob can be. */
static void
test_full (void)
{
  g_autoptr (SynthHeader) header = synth_header_new ();
  gsize longest = synth_scale () < 1 ? 1000 : 65535;
  g_autofree char *name = g_strnfill (longest - 1, 'n');
  g_autofree guint8 *data = g_malloc (longest);

  for (guint id = 1; id <= 254; id++) {
    memcpy (name, &(char){ (char) ('A' + id % 26) }, 1);
    synth_header_device (header, id, name, id);
  }
  for (guint slot = 0; slot < 256; slot++) {
    memset (data, (int) slot, longest);
    synth_header_config (header, slot, name, data, longest);
  }
  g_autoptr (VmaHeader) parsed = parse_builder (header);

  g_assert_cmpuint (parsed->devices->len, ==, 254);
  for (guint i = 0; i < 254; i++) {
    const VmaDevice *device = g_ptr_array_index (parsed->devices, i);
    g_assert_cmpuint (device->id, ==, i + 1);
    g_assert_cmpuint (device->size, ==, i + 1);
    g_assert_cmpuint (strlen (device->name), ==, longest - 1);
    g_assert_cmpint (device->name[0], ==, 'A' + (int) (i + 1) % 26);
  }
  g_assert_cmpuint (parsed->configs->len, ==, 256);
  for (guint slot = 0; slot < 256; slot++) {
    const VmaConfig *config = g_ptr_array_index (parsed->configs, slot);
    gsize size;
    const guint8 *bytes = g_bytes_get_data (config->data, &size);
    g_assert_cmpuint (config->slot, ==, slot);
    g_assert_cmpuint (size, ==, longest);
    g_assert_cmpuint (bytes[0], ==, slot);
    g_assert_cmpuint (bytes[size - 1], ==, slot);
  }
}

static void
test_magic (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);

  for (guint i = 0; i < 4; i++) {
    g_autoptr (GError) error = NULL;
    bytes->data[i] ^= 0x20;
    g_assert_null (parse (bytes, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_NOT_VMA);
    bytes->data[i] ^= 0x20;
  }
  for (guint size = 0; size < 4; size++) {
    g_autoptr (GError) error = NULL;
    g_assert_cmpuint (vma_header_peek_size (bytes->data, size, &error), ==, 0);
    g_assert_error (error, VMA_ERROR, VMA_ERROR_NOT_VMA);
  }
}

static void
test_version (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  const guint32 versions[] = { 0, 2, 0x01000000, 0xffffffff };

  for (guint i = 0; i < G_N_ELEMENTS (versions); i++) {
    synth_put32 (header->fixed + 4, versions[i]);
    check_builder_refused (header, 4);
  }
}

static void
test_checksum (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);

  bytes->data[12288 + 20] ^= 1;
  check_refused (bytes, 32);
}

/* Every bit is covered: by the sum, or by what is checked before it. */
static void
test_every_bit (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);
  gsize step = synth_scale () < 1 ? 61 : 1;

  for (gsize bit = 0; bit < 8 * (gsize) bytes->len; bit += step) {
    g_autoptr (GError) error = NULL;
    bytes->data[bit / 8] ^= (guint8) (1 << bit % 8);
    g_assert_null (vma_header_parse (bytes->data, bytes->len, &error));
    bytes->data[bit / 8] ^= (guint8) (1 << bit % 8);
  }
}

static void
test_size (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);
  const guint32 bad[] = { 0, 512, 12287, 12288, VMA_HEADER_MAX_SIZE + 1, 0x80000000, 0xffffffff };
  guint32 right = synth_get32 (bytes->data + 56);

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    synth_put32 (bytes->data + 56, bad[i]);
    check_refused (bytes, 56);
  }
  /* The largest is allowed, but the file is not that long. */
  synth_put32 (bytes->data + 56, VMA_HEADER_MAX_SIZE);
  g_assert_cmpuint (vma_header_peek_size (bytes->data, bytes->len, NULL), ==, VMA_HEADER_MAX_SIZE);
  check_refused (bytes, 0);

  /* What follows a header does not matter, and it may be of any length. */
  for (guint32 more = 0; more < 3; more++) {
    g_autoptr (GError) error = NULL;
    g_byte_array_set_size (bytes, right + more);
    bytes->data[right + more - 1] = 0;
    synth_put32 (bytes->data + 56, right + more);
    synth_sum (bytes->data, right + more, 32);
    g_autoptr (VmaHeader) parsed = parse (bytes, &error);
    g_assert_no_error (error);
    g_assert_cmpuint (parsed->size, ==, right + more);
  }
}

static void
test_truncated (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);

  while (bytes->len > 4) {
    g_byte_array_set_size (bytes, bytes->len - (bytes->len > 12200 ? 1 : 97 % bytes->len));
    if (bytes->len >= 4)
      check_refused (bytes, 0);
  }
}

static void
test_blob_buffer (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);
  guint32 used = header->blobs->len, size = bytes->len;
  const guint32 bad[][2] = {
    { 0, used },
    { 12287, used },
    { 12288, size - 12288 + 1 },
    { size, 1 },
    { size + 1, 0 },
    { 12288, 0xffffffff },
    { 0xffffffff, 0xffffffff },
    { 0xffffd000, 12288 }, /* wraps around to 0 in 32 bits */
    { 0xfffff000, 0x5000 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    synth_put32 (bytes->data + 48, bad[i][0]);
    synth_put32 (bytes->data + 52, bad[i][1]);
    synth_sum (bytes->data, size, 32);
    check_refused (bytes, 48);
  }
}

/* The buffer may stand anywhere behind the fixed part. */
static void
test_blob_buffer_elsewhere (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);
  guint32 used = header->blobs->len, at = 12288 + 777;
  g_autoptr (GError) error = NULL;

  g_byte_array_set_size (bytes, at + used);
  memset (bytes->data + 12288, 0xee, at + used - 12288);
  memcpy (bytes->data + at, header->blobs->data, used);
  synth_put32 (bytes->data + 48, at);
  synth_put32 (bytes->data + 56, at + used);
  synth_sum (bytes->data, bytes->len, 32);
  g_autoptr (VmaHeader) parsed = parse (bytes, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (parsed->by_id[1]->name, ==, "drive-scsi0");
}

/* A blob that ends exactly with the buffer is one, and one byte less is an error that says where.
 */
static void
test_blob_walk (void)
{
  g_autoptr (SynthHeader) header = small_header ();
  guint32 last = synth_header_blob (header, "last", 4);
  g_autoptr (GByteArray) bytes = synth_header_bytes (header);
  guint32 used = header->blobs->len;
  g_autoptr (GError) error = NULL;

  for (guint32 cut = 1; cut <= 4; cut++) {
    synth_put32 (bytes->data + 52, used - cut);
    synth_sum (bytes->data, bytes->len, 32);
    check_refused (bytes, 12288 + last);
  }
  /* Less than a length: no blob at all. */
  for (guint32 cut = 5; cut <= 6; cut++) {
    synth_put32 (bytes->data + 52, used - cut);
    synth_sum (bytes->data, bytes->len, 32);
    g_autoptr (VmaHeader) parsed = parse (bytes, &error);
    g_assert_no_error (error);
  }
  /* A length that is read as little-endian. */
  bytes->data[12288 + last] = 0;
  bytes->data[12288 + last + 1] = 1;
  synth_put32 (bytes->data + 52, used);
  synth_sum (bytes->data, bytes->len, 32);
  check_refused (bytes, 12288 + last);
}

/* Only where a walk from offset 1 comes by there is a blob. */
static void
test_config_pointers (void)
{
  for (guint slot = 0; slot < 256; slot += 51) {
    const guint name_at = 2044 + 4 * slot, data_at = 3068 + 4 * slot;
    g_autoptr (SynthHeader) header = small_header ();
    guint32 name = synth_header_blob (header, "n", 2), data = synth_header_blob (header, "xy", 2);
    guint32 raw = synth_header_blob (header, "no-nul", 6), none = synth_header_blob (header, "", 0);
    guint32 empty = synth_header_blob (header, "", 1);
    guint32 end = header->blobs->len;
    const guint32 bad_names[]
        = { 0, name + 1, raw, none, empty, end, end + 1, 0x7fffffff, 0xffffffff };
    const guint32 bad_data[] = { 0, data + 1, data + 2, end, 0xffffffff };

    for (guint i = 0; i < G_N_ELEMENTS (bad_names); i++) {
      synth_put32 (header->fixed + name_at, bad_names[i]);
      synth_put32 (header->fixed + data_at, data);
      check_builder_refused (header, name_at);
    }
    for (guint i = 0; i < G_N_ELEMENTS (bad_data); i++) {
      synth_put32 (header->fixed + name_at, name);
      synth_put32 (header->fixed + data_at, bad_data[i]);
      check_builder_refused (header, data_at);
    }
    /* Data may be empty, may have no NUL, and may be shared. */
    synth_put32 (header->fixed + data_at, none);
    g_autoptr (VmaHeader) parsed = parse_builder (header);
    g_assert_cmpuint (parsed->configs->len, ==, slot == 0 ? 1 : 2);
    const VmaConfig *config = g_ptr_array_index (parsed->configs, parsed->configs->len - 1);
    g_assert_cmpuint (config->slot, ==, slot);
    g_assert_cmpstr (config->name, ==, "n");
    g_assert_cmpuint (g_bytes_get_size (config->data), ==, 0);
  }
}

/* A device is there where its size is not 0 and its name resolves; else it is not, and no error. */
static void
test_devices (void)
{
  g_autoptr (SynthHeader) header = synth_header_new ();
  guint32 raw = synth_header_blob (header, "no-nul", 6);

  synth_header_device (header, 0, "zero", 4096);
  synth_header_device (header, 1, "a", 1);
  synth_header_device (header, 2, "no-size", 0);
  synth_header_device (header, 3, "no-name", 4096);
  synth_put32 (header->fixed + 4096 + 32 * 3, 0);
  synth_header_device (header, 4, "bad-name", 4096);
  synth_put32 (header->fixed + 4096 + 32 * 4, raw);
  synth_header_device (header, 5, "lost-name", 4096);
  synth_put32 (header->fixed + 4096 + 32 * 5, 0xfffffff0);
  synth_header_device (header, 253, "", 65537);
  synth_header_device (header, 254, "last", G_GUINT64_CONSTANT (1) << 48);
  synth_header_device (header, 255, "reserved", 4096);
  memset (header->fixed + 4096 + 32 + 16, 0xff, 16); /* reserved bytes */

  g_autoptr (VmaHeader) parsed = parse_builder (header);
  g_assert_cmpuint (parsed->devices->len, ==, 3);
  g_assert_cmpuint (parsed->by_id[1]->clusters, ==, 1);
  g_assert_cmpstr (parsed->by_id[253]->name, ==, "");
  g_assert_cmpuint (parsed->by_id[253]->clusters, ==, 2);
  g_assert_cmpuint (parsed->by_id[254]->clusters, ==, G_GUINT64_CONSTANT (1) << 32);
  for (guint id = 0; id < 256; id++)
    if (id != 1 && id != 253 && id != 254)
      g_assert_null (parsed->by_id[id]);
}

static void
test_device_too_large (void)
{
  const guint64 sizes[] = { (G_GUINT64_CONSTANT (1) << 48) + 1, G_MAXUINT64 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
    g_autoptr (SynthHeader) header = small_header ();
    synth_header_device (header, 200, "huge", sizes[i]);
    check_builder_refused (header, 4096 + 32 * 200 + 8);
  }
}

static void
test_vmstate (void)
{
  g_autoptr (SynthHeader) header = synth_header_new ();

  synth_header_device (header, 7, "vmstate", 4096);
  synth_header_device (header, 9, "vmstate", 8192);
  synth_header_device (header, 11, "vmstate2", 8192);
  g_autoptr (VmaHeader) parsed = parse_builder (header);

  g_assert_true (parsed->has_vmstate);
  g_assert_true (parsed->by_id[7]->is_vmstate);
  g_assert_cmpuint (parsed->by_id[7]->size, ==, 4096);
  g_assert_cmpuint (parsed->by_id[7]->clusters, ==, G_GUINT64_CONSTANT (1) << 32);
  g_assert_false (parsed->by_id[9]->is_vmstate);
  g_assert_false (parsed->by_id[11]->is_vmstate);
}

/* --- extents ----------------------------------------------------------------------------------- */

static gboolean
parse_extent (const guint8 *bytes, VmaExtent *extent, const char *reason)
{
  g_autoptr (GError) error = NULL;
  gboolean ok = vma_extent_parse (bytes, synth_uuid, extent, &error);

  g_assert_true (ok == (error == NULL));
  if (!ok)
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
  if (!ok && reason != NULL && strstr (error->message, reason) == NULL)
    g_error ("'%s' instead of '%s'", error->message, reason);
  return ok;
}

static void
test_extent_slots (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  for (guint round = 0; round < 2000; round++) {
    guint n = (guint) g_rand_int_range (rand, 0, 60), used = 0;
    guint32 offset = 512;
    SynthSlot slots[59];
    VmaExtent extent;
    guint8 bytes[512];

    for (guint i = 0; i < n; i++)
      slots[i] = (SynthSlot){ (guint) g_rand_int_range (rand, 0, 4) * 85, g_rand_int (rand),
                              (guint16) (g_rand_boolean (rand) ? 0xffff : g_rand_int (rand)) };
    synth_extent (bytes, slots, n);
    g_assert_true (vma_extent_checksum_is_right (bytes));
    g_assert_true (parse_extent (bytes, &extent, NULL));
    for (guint i = 0; i < n; i++) {
      if (slots[i].device == 0)
        continue;
      const VmaSlot *slot = &extent.slots[used++];
      g_assert_cmpuint (slot->device, ==, slots[i].device);
      g_assert_cmpuint (slot->cluster, ==, slots[i].cluster);
      g_assert_cmphex (slot->mask, ==, slots[i].mask);
      g_assert_cmpuint (slot->offset, ==, offset);
      for (guint bit = 0; bit < 16; bit++)
        offset += (slots[i].mask >> bit & 1) * 4096;
    }
    g_assert_cmpuint (extent.n_slots, ==, used);
    g_assert_cmpuint (extent.size, ==, offset);
  }
}

static void
test_extent_errors (void)
{
  const SynthSlot slots[] = { { 1, 5, 0xffff }, { 0 }, { 2, 6, 0x0101 } };
  VmaExtent extent;
  guint8 good[512], bytes[512];

  synth_extent (good, slots, 3);

#define CHANGED(at, value, sum, reason)                                                            \
  G_STMT_START                                                                                     \
  {                                                                                                \
    memcpy (bytes, good, 512);                                                                     \
    bytes[at] = (value);                                                                           \
    if (sum)                                                                                       \
      synth_sum (bytes, 512, 24);                                                                  \
    g_assert_false (parse_extent (bytes, &extent, (reason)));                                      \
  }                                                                                                \
  G_STMT_END

  CHANGED (3, 'F', TRUE, "no extent header");
  CHANGED (8, 0x5b, TRUE, "uuid");
  CHANGED (23, 0, TRUE, "uuid");
  CHANGED (511, 1, FALSE, "checksum");
  CHANGED (24, (guint8) (good[24] ^ 0xff), FALSE, "checksum");
  CHANGED (4, 1, TRUE, "reserved");
  CHANGED (5, 1, TRUE, "reserved");
  CHANGED (7, 17, TRUE, "block count");
  CHANGED (7, 19, TRUE, "block count");
  CHANGED (6, 0xff, TRUE, "block count");
  CHANGED (40 + 3, 0, TRUE, "block count"); /* one slot fewer is used */
#undef CHANGED

  /* What the reference ignores: a slot's reserved byte, and all of a slot that is not used. */
  memcpy (bytes, good, 512);
  bytes[40 + 2] = 0xff;
  memset (bytes + 48, 0xff, 3);
  memset (bytes + 52, 0xff, 4);
  synth_sum (bytes, 512, 24);
  g_assert_true (parse_extent (bytes, &extent, NULL));
  g_assert_cmpuint (extent.n_slots, ==, 2);
}

/* The block count has 16 bits, and 59 full clusters are 944. */
static void
test_extent_largest (void)
{
  SynthSlot slots[59];
  VmaExtent extent;
  guint8 bytes[512];

  for (guint i = 0; i < 59; i++)
    slots[i] = (SynthSlot){ 254, G_MAXUINT32 - i, 0xffff };
  synth_extent (bytes, slots, 59);
  g_assert_true (parse_extent (bytes, &extent, NULL));
  g_assert_cmpuint (extent.size, ==, 3867136);
  g_assert_cmpuint (extent.size, ==, VMA_EXTENT_MAX_SIZE);
  g_assert_cmpuint (extent.slots[58].offset, ==, 512 + 58 * 65536);
}

static void
test_extent_every_bit (void)
{
  const SynthSlot slots[] = { { 1, 5, 0xffff }, { 1, 6, 0 }, { 3, 7, 0x8001 } };
  VmaExtent extent;
  guint8 bytes[512];

  synth_extent (bytes, slots, 3);
  for (guint bit = 0; bit < 8 * 512; bit++) {
    bytes[bit / 8] ^= (guint8) (1 << bit % 8);
    g_assert_false (parse_extent (bytes, &extent, NULL));
    g_assert_false (vma_extent_checksum_is_right (bytes));
    bytes[bit / 8] ^= (guint8) (1 << bit % 8);
  }
  g_assert_true (parse_extent (bytes, &extent, NULL));
}

/* Against the plainest search there is, in buffers full of beginnings. */
static void
test_search (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (3);

  for (guint round = 0; round < 3000; round++) {
    gsize size = (gsize) g_rand_int_range (rand, 0, 200);
    g_autofree guint8 *data = g_malloc0 (size + 1);

    for (guint n = 0; n < 6 && size > 0; n++) {
      gsize at = (gsize) g_rand_int_range (rand, 0, (gint32) size);
      guint8 head[24] = "VMAE";
      memcpy (head + 8, synth_uuid, 16);
      if (g_rand_int_range (rand, 0, 3) == 0)
        head[g_rand_int_range (rand, 0, 24)] ^= 1;
      memcpy (data + at, head, MIN (24, size - at));
    }
    g_autofree guint8 *exact = g_memdup2 (data, size);
    for (gsize from = 0; from <= size; from++) {
      gsize wanted = size;
      for (gsize at = from; wanted == size && at + 24 <= size; at++)
        if (memcmp (data + at, "VMAE", 4) == 0 && memcmp (data + at + 8, synth_uuid, 16) == 0)
          wanted = at;
      g_assert_cmpuint (vma_extent_search (exact, size, from, synth_uuid), ==, wanted);
    }
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/format/header/empty", test_empty);
  g_test_add_func ("/format/header/full", test_full);
  g_test_add_func ("/format/header/magic", test_magic);
  g_test_add_func ("/format/header/version", test_version);
  g_test_add_func ("/format/header/checksum", test_checksum);
  g_test_add_func ("/format/header/every-bit", test_every_bit);
  g_test_add_func ("/format/header/size", test_size);
  g_test_add_func ("/format/header/truncated", test_truncated);
  g_test_add_func ("/format/header/blob-buffer", test_blob_buffer);
  g_test_add_func ("/format/header/blob-buffer-elsewhere", test_blob_buffer_elsewhere);
  g_test_add_func ("/format/header/blob-walk", test_blob_walk);
  g_test_add_func ("/format/header/config-pointers", test_config_pointers);
  g_test_add_func ("/format/header/devices", test_devices);
  g_test_add_func ("/format/header/device-too-large", test_device_too_large);
  g_test_add_func ("/format/header/vmstate", test_vmstate);
  g_test_add_func ("/format/extent/slots", test_extent_slots);
  g_test_add_func ("/format/extent/errors", test_extent_errors);
  g_test_add_func ("/format/extent/largest", test_extent_largest);
  g_test_add_func ("/format/extent/every-bit", test_extent_every_bit);
  g_test_add_func ("/format/extent/search", test_search);
  return g_test_run ();
}
