/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integers in byte buffers, whatever the host's byte order and alignment rules.
 *
 * Pure inline functions; any thread.  `p` must point at as many readable (or writable) bytes as the
 * name says.
 */
#pragma once

#include <glib.h>

static inline guint16
vma_get_be16 (const guint8 *p)
{
  return (guint16) ((p[0] << 8) | p[1]);
}

static inline guint32
vma_get_be32 (const guint8 *p)
{
  return ((guint32) p[0] << 24) | ((guint32) p[1] << 16) | ((guint32) p[2] << 8) | p[3];
}

static inline guint64
vma_get_be64 (const guint8 *p)
{
  return ((guint64) vma_get_be32 (p) << 32) | vma_get_be32 (p + 4);
}

static inline guint16
vma_get_le16 (const guint8 *p)
{
  return (guint16) (p[0] | (p[1] << 8));
}

static inline guint32
vma_get_le32 (const guint8 *p)
{
  /* Callers have checked; the analyzer does not follow a product of sizes.
   * NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
  return p[0] | ((guint32) p[1] << 8) | ((guint32) p[2] << 16) | ((guint32) p[3] << 24);
}

static inline guint64
vma_get_le64 (const guint8 *p)
{
  return vma_get_le32 (p) | ((guint64) vma_get_le32 (p + 4) << 32);
}

static inline void
vma_put_be16 (guint8 *p, guint16 v)
{
  p[0] = (guint8) (v >> 8);
  p[1] = (guint8) v;
}

static inline void
vma_put_be32 (guint8 *p, guint32 v)
{
  vma_put_be16 (p, (guint16) (v >> 16));
  vma_put_be16 (p + 2, (guint16) v);
}

static inline void
vma_put_be64 (guint8 *p, guint64 v)
{
  vma_put_be32 (p, (guint32) (v >> 32));
  vma_put_be32 (p + 4, (guint32) v);
}

static inline void
vma_put_le16 (guint8 *p, guint16 v)
{
  p[0] = (guint8) v;
  p[1] = (guint8) (v >> 8);
}

static inline void
vma_put_le32 (guint8 *p, guint32 v)
{
  vma_put_le16 (p, (guint16) v);
  vma_put_le16 (p + 2, (guint16) (v >> 16));
}

static inline void
vma_put_le64 (guint8 *p, guint64 v)
{
  vma_put_le32 (p, (guint32) v);
  vma_put_le32 (p + 4, (guint32) (v >> 32));
}
