/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scan: through sound archives of every shape, and through broken ones, where it may lose
 * clusters but must never say that wrong bytes are a cluster's.
 */
#include "index/scan.h"
#include "tests/unit/synth.h"
#include "vma/error.h"

#include <pthread.h>
#include <string.h>

static VmaHeader *
header_of (const guint8 *bytes, gsize size)
{
  g_autoptr (GError) error = NULL;
  guint32 header_size = vma_header_peek_size (bytes, size, &error);

  g_assert_no_error (error);
  VmaHeader *header = vma_header_parse (bytes, header_size, &error);
  g_assert_no_error (error);
  return header;
}

static SynthArchive *
random_archive (guint32 seed)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);

  return synth_archive_new (&(SynthLayout){
      .seed = seed,
      .n_devices = (guint) g_rand_int_range (rand, 1, 5),
      .max_clusters = (guint) g_rand_int_range (rand, 1, 20),
      .vmstate = g_rand_boolean (rand),
      .shuffled = g_rand_boolean (rand),
      .interleaved = g_rand_boolean (rand),
      .gaps = g_rand_boolean (rand),
      .slots = (guint) g_rand_int_range (rand, 1, 12),
      .density = (guint) g_rand_int_range (rand, 0, 101),
  });
}

/* One disk of a few small extents, each with the given blocks in its clusters. */
static SynthArchive *
plain_archive (guint extents, guint slots, guint density)
{
  return synth_archive_new (&(SynthLayout){ .seed = extents * 100 + slots,
                                            .n_devices = 3,
                                            .max_clusters = extents * slots,
                                            .slots = slots,
                                            .interleaved = TRUE,
                                            .density = density });
}

/* What became of a scan. */
typedef struct {
  gboolean ok;
  guint lost;
  GError *error;
} Result;

