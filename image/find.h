/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding a disk by what a user calls it.  Any thread.
 */
#pragma once

#include "image/archive.h"

/*
 * The device that a user calls `name`: the name in the archive ("drive-scsi0"), that without "drive-",
 * or the file's ("disk-drive-scsi0.raw").  NULL and an error that lists what there is.
 */
const VmaDevice *vma_archive_find_disk (VmaArchive *archive, const char *name,
                                        GError **error);
