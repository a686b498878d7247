/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a place in the images to a block device: a range of an image, or a logical volume that
 * stands in several ranges.
 *
 * Main thread.
 */
#pragma once

#include "mount-helper/found.h"

/* The descriptor of a loop device on a range of an image below `mount_fd`, or -1. */
int pieces_attach_range (const MountArguments *arguments, const LoopTag *tag, int mount_fd,
                         const char *image, guint64 offset, guint64 length, char **device,
                         GError **error);

/*
 * That of a device with all the pieces put together, or -1.  Only now somebody can tell what is in
 * there: sets the type, and fails where it cannot be mounted.
 */
int pieces_attach (const MountArguments *arguments, Found *found, int mount_fd, char **device,
                   GError **error);
