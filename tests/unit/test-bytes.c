/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integers come out the same on every host, at odd addresses too. */
#include "vma/bytes.h"

static const guint8 raw[] = { 0xff, 0x81, 0x02, 0x83, 0x04, 0x85, 0x06, 0x87, 0x08 };

static void
test_get (void)
{
  g_assert_cmphex (vma_get_be16 (raw + 1), ==, 0x8102);
  g_assert_cmphex (vma_get_be32 (raw + 1), ==, 0x81028304);
  g_assert_cmphex (vma_get_be64 (raw + 1), ==, G_GUINT64_CONSTANT (0x8102830485068708));
  g_assert_cmphex (vma_get_le16 (raw + 1), ==, 0x0281);
  g_assert_cmphex (vma_get_le32 (raw + 1), ==, 0x04830281);
  g_assert_cmphex (vma_get_le64 (raw + 1), ==, G_GUINT64_CONSTANT (0x0887068504830281));
}

static void
test_put (void)
{
  guint8 out[9] = { 0xff };

  vma_put_be64 (out + 1, G_GUINT64_CONSTANT (0x8102830485068708));
  g_assert_cmpmem (out, 9, raw, 9);
  vma_put_le64 (out + 1, G_GUINT64_CONSTANT (0x0887068504830281));
  g_assert_cmpmem (out, 9, raw, 9);
  vma_put_be32 (out + 1, 0x81028304);
  vma_put_le32 (out + 5, 0x08870685);
  g_assert_cmpmem (out, 9, raw, 9);
  vma_put_be16 (out + 3, 0x8304);
  vma_put_le16 (out + 1, 0x0281);
  g_assert_cmpmem (out, 9, raw, 9);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/bytes/get", test_get);
  g_test_add_func ("/bytes/put", test_put);
  return g_test_run ();
}
