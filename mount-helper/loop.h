/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loop devices: a part of an image as a block device.
 *
 * Each is cleared by the kernel when its last user closes it (LO_FLAGS_AUTOCLEAR): the holder of
 * the descriptor, or a file system that is mounted from it.  Any thread.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* What a device of ours carries with it, so that it can be told from others later. */
typedef struct {
  pid_t pid;    /* of the process that serves the image */
  char key[17]; /* tells what is attached: hexadecimal digits */
} LoopTag;

/*
 * Attaches [offset, offset + length) of the file, and returns a descriptor of the device, or -1;
 * `path` gets its name.  `file` can be closed afterwards.
 */
int loop_attach (int file, guint64 offset, guint64 length, gboolean writable, const LoopTag *tag,
                 char **path, GError **error);

/* FALSE: the device is not one of ours. */
gboolean loop_get_tag (const char *path, LoopTag *tag);
