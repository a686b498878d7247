/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What several unit tests need: test archives, and a whole pass through a damaged one.
 */
#pragma once

#include "image/archive.h"
#include "image/image.h"

#include <glib.h>

/* The content of $FIXTURES/name or $ARCHIVES/name. */
GByteArray *util_fixture (const char *name);
GByteArray *util_generated (const char *name);

/* Puts the right MD5 into an archive's header (`field` 32) or an extent header (`field` 24). */
void util_fix_md5 (guint8 *data, gsize size, gsize field);

/* Writes `data` into an anonymous file; its path, valid until the next call. */
const char *util_file (const guint8 *data, gsize size);

/* Opens `path` and waits for the index.  NULL and an error where one of both fails. */
VmaArchive *util_open (const char *path, gboolean salvage, GError **error);

/* The whole content of a device, read in pieces; NULL and an error where a part cannot be read. */
GByteArray *util_read_disk (VmaArchive *archive, guint8 device, GError **error);

/*
 * Opens the archive in `data` and compares every cluster that can be read with the disk of the same
 * name in `truth` (file name → GBytes).  Aborts the test at wrong bytes.  Returns how many clusters
 * could not be read, or -1 where the archive was refused (with an error that is checked to be a good
 * one).
 */
int util_check (const guint8 *data, gsize size, gboolean salvage, GHashTable *truth);

/* The disks of a sound archive, as util_check() wants them. */
GHashTable *util_truth (const guint8 *data, gsize size);

/* How many entries a directory has. */
guint util_files_in (const char *dir);
