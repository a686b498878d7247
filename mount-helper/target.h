/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts a mount on the directory that the user named.  With -N the directory is one of another mount
 * name space.
 *
 * Main thread.
 */
#pragma once

#include "guest/guest.h"
#include "mount-helper/arguments.h"

/* A detached mount. */
gboolean target_attach (const MountArguments *arguments, int mount_fd, GError **error);

/* The file system of a block device. */
gboolean target_mount_volume (const MountArguments *arguments, const VmaGuestVolume *volume,
                              const char *device, GError **error);

/* The source of what is mounted on the directory, or NULL.  The caller frees it. */
char *target_source (const MountArguments *arguments);

/*
 * Notes in /run/mount/utab that the mount of images there is ours to unmount: umount(8) does not
 * always look at the whole type of a mount.
 */
gboolean target_note (const MountArguments *arguments, GError **error);
