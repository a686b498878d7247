/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's file system on a directory, in one step: the archive's images, a loop device on the
 * right part of one of them, and the mount.
 *
 * Each layer is held by nothing but the one above: the images are a detached mount (driver.h),
 * which the loop device's open file keeps; the loop device clears itself when the file system on it
 * goes.  So whatever ends the mount on DIR, umount, umount -l, or the end of a container, ends all
 * of it; and if we fail or are killed half way, our descriptors close, with the same effect.
 *
 * Main thread.
 */
#pragma once

#include "mount-helper/arguments.h"

#include <gio/gio.h>

gboolean stack_mount (const MountArguments *arguments, GCancellable *cancellable, GError **error);