static void
result_clear (Result *result)
{
  g_clear_error (&result->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Result, result_clear)

static Result
scan_source (const SynthArchive *archive, SynthSource *source, const guint8 *bytes, gsize size,
             gboolean salvage)
{
  g_autoptr (VmaHeader) header = header_of (bytes, size);
  g_autoptr (VmaIndex) index = vma_index_new (header, NULL);
  g_autoptr (VmaScanner) scanner
      = vma_scanner_new (synth_source_base (source), header, index, salvage);
  Result result = { 0 };

  result.ok = vma_scanner_run (scanner, NULL, &result.error);
  g_assert_true (result.ok == (result.error == NULL));
  g_assert_true (result.ok == (vma_index_state (index) == VMA_INDEX_COMPLETE));
  if (!result.ok)
    g_assert_true (result.error->domain == VMA_ERROR);
  /* Also after a failure nothing that was found may be wrong: it was readable until then. */
  result.lost = synth_check_index (archive, index, bytes, size);
  if (result.ok && result.lost == 0)
    g_assert_cmpuint (vma_index_damage_count (index) > 0 && !salvage, ==, 0);
  if (result.ok && result.lost > 0)
    g_assert_true (salvage);
  return result;
}

static Result
scan_bytes (const SynthArchive *archive, const guint8 *bytes, gsize size, gboolean salvage)
{
  /* Exactly that long, for the sanitizers. */
  g_autofree guint8 *copy = g_memdup2 (bytes, size);
  g_autoptr (SynthSource) source = synth_source_new (copy, size);

  return scan_source (archive, source, copy, size, salvage);
}

static void
check_error_at (const GError *error, int code, guint64 offset)
{
  g_autofree char *prefix = g_strdup_printf ("extent at %" G_GUINT64_FORMAT ": ", offset);

  g_assert_error (error, VMA_ERROR, code);
  if (!g_str_has_prefix (error->message, prefix))
    g_error ("'%s' instead of '%s...'", error->message, prefix);
}

static guint
listed_by (const SynthArchive *archive, guint e)
{
  guint listed = 0;

  for (guint i = 0; i < 59; i++)
    listed += archive->bytes->data[synth_archive_extent (archive, e) + 40 + 8 * i + 3] != 0;
  return listed;
}

/* Of these, the ones with data: that a cluster is zero stands in the header, whatever became of the data. */
static guint
stored_by (const SynthArchive *archive, guint e)
{
  guint stored = 0;

  for (guint i = 0; i < 59; i++) {
    const guint8 *slot = archive->bytes->data + synth_archive_extent (archive, e) + 40 + 8 * i;
    stored += slot[3] != 0 && (slot[0] != 0 || slot[1] != 0);
  }
  return stored;
}

/* --- sound ------------------------------------------------------------------------------------- */

static void
test_sound (void)
{
  guint rounds = synth_scale () < 1 ? 20 : 150;

  for (guint32 seed = 1; seed <= rounds; seed++) {
    g_autoptr (SynthArchive) archive = random_archive (seed);
    const GByteArray *b = archive->bytes;

    for (guint pass = 0; pass < 3; pass++) {
      g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
      if (pass == 2)
        synth_source_hide_size (source);
      g_auto (Result) result = scan_source (archive, source, b->data, b->len, pass == 1);
      g_assert_no_error (result.error);
      g_assert_cmpuint (result.lost, ==, 0);
    }
  }
}

static void
test_next (void)
{
  g_autoptr (SynthArchive) archive = random_archive (7);
  const GByteArray *b = archive->bytes;
  g_autoptr (VmaHeader) header = header_of (b->data, b->len);
  g_autoptr (VmaIndex) index = vma_index_new (header, NULL);
  g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
  g_autoptr (VmaScanner) scanner
      = vma_scanner_new (synth_source_base (source), header, index, FALSE);
  const VmaExtent *extent;
  guint64 offset;

  for (guint i = 0; i + 1 < archive->extents->len; i++) {
    g_assert_cmpint (vma_scanner_next (scanner, &extent, &offset, NULL, NULL), ==, 1);
    g_assert_cmpuint (offset, ==, synth_archive_extent (archive, i));
    g_assert_cmpuint (extent->size, ==, synth_archive_extent (archive, i + 1) - offset);
    g_assert_cmpuint (extent->n_slots, ==, listed_by (archive, i));
  }
  g_assert_cmpint (vma_scanner_next (scanner, &extent, &offset, NULL, NULL), ==, 0);
  g_assert_cmpuint (vma_index_position (index), ==, b->len);
}

/* --- one thing wrong --------------------------------------------------------------------------- */

static void
test_extent_removed (void)
{
  for (guint32 seed = 30; seed < 50; seed++) {
    g_autoptr (SynthArchive) archive = random_archive (seed);
    for (guint e = 0; e + 1 < archive->extents->len; e++) {
      guint32 start = synth_archive_extent (archive, e),
              end = synth_archive_extent (archive, e + 1);
      g_autofree guint8 *bytes = g_memdup2 (archive->bytes->data, archive->bytes->len);
      gsize size = archive->bytes->len - (end - start);

      memmove (bytes + start, bytes + end, archive->bytes->len - end);
      {
        /* Only a vmstate's last clusters could be missing without anybody knowing. */
        g_auto (Result) result = scan_bytes (archive, bytes, size, TRUE);
        g_assert_no_error (result.error);
        g_assert_cmpuint (result.lost, ==, listed_by (archive, e));
      }
    }
  }
}

static void
test_missing (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (4, 3, 50);
  guint last = archive->extents->len - 2;

  /* Cut off at the last extent, exactly: well-formed, but not complete. */
  g_auto (Result) result
      = scan_bytes (archive, archive->bytes->data, synth_archive_extent (archive, last), FALSE);
  g_assert_error (result.error, VMA_ERROR, VMA_ERROR_MISSING);
  g_assert_cmpuint (result.lost, ==, listed_by (archive, last));
}

static void
test_twice (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (4, 3, 50);
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  guint32 first = synth_archive_extent (archive, 0), second = synth_archive_extent (archive, 1);
  guint32 end = archive->bytes->len;

  g_byte_array_append (bytes, archive->bytes->data, end);
  g_byte_array_append (bytes, archive->bytes->data + first, second - first);
  g_auto (Result) strict = scan_bytes (archive, bytes->data, bytes->len, FALSE);
  check_error_at (strict.error, VMA_ERROR_DAMAGED, end);
  g_assert_nonnull (strstr (strict.error->message, "listed twice"));
  g_auto (Result) salvaged = scan_bytes (archive, bytes->data, bytes->len, TRUE);
  g_assert_no_error (salvaged.error);
  g_assert_cmpuint (salvaged.lost, ==, listed_by (archive, 0));
}

/* A slot that does not fit, in an extent whose sum is right. */
static void
test_unfit (void)
{
  static const struct {
    guint at;
    guint8 value;
    const char *reason;
  } changes[] = {
    { 3, 255, "is of a device" },
    { 4, 0x7f, "beyond the end" },
  };
  g_autoptr (SynthArchive) archive = plain_archive (5, 3, 60);

  for (guint e = 0; e + 1 < archive->extents->len; e++)
    for (guint i = 0; i < G_N_ELEMENTS (changes); i++) {
      g_autofree guint8 *bytes = g_memdup2 (archive->bytes->data, archive->bytes->len);
      guint8 *header = bytes + synth_archive_extent (archive, e);

      header[40 + changes[i].at] = changes[i].value;
      synth_sum (header, 512, 24);
      g_auto (Result) strict = scan_bytes (archive, bytes, archive->bytes->len, FALSE);
      check_error_at (strict.error, VMA_ERROR_DAMAGED, synth_archive_extent (archive, e));
      g_assert_nonnull (strstr (strict.error->message, changes[i].reason));
      g_auto (Result) salvaged = scan_bytes (archive, bytes, archive->bytes->len, TRUE);
      g_assert_no_error (salvaged.error);
      g_assert_cmpuint (salvaged.lost, ==, 1); /* the other slots of the extent are sound */
    }
}

/* The same, and bytes lost inside the extent: then nothing vouches for the other slots. */
static void
test_unfit_and_moved (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (5, 3, 100);

  for (guint e = 0; e + 3 < archive->extents->len; e++)
    for (guint n = 256; n <= 8192; n *= 2) {
      guint32 start = synth_archive_extent (archive, e), end = archive->bytes->len;
      g_autofree guint8 *bytes = g_memdup2 (archive->bytes->data, end);

      bytes[start + 40 + 3] = 200;
      synth_sum (bytes + start, 512, 24);
      memmove (bytes + start + 700, bytes + start + 700 + n, end - start - 700 - n);
      g_auto (Result) salvaged = scan_bytes (archive, bytes, end - n, TRUE);
      g_assert_no_error (salvaged.error);
    }
}

static void
test_vmstate (void)
{
  g_autoptr (SynthArchive) archive = synth_archive_new (&(SynthLayout){
      .seed = 3, .n_devices = 0, .max_clusters = 30, .vmstate = TRUE, .slots = 2, .density = 50 });
  guint32 second = synth_archive_extent (archive, 1), third = synth_archive_extent (archive, 2);
  guint32 end = archive->bytes->len;

  g_assert_cmpuint (archive->extents->len, >, 4);
  /* The second extent at the end. */
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  g_byte_array_append (bytes, archive->bytes->data, second);
  g_byte_array_append (bytes, archive->bytes->data + third, end - third);
  g_byte_array_append (bytes, archive->bytes->data + second, third - second);
  g_auto (Result) strict = scan_bytes (archive, bytes->data, bytes->len, FALSE);
  check_error_at (strict.error, VMA_ERROR_DAMAGED, second);
  g_assert_nonnull (strstr (strict.error->message, "out of order"));
  g_auto (Result) salvaged = scan_bytes (archive, bytes->data, bytes->len, TRUE);
  g_assert_no_error (salvaged.error);
  g_assert_cmpuint (salvaged.lost, ==, listed_by (archive, 1));
}

/* --- cut off ----------------------------------------------------------------------------------- */

static void
check_truncated (const SynthArchive *archive, guint32 size)
{
  {
    g_auto (Result) strict = scan_bytes (archive, archive->bytes->data, size, FALSE);
    g_assert_nonnull (strict.error);
  }
  guint whole = 0;
  for (guint e = 0; e + 1 < archive->extents->len; e++)
    if (synth_archive_extent (archive, e + 1) > size)
      whole += listed_by (archive, e);
  g_auto (Result) salvaged = scan_bytes (archive, archive->bytes->data, size, TRUE);
  g_assert_no_error (salvaged.error);
  g_assert_cmpuint (salvaged.lost, <=, whole);
  if (size == synth_archive_extent (archive, 1))
    g_assert_cmpuint (salvaged.lost, ==, whole);
}

static void
test_truncated (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (3, 2, 20);
  guint32 step = synth_scale () < 1 ? 151 : 1;

  g_test_message ("%u bytes, %u extents", archive->bytes->len, archive->extents->len - 1);
  for (guint32 size = synth_archive_extent (archive, 0); size < archive->bytes->len;) {
    check_truncated (archive, size);
    /* Each byte of headers and around; inside data less. */
    gboolean near = FALSE;
    for (guint e = 0; e < archive->extents->len; e++) {
      gint64 distance = (gint64) size - synth_archive_extent (archive, e);
      near |= distance >= -20 && distance < 532;
    }
    size += near ? step : MAX (step, 97);
  }
}

/* A source that learns its size at its end must not take an extent that is cut off for whole. */
static void
test_truncated_unknown_size (void)
{
  for (guint32 seed = 60; seed < 90; seed++) {
    g_autoptr (SynthArchive) archive = random_archive (seed);
    const GByteArray *b = archive->bytes;
    guint32 last = synth_archive_extent (archive, archive->extents->len - 2);
    const guint32 sizes[] = { b->len - 1, b->len - 512, last + 512, last + 513, last + 1 };

    for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
      if (sizes[i] <= last || sizes[i] >= b->len)
        continue;
      for (guint salvage = 0; salvage < 2; salvage++) {
        g_autofree guint8 *copy = g_memdup2 (b->data, sizes[i]);
        g_autoptr (SynthSource) source = synth_source_new (copy, sizes[i]);
        synth_source_hide_size (source);
        g_auto (Result) result = scan_source (archive, source, copy, sizes[i], salvage);
        g_assert_true (result.ok == (salvage == 1));
      }
    }
  }
}

