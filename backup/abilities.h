/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a QEMU can do what a live backup needs, by its own description of its commands.
 */
#pragma once

#include "backup/qmp.h"

typedef struct {
  guint major;             /* of QEMU's version */
  gboolean has_devices;    /* else it is a qemu-storage-daemon */
  gboolean discard_source; /* blockdev-backup can give back what was copied */
  gboolean few_workers;    /* blockdev-backup can be told how many requests it may have under way */
  gboolean migrate_file;   /* migrate knows file:PATH */
} VmaFeatures;

/*
 * VMA_ERROR_UNSUPPORTED names the first thing that is missing.  `bitmaps`: an incremental backup.
 */
gboolean vma_features_check (VmaQmp *qmp, gboolean bitmaps, VmaFeatures *features, GError **error);

/*
 * The same from the replies to query-qmp-schema and query-commands: a qemu-storage-daemon's schema
 * has commands that it does not have.
 */
gboolean vma_features_from_schema (JsonArray *schema, JsonArray *commands, gboolean bitmaps,
                                   VmaFeatures *features, GError **error);
