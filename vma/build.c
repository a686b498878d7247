/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vma/build.h"

#include "vma/bytes.h"
#include "vma/error.h"
#include "vma/md5.h"

#include <string.h>

struct VmaHeaderBuilder {
  guint8 fixed[VMA_HEADER_FIXED_SIZE];
  GByteArray *blobs;
  guint n_configs, n_devices;
  GHashTable *config_names, *device_names;
};

VmaHeaderBuilder *
vma_header_builder_new (const guint8 uuid[VMA_UUID_SIZE], gint64 ctime)
{
  VmaHeaderBuilder *builder = g_new0 (VmaHeaderBuilder, 1);

  memcpy (builder->fixed, "VMA", 4);
  vma_put_be32 (builder->fixed + VMA_HEADER_OFF_VERSION, VMA_HEADER_VERSION);
  memcpy (builder->fixed + VMA_HEADER_OFF_UUID, uuid, VMA_UUID_SIZE);
  vma_put_be64 (builder->fixed + VMA_HEADER_OFF_CTIME, (guint64) ctime);
  builder->blobs = g_byte_array_new ();
  g_byte_array_append (builder->blobs, (const guint8 *) "", 1); /* offset 0 means "none" */
  builder->config_names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  builder->device_names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  return builder;
}

void
vma_header_builder_free (VmaHeaderBuilder *builder)
{
  g_byte_array_unref (builder->blobs);
  g_hash_table_unref (builder->config_names);
  g_hash_table_unref (builder->device_names);
  g_free (builder);
}

/* Appends a blob and returns its pointer. */
static guint32
add_blob (VmaHeaderBuilder *builder, const void *data, gsize size)
{
  guint32 pointer = builder->blobs->len;
  guint8 length[2];

  vma_put_le16 (length, (guint16) size);
  g_byte_array_append (builder->blobs, length, sizeof length);
  g_byte_array_append (builder->blobs, data, (guint) size);
  return pointer;
}

static gboolean
check_name (const char *name, GHashTable *taken, const char *what, GError **error)
{
  if (*name == '\0')
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "a %s needs a name", what);
  else if (strlen (name) + 1 > VMA_MAX_BLOB)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "the name of a %s is over %u bytes long", what,
                 VMA_MAX_BLOB - 1);
  else if (g_hash_table_contains (taken, name))
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "there are two %ss named '%s'", what, name);
  else
    return TRUE;
  return FALSE;
}

gboolean
vma_header_builder_add_config (VmaHeaderBuilder *builder, const char *name, const guint8 *data,
                               gsize size, GError **error)
{
  guint slot = builder->n_configs;

  if (slot == VMA_MAX_CONFIGS) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "an archive has room for %u configs",
                 VMA_MAX_CONFIGS);
    return FALSE;
  }
  if (!check_name (name, builder->config_names, "config", error))
    return FALSE;
  if (size > VMA_MAX_BLOB) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "config '%s' has %" G_GSIZE_FORMAT " bytes, and an archive takes %u", name, size,
                 VMA_MAX_BLOB);
    return FALSE;
  }
  g_hash_table_add (builder->config_names, g_strdup (name));
  vma_put_be32 (builder->fixed + VMA_HEADER_OFF_CONFIG_NAMES + 4 * slot,
                add_blob (builder, name, strlen (name) + 1));
  vma_put_be32 (builder->fixed + VMA_HEADER_OFF_CONFIG_DATA + 4 * slot,
                add_blob (builder, data, size));
  builder->n_configs++;
  return TRUE;
}

guint8
vma_header_builder_add_device (VmaHeaderBuilder *builder, const char *name, guint64 size,
                               GError **error)
{
  guint id = builder->n_devices + VMA_FIRST_DEVICE;

  if (id > VMA_LAST_DEVICE) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "an archive has room for %u disks",
                 VMA_LAST_DEVICE);
    return 0;
  }
  if (!check_name (name, builder->device_names, "disk", error))
    return 0;
  if (size == 0 || size > VMA_MAX_DEVICE_SIZE) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "disk '%s' has a size of %" G_GUINT64_FORMAT
                 " bytes, which an archive cannot hold",
                 name, size);
    return 0;
  }
  g_hash_table_add (builder->device_names, g_strdup (name));
  guint8 *info = builder->fixed + VMA_HEADER_OFF_DEVICES + VMA_DEVICE_INFO_SIZE * id;
  vma_put_be32 (info, add_blob (builder, name, strlen (name) + 1));
  vma_put_be64 (info + 8, size);
  builder->n_devices++;
  return (guint8) id;
}

GBytes *
vma_header_builder_finish (VmaHeaderBuilder *builder)
{
  guint32 used = builder->blobs->len;
  guint32 rounded = (used + 511) / 512 * 512;
  gsize size = VMA_HEADER_FIXED_SIZE + rounded;
  guint8 *data = g_malloc0 (size);

  memcpy (data, builder->fixed, VMA_HEADER_FIXED_SIZE);
  memcpy (data + VMA_HEADER_FIXED_SIZE, builder->blobs->data, used);
  vma_put_be32 (data + VMA_HEADER_OFF_BLOB_OFFSET, VMA_HEADER_FIXED_SIZE);
  vma_put_be32 (data + VMA_HEADER_OFF_BLOB_SIZE, used);
  vma_put_be32 (data + VMA_HEADER_OFF_SIZE, (guint32) size);
  vma_md5_around (data, size, VMA_HEADER_OFF_MD5, data + VMA_HEADER_OFF_MD5);
  return g_bytes_new_take (data, size);
}

void
vma_extent_encode (guint8 data[VMA_EXTENT_HEADER_SIZE], const guint8 uuid[VMA_UUID_SIZE],
                   const VmaSlot *slots, guint n)
{
  guint blocks = 0;

  g_assert (n <= VMA_EXTENT_SLOTS);
  memset (data, 0, VMA_EXTENT_HEADER_SIZE);
  memcpy (data, "VMAE", 4);
  memcpy (data + VMA_EXTENT_OFF_UUID, uuid, VMA_UUID_SIZE);
  for (guint i = 0; i < n; i++) {
    guint8 *raw = data + VMA_EXTENT_OFF_SLOTS + VMA_EXTENT_SLOT_SIZE * i;
    vma_put_be16 (raw, slots[i].mask);
    raw[3] = slots[i].device;
    vma_put_be32 (raw + 4, slots[i].cluster);
    blocks += vma_mask_blocks (slots[i].mask);
  }
  vma_put_be16 (data + VMA_EXTENT_OFF_BLOCK_COUNT, (guint16) blocks);
  vma_md5_around (data, VMA_EXTENT_HEADER_SIZE, VMA_EXTENT_OFF_MD5, data + VMA_EXTENT_OFF_MD5);
}
