/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device mapper: pieces of block devices, put together to one.
 *
 * A logical volume in pieces is put together by us and not by LVM, from loop devices that begin
 * behind LVM's own data.  So LVM never sees the guest's volume group: it cannot be activated by
 * accident, nor be confused with one of this machine.
 *
 * The device is removed by the kernel when its last user closes it.  Main thread.
 */
#pragma once

#include "mount-helper/loop.h"

#include <gio/gio.h>

typedef struct {
  const char *device;
  guint64 offset, length; /* bytes, whole sectors */
} MapperPiece;

/* Whether there is a device mapper, and dmsetup; else an error says what to do. */
gboolean mapper_check (GError **error);

/* A descriptor of a device made of `n` pieces, or -1; `path` gets its name. */
int mapper_create (const MapperPiece *pieces, guint n, gboolean writable, const LoopTag *tag,
                   char **path, GError **error);

/* FALSE: `path` is not one of ours. */
gboolean mapper_get_tag (const char *path, LoopTag *tag);
