/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Archives made by the tests themselves, and a source that serves them.
 *
 * Shares no code with the library: byte order, checksums and layout are written down here once
 * more, from vma(5), so that a mistake on one side cannot hide on the other.
 *
 * Contents are a function of place (synth_block()), so that no copy of a disk is needed to know
 * what must be read from it.
 */
#pragma once

#include "index/index.h"
#include "source/source.h"

/* --- bytes ------------------------------------------------------------------------------------- */

void synth_put16 (guint8 *p, guint value); /* big-endian, as all that follow */
void synth_put32 (guint8 *p, guint32 value);
void synth_put64 (guint8 *p, guint64 value);
guint32 synth_get32 (const guint8 *p);

/* Puts the MD5 of data[0..size) into its 16 bytes at `field`. */
void synth_sum (guint8 *data, gsize size, gsize field);

/* The content of a 4 KiB block of a disk. */
void synth_block (guint32 seed, guint device, guint64 cluster, guint block, guint8 *out);

/* How much of a long test to do: 1, or a fraction where a sanitizer, valgrind or an emulator is slow. */
double synth_scale (void);

/* --- headers ----------------------------------------------------------------------------------- */

typedef struct {
  guint8 fixed[12288];
  GByteArray *blobs;
} SynthHeader;

extern const guint8 synth_uuid[16];

SynthHeader *synth_header_new (void);
void synth_header_free (SynthHeader *header);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (SynthHeader, synth_header_free)

guint32 synth_header_blob (SynthHeader *header, const void *data, gsize size);
void synth_header_device (SynthHeader *header, guint id, const char *name, guint64 size);
void synth_header_config (SynthHeader *header, guint slot, const char *name, const void *data,
                          gsize size);

/* The bytes, with all sizes and the sum right. */
GByteArray *synth_header_bytes (SynthHeader *header);

/* --- extents ----------------------------------------------------------------------------------- */

typedef struct {
  guint device; /* 0: the slot is not used */
  guint32 cluster;
  guint16 mask;
} SynthSlot;

/* An extent header of n <= 59 slots. */
void synth_extent (guint8 out[512], const SynthSlot *slots, guint n);

/* Appends an extent and its data. */
void synth_append_extent (GByteArray *archive, guint32 seed, const SynthSlot *slots, guint n);

/* --- archives ---------------------------------------------------------------------------------- */

typedef struct {
  guint32 seed;
  guint n_devices;      /* their ids lie anywhere in 1..254 */
  guint max_clusters;   /* of a device */
  gboolean vmstate;     /* one more device */
  gboolean shuffled;    /* clusters in any order (but vmstate's) */
  gboolean interleaved; /* devices mixed */
  gboolean gaps;        /* unused slots among the used ones */
  guint slots;          /* clusters in an extent, at most 59 */
  guint density;        /* percent of clusters with data */
} SynthLayout;

typedef struct {
  guint id;
  gboolean vmstate;
  guint64 size; /* what can be read of it; for vmstate not what the header says */
  guint32 clusters;
  guint16 *masks;
} SynthDisk;

typedef struct {
  guint32 seed;
  GByteArray *bytes;
  GArray *disks;   /* SynthDisk */
  GArray *extents; /* guint32: where each begins; last, the end */
} SynthArchive;

SynthArchive *synth_archive_new (const SynthLayout *layout);
void synth_archive_free (SynthArchive *archive);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (SynthArchive, synth_archive_free)

guint32 synth_archive_extent (const SynthArchive *archive, guint i);

/* What a read of the disk must give.  offset + size <= disk->size. */
void synth_truth (const SynthArchive *archive, const SynthDisk *disk, guint64 offset, gsize size,
                  guint8 *out);

/*
 * Compares each cluster that the index says can be read in `bytes` (the archive, or what was made
 * of it) with the truth, and aborts at a wrong one.  Returns how many cannot be read.
 */
guint synth_check_index (const SynthArchive *archive, VmaIndex *index, const guint8 *bytes,
                         gsize size);

/* --- the source -------------------------------------------------------------------------------- */

typedef struct SynthSource SynthSource;

/* Makes up to `size` bytes of an archive that exists nowhere; all are inside it. */
typedef void (*SynthFill) (gpointer data, guint8 *buffer, gsize size, guint64 offset);

/* Serves `bytes` (borrowed). */
SynthSource *synth_source_new (const guint8 *bytes, guint64 size);
SynthSource *synth_source_new_virtual (guint64 size, SynthFill fill, gpointer data);
VmaSource *synth_source_base (SynthSource *source);
void synth_source_free (SynthSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (SynthSource, synth_source_free)

/* Reads that touch [start, end) fail. */
void synth_source_set_bad (SynthSource *source, guint64 start, guint64 end);
/* The n-th read from now on fails, once. */
void synth_source_fail_read (SynthSource *source, guint n);
/* It fails with this VmaError; `on`: as do all reads after it. */
void synth_source_fail_with (SynthSource *source, guint n, int code, gboolean on);
/* The file is shorter than its size says. */
void synth_source_cut_off (SynthSource *source, guint64 end);
/* Its size is not known until its end was read. */
void synth_source_hide_size (SynthSource *source);
/* Reads at or behind `gate` wait until it is moved, or are cancelled. */
void synth_source_set_gate (SynthSource *source, guint64 gate);

/* It likes many requests at once, as a server does. */
void synth_source_set_far (SynthSource *source);

guint64 synth_source_reads (SynthSource *source);
guint64 synth_source_bytes (SynthSource *source);
