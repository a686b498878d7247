/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening the archive that a command was given, and the disks and saved index that belong to it.
 */
#pragma once

#include "image/archive.h"

/* The options --index-cache, into a char * to be freed with g_free(), and --memory-limit. */
#define TOOL_INDEX_CACHE_OPTION(variable)                                                          \
  { "index-cache", 0, 0, G_OPTION_ARG_FILENAME, (variable),                                        \
    "Where saved indexes are kept; none: nowhere", "DIR|none" },                                   \
  { "memory-limit", 0, 0, G_OPTION_ARG_CALLBACK, (gpointer) tool_set_memory_limit,                 \
    "What one decoder may take (default: 1G)", "SIZE" }

/* A GOptionArgFunc: how much memory decoding compressed archives may take, from now on. */
gboolean tool_set_memory_limit (const char *option, const char *value, gpointer data,
                                GError **error);

/* The directory of saved indexes for that option: NULL for "none".  The caller frees it. */
char *tool_cache_dir (const char *option);

/*
 * Opens an archive; notes of the library become lines.  In `cache_dir`, which may be NULL, is its saved index, and
 * the checksums of its data.
 */
VmaArchive *tool_open (const char *path, const char *cache_dir, gboolean salvage, GError **error);

/* The same with other options; how much memory there is, and the report, are not theirs to say. */
VmaArchive *tool_open_with (const char *path, const VmaArchiveOptions *options, GError **error);

/* The same of a delta that lies over `base` (NULL: of a whole archive). */
VmaArchive *tool_open_over (const char *path, const char *base, const char *cache_dir,
                            gboolean salvage, GError **error);

/*
 * Sees to it that the archive's index is finished: scans with a progress bar unless it was loaded, and
 * saves it where it has a place.  FALSE with the failure, the path in front.
 */
gboolean tool_index_archive (VmaArchive *archive, GError **error);

/* As tool_index_archive(), but an index that cannot be saved is a failure, not a note. */
gboolean tool_build_index (VmaArchive *archive, GError **error);

/* Saves a finished index in `dir`; not being able to is a note and no more. */
void tool_save_index (VmaArchive *archive, const char *dir);

/* The lines of `list`: CFG, DEV, VMSTATE, CTIME. */
void tool_print_listing (VmaArchive *archive);

/* The time of the archive, as ctime() has it, or "@SECONDS" where it is beyond the calendar. */
char *tool_archive_ctime (VmaArchive *archive);

/* The archive's uuid as text. */
char *tool_uuid_text (const guint8 uuid[VMA_UUID_SIZE]);