/* The size says more than can be read. */
static void
test_short_reads (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (3, 2, 50);
  const GByteArray *b = archive->bytes;

  for (guint32 cut = synth_archive_extent (archive, 0); cut < b->len; cut += 773)
    for (guint salvage = 0; salvage < 2; salvage++) {
      g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
      synth_source_cut_off (source, cut);
      g_auto (Result) result = scan_source (archive, source, b->data, b->len, salvage);
      if (cut < synth_archive_extent (archive, archive->extents->len - 2))
        g_assert_true (salvage || !result.ok);
    }
}

/* --- bytes lost or gained ---------------------------------------------------------------------- */

static const gsize shifts[] = { 1, 100, 511, 512, 513, 1024, 4096, 4608, 8192, 65536, 66048 };

/* Removes n bytes at `at`, or puts n in, of which every one is `with`; < 0 is random ones. */
static GByteArray *
changed (const GByteArray *from, gsize at, gsize n, gboolean insert, int with, GRand *rand)
{
  GByteArray *to = g_byte_array_new ();

  g_byte_array_append (to, from->data, (guint) at);
  for (gsize i = 0; insert && i < n; i++) {
    guint8 byte = (guint8) (with >= 0 ? with : (int) g_rand_int (rand));
    g_byte_array_append (to, &byte, 1);
  }
  gsize rest = insert ? at : at + n;
  g_byte_array_append (to, from->data + rest, (guint) (from->len - rest));
  return to;
}

