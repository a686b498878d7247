/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vma/md5.h"

#include <string.h>

void
vma_md5_around (const guint8 *data, gsize size, gsize field, guint8 digest[VMA_MD5_SIZE])
{
  static const guint8 zeros[VMA_MD5_SIZE];
  gsize digest_size = VMA_MD5_SIZE;
  g_autoptr (GChecksum) md5 = g_checksum_new (G_CHECKSUM_MD5);

  g_assert (size >= VMA_MD5_SIZE && field <= size - VMA_MD5_SIZE);

  g_checksum_update (md5, data, (gssize) field);
  g_checksum_update (md5, zeros, sizeof zeros);
  g_checksum_update (md5, data + field + VMA_MD5_SIZE, (gssize) (size - field - VMA_MD5_SIZE));
  g_checksum_get_digest (md5, digest, &digest_size);
}

gboolean
vma_md5_matches (const guint8 *data, gsize size, gsize field)
{
  guint8 digest[VMA_MD5_SIZE];

  vma_md5_around (data, size, field, digest);
  return memcmp (digest, data + field, VMA_MD5_SIZE) == 0;
}
