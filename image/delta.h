/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A delta: an archive that lists only the clusters that changed since another one, its base, and says
 * in a config which one that is.  Laid over its base it is a whole archive.
 *
 * Pure but for vma_delta_match(), which looks at two open archives.
 */
#pragma once

#include "image/archive.h"

/* The config's name; its text is the uuid of the base. */
#define VMA_DELTA_CONFIG "vma-base.uuid"

/* Whether an archive is a delta, and of which base. */
gboolean vma_delta_base_uuid (const VmaHeader *header, guint8 uuid[VMA_UUID_SIZE]);

/* The config's text. */
char *vma_delta_text (const guint8 uuid[VMA_UUID_SIZE]);

/*
 * Whether `base` is what `header` is a delta of: FALSE and VMA_ERROR_INVALID where its uuid, or the size of
 * a disk, says otherwise.
 */
gboolean vma_delta_match (const VmaHeader *header, VmaArchive *base, GError **error);

/* The base's disk of the same name, or NULL: the disk is in the delta as a whole. */
const VmaDevice *vma_delta_device (VmaArchive *base, const VmaDevice *device);