static void
check_shifts (gboolean insert)
{
  guint rounds = synth_scale () < 1 ? 3 : 12;
  g_autoptr (GRand) rand = g_rand_new_with_seed (6);

  for (guint32 seed = 100; seed < 100 + rounds; seed++) {
    g_autoptr (SynthArchive) archive = synth_archive_new (&(SynthLayout){ .seed = seed,
                                                                          .n_devices = 2,
                                                                          .max_clusters = 16,
                                                                          .interleaved = seed % 2,
                                                                          .shuffled = seed % 3 == 0,
                                                                          .slots = 4,
                                                                          .density = 90 });
    const GByteArray *b = archive->bytes;

    /* Not in the last one: nothing follows it, so that nobody could tell. */
    for (guint e = 0; e + 2 < archive->extents->len; e++)
      for (guint k = 0; k < G_N_ELEMENTS (shifts); k++) {
        guint32 start = synth_archive_extent (archive, e) + 512;
        guint32 end = synth_archive_extent (archive, e + 1);
        gsize n = shifts[k];

        if (start >= end || (!insert && n > end - start))
          continue;
        gsize room = insert ? end - start : end - start - n + 1;
        gsize at = start + (gsize) (g_rand_double (rand) * (double) room);
        /*
         * Not with zeros: a sector of zeros where a header must be is taken for a header that was
         * wiped, which happens; zeros that came from nowhere do not.
         */
        g_autoptr (GByteArray) bytes = changed (b, at, n, insert, -1, rand);
        g_auto (Result) strict = scan_bytes (archive, bytes->data, bytes->len, FALSE);
        g_assert_error (strict.error, VMA_ERROR, VMA_ERROR_DAMAGED);
        g_auto (Result) salvaged = scan_bytes (archive, bytes->data, bytes->len, TRUE);
        g_assert_no_error (salvaged.error);
        g_assert_cmpuint (salvaged.lost, ==, stored_by (archive, e));
      }
  }
}

static void
test_removed (void)
{
  check_shifts (FALSE);
}

static void
test_inserted (void)
{
  check_shifts (TRUE);
}

