/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of a saved index: header, pages, table.  For index/saved*.c only.
 *
 * Pure: no I/O.  Readers take hostile bytes: every count is checked against what is there.
 */
#pragma once

#include "index/saved.h"

#define SAVED_MAGIC       "VMAFSIX2"
#define SAVED_HEADER_SIZE 112u

typedef struct {
  VmaIndexKey key;
  guint64 meta_offset; /* in the file */
  guint64 meta_stored; /* bytes in the file, compressed */
  guint64 meta_size;   /* bytes, uncompressed */
  guint64 meta_hash;   /* XXH3-64 of the stored bytes */
} SavedHeader;

void saved_header_write (const SavedHeader *header, guint8 bytes[SAVED_HEADER_SIZE]);

/* FALSE where it is no header of this version, or its checksum is wrong. */
gboolean saved_header_read (SavedHeader *header, const guint8 bytes[SAVED_HEADER_SIZE]);

/* A page in the file, or a stretch of all-zero pages (size 0, `offset` counts them). */
typedef struct {
  guint32 page;
  guint32 size;   /* stored bytes */
  guint64 offset; /* in the file */
  guint64 hash;   /* XXH3-64 of the stored bytes */
} SavedPage;

#define SAVED_PAGE_MAX (40u * 1024u) /* LZ4's bound for 32 KiB, and then some */

/* Compresses entries[0..VMA_PAGE_CLUSTERS) into `stored` (SAVED_PAGE_MAX bytes); returns the size. */
guint32 saved_page_pack (const VmaEntry *entries, guint8 *stored);

/* The reverse.  FALSE where the bytes are no page. */
gboolean saved_page_unpack (const guint8 *stored, gsize size, VmaEntry *entries);

typedef struct {
  VmaDeviceCounts counts;
  GArray *pages; /* SavedPage, ascending; NULL where the device does not exist */
} SavedDevice;

/* The table of a whole index.  `damage` holds VmaDamage *. */
typedef struct {
  gboolean partial; /* the scan was interrupted: it goes on at counts.end */
  VmaIndexCounts counts;
  GPtrArray *damage;
  SavedDevice devices[VMA_MAX_DEVICES];
} SavedMeta;

SavedMeta *saved_meta_new (void);
void saved_meta_free (SavedMeta *meta);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (SavedMeta, saved_meta_free)

GByteArray *saved_meta_write (const SavedMeta *meta);
SavedMeta *saved_meta_read (const guint8 *bytes, gsize size);
