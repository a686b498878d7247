/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The format of a disk image, by its content.
 *
 * A guest writes what it likes into its disk, also the header of another format that names a file of
 * the host as its base.  Therefore a block device, and a file called *.raw, is raw whatever it holds;
 * and an image that refers to other files is not taken unless its format was given.
 */
#pragma once

#include <glib.h>

/* *format is a constant.  FALSE and an error (without the file's name) where it must be given. */
gboolean tool_probe (int fd, const char *path, const char **format, GError **error);