/* From the middle of one extent to the middle of another. */
static void
test_removed_across (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (8);
  guint rounds = synth_scale () < 1 ? 30 : 300;

  for (guint round = 0; round < rounds; round++) {
    g_autoptr (SynthArchive) archive = plain_archive (8, 2, 80);
    const GByteArray *b = archive->bytes;
    guint n = archive->extents->len - 1;
    guint first = (guint) g_rand_int_range (rand, 0, (gint32) n - 2);
    /* Not into the last one: that would be an archive that is cut off, to all appearances. */
    guint last = (guint) g_rand_int_range (rand, (gint32) first, (gint32) n - 1);
    gsize from = (gsize) g_rand_int_range (rand, (gint32) synth_archive_extent (archive, first),
                                           (gint32) synth_archive_extent (archive, first + 1));
    gsize to = (gsize) g_rand_int_range (rand, (gint32) synth_archive_extent (archive, last),
                                         (gint32) synth_archive_extent (archive, last + 1));
    if (to <= from)
      continue;
    gsize length = to - from;
    if (round % 3 != 0)
      length = length / 512 * 512;
    /* Where the next header comes to stand just where it must, nothing is to be seen. */
    guint32 expected = synth_archive_extent (archive, first + 1);
    gboolean fits = b->len - length == expected;
    for (guint e = last + 1; e < n; e++)
      fits |= synth_archive_extent (archive, e) - length == expected;
    if (length == 0 || fits)
      continue;
    g_autoptr (GByteArray) bytes = changed (b, from, length, FALSE, 0, rand);
    guint most = 0;
    for (guint e = first; e <= last; e++)
      most += listed_by (archive, e);
    g_auto (Result) salvaged = scan_bytes (archive, bytes->data, bytes->len, TRUE);
    g_assert_no_error (salvaged.error);
    /* The one before may fall under suspicion: its end is where the loss begins. */
    if (first > 0)
      most += listed_by (archive, first - 1);
    g_assert_cmpuint (salvaged.lost, <=, most);
  }
}

/* Headers that are wiped, or changed in one byte: the others stay readable. */
static void
test_headers_broken (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (6, 3, 60);

  for (guint e = 0; e + 1 < archive->extents->len; e++) {
    g_autofree guint8 *bytes = g_memdup2 (archive->bytes->data, archive->bytes->len);
    guint8 *header = bytes + synth_archive_extent (archive, e);

    for (guint i = 0; i < 512; i += synth_scale () < 1 ? 23 : i < 64 ? 1 : 9) {
      header[i] ^= 0x10;
      g_auto (Result) strict = scan_bytes (archive, bytes, archive->bytes->len, FALSE);
      check_error_at (strict.error, VMA_ERROR_DAMAGED, synth_archive_extent (archive, e));
      g_auto (Result) salvaged = scan_bytes (archive, bytes, archive->bytes->len, TRUE);
      g_assert_no_error (salvaged.error);
      g_assert_cmpuint (salvaged.lost, ==, listed_by (archive, e));
      header[i] ^= 0x10;
    }
    memset (header, e % 2 == 0 ? 0 : 0xff, 512);
    g_auto (Result) salvaged = scan_bytes (archive, bytes, archive->bytes->len, TRUE);
    g_assert_no_error (salvaged.error);
    g_assert_cmpuint (salvaged.lost, ==, listed_by (archive, e));
  }
}

/* Several of these at once. */
static void
test_mangled (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (9);
  guint rounds = synth_scale () < 1 ? 60 : 1500;

  for (guint round = 0; round < rounds; round++) {
    g_autoptr (SynthArchive) archive = random_archive (1000 + round);
    guint n = archive->extents->len - 1;
    g_autoptr (GByteArray) bytes = g_byte_array_new ();

    if (n < 4)
      continue;
    g_byte_array_append (bytes, archive->bytes->data, archive->bytes->len);
    /* From the back, so that the places of the others stay; the last three are left alone. */
    for (guint e = n - 3; e-- > 0;) {
      guint32 start = synth_archive_extent (archive, e),
              end = synth_archive_extent (archive, e + 1);
      g_autoptr (GByteArray) next = NULL;
      gsize length = shifts[g_rand_int_range (rand, 0, G_N_ELEMENTS (shifts))];
      gsize at = start + 512 + (gsize) (g_rand_double (rand) * (end - start - 512));

      switch (g_rand_int_range (rand, 0, 8)) {
      case 0:
        next = changed (bytes, at, length, TRUE, -1, rand);
        break;
      case 1:
        length |= 1; /* never just as much as the extents that follow take */
        if (at + length < end)
          next = changed (bytes, at, length, FALSE, 0, rand);
        break;
      case 2:
        bytes->data[start + (guint) g_rand_int_range (rand, 0, 512)] ^= 4;
        break;
      case 3:
        bytes->data[start + 43] = 255; /* no device can be that */
        synth_sum (bytes->data + start, 512, 24);
        break;
      }
      if (next != NULL) {
        g_byte_array_unref (bytes);
        bytes = g_steal_pointer (&next);
      }
    }
    g_auto (Result) strict = scan_bytes (archive, bytes->data, bytes->len, FALSE);
    g_auto (Result) salvaged = scan_bytes (archive, bytes->data, bytes->len, TRUE);
    g_assert_no_error (salvaged.error);
  }
}

