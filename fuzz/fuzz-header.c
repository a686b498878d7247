/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The archive's header and the names made from it.
 *
 * Input: a sequence of changes to a sound header, each { u16 place, u8 n, n bytes } with places
 * 0..32767; the sum is put right afterwards.  Without that nothing would get past it.
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "tests/unit/synth.h"
#include "vma/names.h"

#include <stdlib.h>
#include <string.h>

static GByteArray *
base_header (void)
{
  g_autoptr (SynthHeader) header = synth_header_new ();

  synth_header_device (header, 1, "drive-scsi0", 100000);
  synth_header_device (header, 2, "vmstate", 4096);
  synth_header_device (header, 254, "a/b", 512);
  synth_header_config (header, 0, "qemu-server.conf", "a: b\n", 5);
  synth_header_config (header, 255, "..", "", 0);
  return synth_header_bytes (header);
}

static void
check_name (GHashTable *seen, const char *name)
{
  CHECK (*name != '\0' && strchr (name, '/') == NULL && strlen (name) <= 255);
  CHECK (strcmp (name, ".") != 0 && strcmp (name, "..") != 0 && strcmp (name, ".vmafs") != 0);
  CHECK (g_utf8_validate (name, -1, NULL));
  CHECK (g_hash_table_add (seen, (gpointer) name));
}

static void
check_header (const VmaHeader *header, gsize size)
{
  g_autoptr (VmaNames) names = vma_names_new (header);
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
  guint vmstates = 0;

  CHECK (header->size > VMA_HEADER_FIXED_SIZE && header->size <= size);
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    CHECK (device->id >= 1 && device->id <= 254 && header->by_id[device->id] == device);
    CHECK (device->size > 0 && device->size <= VMA_MAX_DEVICE_SIZE);
    CHECK (device->is_vmstate || device->clusters == (device->size - 1) / 65536 + 1);
    vmstates += device->is_vmstate;
    check_name (seen, vma_names_device (names, device->id));
  }
  CHECK (vmstates == (header->has_vmstate ? 1 : 0));
  for (guint i = 0; i < header->configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (header->configs, i);
    CHECK (*config->name != '\0' && g_bytes_get_size (config->data) <= VMA_MAX_BLOB);
    check_name (seen, vma_names_config (names, i));
  }
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  g_autoptr (GByteArray) header = base_header ();
  g_autoptr (GError) error = NULL, raw_error = NULL;

  CHECK (vma_header_peek_size (bytes, size, &raw_error) > 0 || raw_error != NULL);
  while (size >= 3) {
    guint place = (bytes[0] & 0x7f) * 256u + bytes[1];
    gsize n = MIN (bytes[2], size - 3);

    if (place + n > header->len) {
      guint old = header->len;
      g_byte_array_set_size (header, (guint) (place + n));
      memset (header->data + old, 0, header->len - old);
    }
    memcpy (header->data + place, bytes + 3, n);
    bytes += 3 + n;
    size -= 3 + n;
  }
  guint32 claimed = synth_get32 (header->data + 56);
  if (claimed > 48 && claimed <= header->len)
    synth_sum (header->data, claimed, 32);

  g_autofree guint8 *exact = g_memdup2 (header->data, header->len);
  g_autoptr (VmaHeader) parsed = vma_header_parse (exact, header->len, &error);
  CHECK ((parsed == NULL) == (error != NULL));
  if (parsed != NULL)
    check_header (parsed, header->len);
  return 0;
}
