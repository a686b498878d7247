/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of an archive are called: `disk-DEVNAME.raw`, `vmstate.bin`, configs by name.
 *
 * Names in an archive are hostile.  This module is the only way from them to a file name.  Pure; a
 * VmaNames never changes once made.
 *
 * Escaping: a name that could not be a file's as it stands (empty, `.`, `..`, with a slash, a control
 * character, bytes that are not UTF-8, or longer than 200 bytes) has each such byte, and `%`,
 * written as %XX, is cut at 200 bytes and then ends in `~`; a name that was given already gets `~2`, `~3`, ...
 * before its extension.  Every result is one path component, unique in its archive.
 */
#pragma once

#include "vma/header.h"

typedef struct VmaNames VmaNames;

VmaNames *vma_names_new (const VmaHeader *header);
void vma_names_free (VmaNames *names);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaNames, vma_names_free)

/* The file name of the device with this id / of the i-th config.  Owned by `names`. */
const char *vma_names_device (const VmaNames *names, guint8 id);
const char *vma_names_config (const VmaNames *names, guint i);

/* The first name of the archive that had to be escaped, in its escaped form, or NULL. */
const char *vma_names_first_escaped (const VmaNames *names);

/* `name` escaped as above, to be printed or used as a component.  The caller frees it. */
char *vma_name_escape (const char *name);