/* --- a disk that fails ------------------------------------------------------------------------- */

static void
test_nth_read_fails (void)
{
  for (guint32 seed = 200; seed < (synth_scale () < 1 ? 204 : 220); seed++) {
    g_autoptr (SynthArchive) archive = random_archive (seed);
    const GByteArray *b = archive->bytes;
    guint64 reads = 1;

    for (guint64 n = 1; n <= reads + 3; n++)
      for (guint salvage = 0; salvage < 2; salvage++) {
        g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
        synth_source_fail_read (source, (guint) n);
        g_auto (Result) result = scan_source (archive, source, b->data, b->len, salvage);
        if (salvage)
          g_assert_no_error (result.error);
        else if (result.error != NULL)
          g_assert_error (result.error, VMA_ERROR, VMA_ERROR_IO);
        else
          g_assert_cmpuint (result.lost, ==, 0);
        reads = MAX (reads, synth_source_reads (source));
      }
  }
}

/* An archive that is damaged at a header, within an extent, at its end, or not at all. */
static GByteArray *
damaged_bytes (const SynthArchive *archive, guint how)
{
  const GByteArray *b = archive->bytes;
  guint32 at = synth_archive_extent (archive, archive->extents->len / 2);
  GByteArray *bytes = g_byte_array_new ();

  g_byte_array_append (bytes, b->data, b->len);
  if (how == 1)
    bytes->data[at + 30] ^= 1;
  if (how == 2)
    memset (bytes->data + at, 0xee, 512);
  if (how == 3)
    g_byte_array_remove_range (bytes, at - 100, 100);
  if (how == 4)
    g_byte_array_set_size (bytes, b->len - 700);
  return bytes;
}

/*
 * A server that goes away, at once or for good, tells nothing of the archive: a scan with salvage fails then,
 * or finds just what it finds otherwise.
 */
static void
test_connection_lost (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (6, 3, 60);

  for (guint how = 0; how < 5; how++) {
    g_autoptr (GByteArray) bytes = damaged_bytes (archive, how);
    g_auto (Result) whole = scan_bytes (archive, bytes->data, bytes->len, TRUE);
    guint64 reads = 1;

    g_assert_no_error (whole.error);
    for (guint64 n = 1; n <= reads + 1; n++)
      for (guint on = 0; on < 2; on++) {
        g_autoptr (SynthSource) source = synth_source_new (bytes->data, bytes->len);
        synth_source_fail_with (source, (guint) n, VMA_ERROR_CONNECTION, on);
        g_auto (Result) result = scan_source (archive, source, bytes->data, bytes->len, TRUE);
        if (result.error != NULL)
          g_assert_error (result.error, VMA_ERROR, VMA_ERROR_CONNECTION);
        else
          g_assert_cmpuint (result.lost, ==, whole.lost);
        reads = MAX (reads, synth_source_reads (source));
      }
  }
}

/* Where the size is not known, there is no way around a place that cannot be read. */
static void
test_bad_unknown_size (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (6, 3, 60);
  const GByteArray *b = archive->bytes;
  guint32 at = synth_archive_extent (archive, 3);

  for (guint salvage = 0; salvage < 2; salvage++) {
    g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
    synth_source_hide_size (source);
    synth_source_set_bad (source, at, b->len);
    g_auto (Result) result = scan_source (archive, source, b->data, b->len, salvage);
    g_assert_true (result.ok == (salvage == 1));
    if (salvage)
      g_assert_cmpuint (result.lost, >, 0);
  }
}

/* A bad place in an extent's data is no business of the scan; one in a header costs that extent. */
static void
test_bad_sectors (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (8, 1, 25);
  const GByteArray *b = archive->bytes;

  for (guint e = 0; e + 1 < archive->extents->len; e++) {
    guint32 start = synth_archive_extent (archive, e), end = synth_archive_extent (archive, e + 1);

    if (end - start > 512) {
      g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
      synth_source_set_bad (source, start + 512, end);
      g_auto (Result) strict = scan_source (archive, source, b->data, b->len, FALSE);
      g_assert_no_error (strict.error);
    }
    g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
    synth_source_set_bad (source, start, start + 512);
    g_auto (Result) strict = scan_source (archive, source, b->data, b->len, FALSE);
    g_assert_error (strict.error, VMA_ERROR, VMA_ERROR_IO);
    g_auto (Result) salvaged = scan_source (archive, source, b->data, b->len, TRUE);
    g_assert_no_error (salvaged.error);
    /* What stands in the same 4 KiB may be lost with it. */
    guint most = 0;
    for (guint i = e; i + 1 < archive->extents->len
                      && synth_archive_extent (archive, i) < start + 512 + 2 * 4096;
         i++)
      most += listed_by (archive, i);
    g_assert_cmpuint (salvaged.lost, >=, listed_by (archive, e));
    g_assert_cmpuint (salvaged.lost, <=, most);
  }
}

/* --- stopping and waiting ---------------------------------------------------------------------- */

typedef struct {
  VmaScanner *scanner;
  GCancellable *cancellable;
  GError *error;
  gboolean ok;
} Running;

static void *
run_thread (void *data)
{
  Running *running = data;

  running->ok = vma_scanner_run (running->scanner, running->cancellable, &running->error);
  return NULL;
}

static void
check_gate (gboolean cancel, gboolean salvage)
{
  g_autoptr (SynthArchive) archive = plain_archive (8, 3, 50);
  const GByteArray *b = archive->bytes;
  g_autoptr (VmaHeader) header = header_of (b->data, b->len);
  g_autoptr (VmaIndex) index = vma_index_new (header, NULL);
  g_autoptr (SynthSource) source = synth_source_new (b->data, b->len);
  g_autoptr (VmaScanner) scanner
      = vma_scanner_new (synth_source_base (source), header, index, salvage);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Running running = { .scanner = scanner, .cancellable = cancellable };
  const SynthDisk *disk = &g_array_index (archive->disks, SynthDisk, 0);
  gboolean pending = TRUE;
  pthread_t thread;
  guint64 end;

  synth_source_set_gate (source, synth_archive_extent (archive, 2));
  pthread_create (&thread, NULL, run_thread, &running);
  while (vma_index_position (index) < synth_archive_extent (archive, 2))
    g_usleep (1000);
  g_assert_cmpint (vma_index_state (index), ==, VMA_INDEX_BUILDING);
  for (guint32 i = 0; i < disk->clusters; i++) {
    vma_index_lookup (index, (guint8) disk->id, i, &end, &pending);
    if (pending)
      break;
  }
  g_assert_true (pending);

  gint64 start = g_get_monotonic_time ();
  if (cancel)
    g_cancellable_cancel (cancellable);
  else
    synth_source_set_gate (source, G_MAXUINT64);
  g_autoptr (GError) error = NULL;
  gboolean finished = vma_index_wait_finished (index, NULL, &error);
  g_assert_cmpint (g_get_monotonic_time () - start, <, 2000000);
  pthread_join (thread, NULL);
  g_assert_true (finished == !cancel);
  g_assert_true (running.ok == !cancel);
  if (cancel) {
    g_assert_error (running.error, VMA_ERROR, VMA_ERROR_CANCELLED);
    g_assert_error (error, VMA_ERROR, VMA_ERROR_CANCELLED);
    g_clear_error (&running.error);
  } else
    g_assert_cmpuint (synth_check_index (archive, index, b->data, b->len), ==, 0);
}

typedef struct {
  const GByteArray *bytes;
  GCancellable *cancellable;
  guint reads, cancel_at;
} Cancelling;

static void
fill_and_cancel (gpointer data, guint8 *buffer, gsize size, guint64 offset)
{
  Cancelling *c = data;

  memcpy (buffer, c->bytes->data + offset, size);
  if (++c->reads == c->cancel_at)
    g_cancellable_cancel (c->cancellable);
}

/* Whatever the scan is at, searching too. */
static void
test_cancel_anywhere (void)
{
  g_autoptr (SynthArchive) archive = plain_archive (6, 3, 60);

  for (guint how = 0; how < 5; how++) {
    g_autoptr (GByteArray) bytes = damaged_bytes (archive, how);
    gboolean ok = FALSE;

    for (guint n = 1; !ok; n++) {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Cancelling c = { .bytes = bytes, .cancellable = cancellable, .cancel_at = n };
      g_autoptr (SynthSource) source = synth_source_new_virtual (bytes->len, fill_and_cancel, &c);
      g_autoptr (VmaHeader) header = header_of (bytes->data, bytes->len);
      g_autoptr (VmaIndex) index = vma_index_new (header, NULL);
      g_autoptr (VmaScanner) scanner
          = vma_scanner_new (synth_source_base (source), header, index, TRUE);
      g_autoptr (GError) error = NULL;

      ok = vma_scanner_run (scanner, cancellable, &error);
      if (!ok)
        g_assert_error (error, VMA_ERROR, VMA_ERROR_CANCELLED);
      g_assert_cmpuint (n, <, 10000);
    }
  }
}

static void
test_cancel (void)
{
  check_gate (TRUE, FALSE);
  check_gate (TRUE, TRUE);
}

static void
test_wake (void)
{
  check_gate (FALSE, FALSE);
  check_gate (FALSE, TRUE);
}

/* --- cost -------------------------------------------------------------------------------------- */

typedef void (*Spoil) (guint8 *header, guint i);

/* CPU seconds for n bare headers that were treated so. */
static double
time_of (guint n, gboolean salvage, Spoil spoil)
{
  g_autoptr (SynthHeader) builder = synth_header_new ();
  double best = 1e9;

  synth_header_device (builder, 1, "drive-scsi0", (guint64) n * 65536);
  g_autoptr (GByteArray) bytes = synth_header_bytes (builder);
  guint32 start = bytes->len;
  g_byte_array_set_size (bytes, start + n * 512);
  for (guint i = 0; i < n; i++) {
    guint8 *header = bytes->data + start + 512 * (gsize) i;
    synth_extent (header, &(SynthSlot){ 1, i, 0 }, 1);
    if (spoil != NULL)
      spoil (header, i);
  }
  for (guint round = 0; round < 3; round++) {
    g_autoptr (VmaHeader) header = header_of (bytes->data, bytes->len);
    g_autoptr (VmaIndex) index = vma_index_new (header, NULL);
    g_autoptr (SynthSource) source = synth_source_new (bytes->data, bytes->len);
    g_autoptr (VmaScanner) scanner
        = vma_scanner_new (synth_source_base (source), header, index, salvage);
    clock_t before = clock ();
    g_assert_true (vma_scanner_run (scanner, NULL, NULL));
    best = MIN (best, (double) (clock () - before) / CLOCKS_PER_SEC);
  }
  return best;
}

static void
spoil_every_second (guint8 *header, guint i)
{
  if (i % 2 == 1)
    header[100] ^= 1;
}

/* Each says that the next hundred headers are its data. */
static void
spoil_nested (guint8 *header, guint i)
{
  SynthSlot slots[4];

  for (guint k = 0; k < 4; k++)
    slots[k] = (SynthSlot){ 1, i + k, 0x1fff };
  synth_extent (header, slots, 4);
}

static void
check_linear (const char *what, guint n, gboolean salvage, Spoil spoil)
{
  n = (guint) (n * (synth_scale () < 1 ? 0.25 : 1));
  double once = 0, twice = 0;

  /* Other work on the machine can only make it look worse. */
  for (guint attempt = 0; attempt < 4; attempt++) {
    once = time_of (n, salvage, spoil);
    twice = time_of (2 * n, salvage, spoil);
    if (twice <= 2.6 * once + 0.002)
      break;
  }
  g_test_message ("%s: %.3f s for %u headers, %.3f s for twice as many", what, once, n, twice);
  g_assert_cmpfloat (twice, <=, 2.6 * once + 0.002);
}

static void
test_linear (void)
{
  check_linear ("bare headers", 60000, FALSE, NULL);
  check_linear ("every second one broken", 10000, TRUE, spoil_every_second);
  check_linear ("headers in headers", 2000, TRUE, spoil_nested);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/scan/sound", test_sound);
  g_test_add_func ("/scan/next", test_next);
  g_test_add_func ("/scan/extent-removed", test_extent_removed);
  g_test_add_func ("/scan/missing", test_missing);
  g_test_add_func ("/scan/twice", test_twice);
  g_test_add_func ("/scan/unfit", test_unfit);
  g_test_add_func ("/scan/unfit-and-moved", test_unfit_and_moved);
  g_test_add_func ("/scan/vmstate", test_vmstate);
  g_test_add_func ("/scan/truncated", test_truncated);
  g_test_add_func ("/scan/truncated-unknown-size", test_truncated_unknown_size);
  g_test_add_func ("/scan/short-reads", test_short_reads);
  g_test_add_func ("/scan/removed", test_removed);
  g_test_add_func ("/scan/inserted", test_inserted);
  g_test_add_func ("/scan/removed-across", test_removed_across);
  g_test_add_func ("/scan/headers-broken", test_headers_broken);
  g_test_add_func ("/scan/mangled", test_mangled);
  g_test_add_func ("/scan/nth-read-fails", test_nth_read_fails);
  g_test_add_func ("/scan/connection-lost", test_connection_lost);
  g_test_add_func ("/scan/bad-unknown-size", test_bad_unknown_size);
  g_test_add_func ("/scan/bad-sectors", test_bad_sectors);
  g_test_add_func ("/scan/cancel", test_cancel);
  g_test_add_func ("/scan/cancel-anywhere", test_cancel_anywhere);
  g_test_add_func ("/scan/wake", test_wake);
  g_test_add_func ("/scan/linear", test_linear);
  return g_test_run ();
}
