/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The zstd codec on streams that the zstd program makes of archive-like data, on streams made by
 * hand, and on broken ones.
 *
 * VMA_TEST_ZSTD_MB sets the megabytes of data (16); more takes longer and sees more.
 */
#include "source/zstd/codec.h"
#include "source/zstd/frame.h"
#include "source/zstd/pass.h"

#include "vma/bytes.h"
#include "tests/unit/synth.h"
#include "vma/error.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static GByteArray *plain; /* the data */

/* -- Data -------------------------------------------------------------------------------------- */

static guint32 noise_state = 2463534242u;

static guint32
noise (void)
{
  noise_state ^= noise_state << 13;
  noise_state ^= noise_state >> 17;
  noise_state ^= noise_state << 5;
  return noise_state;
}

/* 1 to `most`, but not more than `limit`.  (MIN() would ask twice.) */
static gsize
some (gsize most, gsize limit)
{
  gsize n = 1 + noise () % most;

  return n < limit ? n : limit;
}

static void
append_text (GByteArray *to, gsize size)
{
  static const char *words[] = { "the ",  "block ", "of ",          "cluster ",  "error: ", "0x",
                                 "inode", "\n",     "systemd[1]: ", "/usr/lib/", "=",       "a" };
  gsize end = to->len + size;

  while (to->len < end) {
    const char *word = words[noise () % G_N_ELEMENTS (words)];
    char number[16];
    g_byte_array_append (to, (const guint8 *)word, (guint)strlen (word));
    if (noise () % 4 == 0) {
      g_snprintf (number, sizeof number, "%u ", noise () % 5000);
      g_byte_array_append (to, (const guint8 *)number, (guint)strlen (number));
    }
  }
  g_byte_array_set_size (to, (guint)end);
}

static void
append_fill (GByteArray *to, gsize size, gboolean random)
{
  guint at = to->len;

  g_byte_array_set_size (to, at + (guint)size);
  for (gsize i = 0; i < size; i++)
    to->data[at + i] = random ? (guint8)(noise () >> 8) : 0;
}

/* Fixed-size structures that differ in a few fields: tables, inodes. */
static void
append_records (GByteArray *to, gsize size)
{
  gsize end = to->len + size;

  for (guint32 i = 0; to->len < end; i++) {
    guint8 record[48] = "record";
    vma_put_le32 (record + 8, i);
    vma_put_le32 (record + 20, noise () % 300);
    vma_put_le32 (record + 40, i * 4096);
    g_byte_array_append (to, record, sizeof record);
  }
  g_byte_array_set_size (to, (guint)end);
}

/* Something from further back, in pieces. */
static void
append_echo (GByteArray *to, gsize size)
{
  gsize end = to->len + size;

  while (to->len < end) {
    guint8 piece[3000];
    gsize n = 20 + noise () % (sizeof piece - 20);
    gsize back = some (1u << (12 + noise () % 11), to->len);
    if (back < n) {
      append_fill (to, n, TRUE);
      continue;
    }
    memcpy (piece, to->data + to->len - back, n);
    piece[n / 2] ^= 1;
    g_byte_array_append (to, piece, (guint)n);
  }
  g_byte_array_set_size (to, (guint)end);
}

static void
make_plain (gsize size)
{
  plain = g_byte_array_new ();
  while (plain->len < size) {
    gsize n = some (400u << 10, size - plain->len);
    switch (noise () % 6) {
    case 0:
      append_fill (plain, n, FALSE);
      break;
    case 1:
      append_fill (plain, n, TRUE);
      break;
    case 2:
      append_records (plain, n);
      break;
    case 3:
      append_echo (plain, n);
      break;
    default:
      append_text (plain, n);
      break;
    }
  }
}

/* -- The codec, with everything in memory ------------------------------------------------------ */

typedef struct {
  GByteArray *out;
  guint64 base; /* position of out[0] */
  GArray *checkpoints;
} Result;

static void
clear_checkpoint (gpointer data)
{
  VmaCheckpoint *at = data;

  g_clear_pointer (&at->state, g_bytes_unref);
}

static void
result_init (Result *result)
{
  *result = (Result){ .out = g_byte_array_new (),
                      .checkpoints = g_array_new (FALSE, FALSE, sizeof (VmaCheckpoint)) };
  g_array_set_clear_func (result->checkpoints, clear_checkpoint);
}

static void
result_clear (Result *result)
{
  g_byte_array_unref (result->out);
  g_array_unref (result->checkpoints);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Result, result_clear)

static gboolean
on_output (gpointer data, const guint8 *bytes, gsize size, GError **error)
{
  Result *result = data;

  (void)error;
  g_byte_array_append (result->out, bytes, (guint)size);
  return TRUE;
}

static const VmaCheckpoint *
nth (const Result *result, guint i)
{
  return &g_array_index (result->checkpoints, VmaCheckpoint, i);
}

static gboolean
on_checkpoint (gpointer data, const VmaCheckpoint *at, GError **error)
{
  Result *result = data;
  VmaCheckpoint copy = *at;

  (void)error;
  if (result->checkpoints->len > 0)
    g_assert_cmpuint (at->out, >, nth (result, result->checkpoints->len - 1)->out);
  if (copy.state != NULL)
    g_bytes_ref (copy.state);
  g_array_append_val (result->checkpoints, copy);
  return TRUE;
}

static gssize
read_bytes (gpointer data, void *buffer, gsize size, guint64 offset, GError **error)
{
  const GByteArray *packed = data;
  gsize n = offset < packed->len ? MIN (size, packed->len - (gsize)offset) : 0;

  (void)error;
  if (n > 0)
    memcpy (buffer, packed->data + offset, n);
  return (gssize)n;
}

static gboolean
run_pass (GByteArray *packed, const VmaCheckpoint *from, const VmaCodecLimits *limits,
          VmaZstdPassFlags flags, Result *result, GError **error)
{
  const VmaPassSink sink = { result, on_output, on_checkpoint };
  VmaPass *pass = vma_zstd_pass_new_with (from, limits, &sink, flags, error);
  gsize at = from != NULL ? (gsize)from->in : 0;
  gboolean ok = pass != NULL;

  while (ok && at < packed->len) {
    gsize n = some (noise () % 2 ? 300000 : 3000, packed->len - at);
    /* A copy of its own, so that reading behind it is seen. */
    g_autofree guint8 *piece = g_memdup2 (packed->data + at, n);
    ok = vma_zstd_pass_feed (pass, piece, n, error);
    at += n;
  }
  ok = ok && vma_zstd_pass_end (pass, error);
  if (ok)
    g_assert_cmpuint (vma_zstd_pass_given_up (pass), ==, 0);
  vma_zstd_pass_free (pass);
  return ok;
}

static gboolean
decode (GByteArray *packed, const VmaCheckpoint *from, const VmaCodecLimits *limits, guint8 *out,
        gsize size, GError **error)
{
  const VmaCodecInput input = { packed, read_bytes, packed->len };

  return vma_zstd_codec.decode (from, &input, limits, out, size, error);
}

static void
check_decode (GByteArray *packed, const VmaCheckpoint *from, const VmaCodecLimits *limits,
              gsize size, const guint8 *expected)
{
  g_autofree guint8 *out = g_malloc (MAX (size, 1));
  g_autoptr (GError) error = NULL;

  gboolean ok = decode (packed, from, limits, out, size, &error);
  g_assert_no_error (error);
  g_assert_true (ok);
  g_assert_true (memcmp (out, expected, size) == 0);
}

static void
check_same (const Result *a, const Result *b, guint skip)
{
  g_assert_cmpuint (b->checkpoints->len, ==, a->checkpoints->len - skip);
  for (guint i = 0; i < b->checkpoints->len; i++) {
    const VmaCheckpoint *x = nth (a, i + skip);
    const VmaCheckpoint *y = nth (b, i);
    g_assert_cmpuint (x->in, ==, y->in);
    g_assert_cmpuint (x->out, ==, y->out);
    g_assert_true ((x->state == NULL) == (y->state == NULL));
    g_assert_true (x->state == NULL || g_bytes_equal (x->state, y->state));
  }
}

/*
 * Everything about one stream that gives expected[0..size): the pass, with one thread and two; each
 * checkpoint to the next, and to anywhere; the pass from each checkpoint.
 */
static guint
check_stream (GByteArray *packed, const guint8 *expected, gsize size, guint64 spacing)
{
  const VmaCodecLimits limits = { .memory = G_GUINT64_CONSTANT (1) << 30, .spacing = spacing };
  g_autoptr (GError) error = NULL;
  g_auto (Result) all = { 0 };
  g_auto (Result) threaded = { 0 };

  result_init (&all);
  result_init (&threaded);
  run_pass (packed, NULL, &limits, VMA_ZSTD_PASS_ONE_THREAD, &all, &error);
  g_assert_no_error (error);
  run_pass (packed, NULL, &limits, VMA_ZSTD_PASS_TWO_THREADS, &threaded, &error);
  g_assert_no_error (error);
  check_same (&all, &threaded, 0);
  g_assert_cmpuint (all.out->len, ==, size);
  g_assert_true (memcmp (all.out->data, expected, size) == 0);

  /* Looking at every match finds nothing wrong, and repeat offsets that are not known otherwise. */
  g_auto (Result) thorough = { 0 };
  result_init (&thorough);
  run_pass (packed, NULL, &limits, VMA_ZSTD_PASS_THOROUGH, &thorough, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (thorough.checkpoints->len, >=, all.checkpoints->len);

  guint n = all.checkpoints->len;
  for (guint i = 0; i < n; i++) {
    const VmaCheckpoint *from = nth (&all, i);
    gsize end = i + 1 < n ? (gsize)nth (&all, i + 1)->out : size;
    gsize left = size - (gsize)from->out;

    g_assert_cmpuint (left, >, 0);
    check_decode (packed, from, &limits, end - (gsize)from->out, expected + from->out);
    for (guint k = 0; k < 4; k++)
      check_decode (packed, from, &limits, noise () % (MIN (left, 3u << 20) + 1),
                    expected + from->out);
    check_decode (packed, from, &limits, MIN (left, 256u << 10), expected + from->out);

    if (n > 12 && i % (n / 12) != 0)
      continue;
    g_auto (Result) rest = { 0 };
    result_init (&rest);
    run_pass (packed, from, &limits, i % 2 ? VMA_ZSTD_PASS_TWO_THREADS : VMA_ZSTD_PASS_ONE_THREAD,
              &rest, &error);
    g_assert_no_error (error);
    g_assert_cmpuint (rest.out->len, ==, left);
    g_assert_true (memcmp (rest.out->data, expected + from->out, left) == 0);
    check_same (&all, &rest, i + 1);
  }
  return n;
}

/* -- Streams by the program -------------------------------------------------------------------- */

static GByteArray *
compress_part (const char *arguments, gsize from, gsize size)
{
  g_autofree char *raw = NULL;
  g_autofree char *packed = NULL;
  g_autofree char *command = NULL;
  g_autoptr (GError) error = NULL;
  char *contents;
  gsize length;
  int status;

  g_close (g_file_open_tmp ("vma-test-XXXXXX", &raw, &error), NULL);
  g_assert_no_error (error);
  packed = g_strconcat (raw, ".zst", NULL);
  g_file_set_contents (raw, (const char *)plain->data + from, (gssize)size, &error);
  g_assert_no_error (error);
  command = g_strdup_printf ("sh -c 'zstd -q %s < %s > %s'", arguments, raw, packed);
  g_spawn_command_line_sync (command, NULL, NULL, &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, 0);
  g_file_get_contents (packed, &contents, &length, &error);
  g_assert_no_error (error);
  remove (raw);
  remove (packed);
  return g_byte_array_new_take ((guint8 *)contents, length);
}

typedef struct {
  const char *arguments;
  gboolean wide; /* the window is larger than the data: no checkpoints inside */
} Kind;

static const Kind kinds[] = {
  { "-1", FALSE },
  { "-3", FALSE },
  { "-3 --rsyncable -T1", FALSE },
  { "-3 --single-thread", FALSE },
  { "-3 --no-check", FALSE },
  { "-3 -T0 -B1M", FALSE },
  { "-9 --zstd=wlog=19", FALSE },
  { "--fast=5", FALSE },
  { "-19 --zstd=wlog=20", FALSE },
  { "--ultra -22 --zstd=wlog=20", FALSE },
  { "-9", TRUE },
  { "-3 --long=27", TRUE },
  { "-3 --long=22", FALSE },
  { "-1 --zstd=wlog=10", FALSE },
  { "-5 --zstd=wlog=14", FALSE },
};

static void
test_program (gconstpointer data)
{
  const Kind *kind = data;
  gsize size = kind->arguments[1] == '1' && kind->arguments[2] == '9' ? plain->len / 4 : plain->len;
  if (strstr (kind->arguments, "--ultra"))
    size = plain->len / 4;
  g_autoptr (GByteArray) packed = compress_part (kind->arguments, 0, size);
  guint64 spacing = strstr (kind->arguments, "wlog=1") ? 200 << 10 : 1 << 20;
  guint n = check_stream (packed, plain->data, size, spacing);

  if (!kind->wide)
    g_assert_cmpuint (n, >, size / (6u << 20));
}

static void
append_skippable (GByteArray *to, guint32 size)
{
  guint8 head[8];

  vma_put_le32 (head, 0x184D2A50 + noise () % 16);
  vma_put_le32 (head + 4, size);
  g_byte_array_append (to, head, sizeof head);
  append_fill (to, size, TRUE);
}

/* Many frames of all sizes, skippable and empty ones between, before and after. */
static GByteArray *
make_many (gsize size)
{
  static const char *levels[]
      = { "-3", "-1 --no-check", "-9 --zstd=wlog=17", "-3 -T1 --rsyncable" };
  static const guint8 empty[] = { 0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 0x01, 0x00, 0x00 };
  GByteArray *packed = g_byte_array_new ();

  for (gsize at = 0; at < size;) {
    gsize n = some (noise () % 3 ? 50000 : 5000000, size - at);
    g_autoptr (GByteArray) frame = compress_part (levels[noise () % G_N_ELEMENTS (levels)], at, n);

    for (guint i = noise () % 3; i > 0; i--)
      append_skippable (packed, noise () % 5000);
    for (guint i = noise () % 4; i > 0; i--)
      g_byte_array_append (packed, empty, sizeof empty);
    g_byte_array_append (packed, frame->data, frame->len);
    at += n;
  }
  append_skippable (packed, 100);
  g_byte_array_append (packed, empty, sizeof empty);
  return packed;
}

static void
test_many_frames (void)
{
  g_autoptr (GByteArray) packed = make_many (plain->len);

  check_stream (packed, plain->data, plain->len, 1 << 20);
  check_stream (packed, plain->data, plain->len, 200 << 10);
}

static void
test_empty (void)
{
  static const guint8 empty[] = { 0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 0x01, 0x00, 0x00 };
  g_autoptr (GByteArray) packed = g_byte_array_new ();
  const VmaCodecLimits limits = { .memory = 64 << 20, .spacing = 1 << 20 };
  g_auto (Result) result = { 0 };
  g_autoptr (GError) error = NULL;

  result_init (&result);
  for (guint i = 0; i < 100000; i++)
    g_byte_array_append (packed, empty, sizeof empty);
  g_assert_true (run_pass (packed, NULL, &limits, VMA_ZSTD_PASS_DEFAULT, &result, &error));
  g_assert_cmpuint (result.checkpoints->len, ==, 0);
  g_assert_cmpuint (result.out->len, ==, 0);
}

/* A frame of empty blocks only, and then one byte. */
static void
test_empty_blocks (void)
{
  static const guint8 head[] = { 0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58 };
  static const guint8 nothing[] = { 0, 0, 0 };
  static const guint8 end[] = { 0x09, 0, 0, 'x' };
  g_autoptr (GByteArray) packed = g_byte_array_new ();

  g_byte_array_append (packed, head, sizeof head);
  for (guint i = 0; i < 300000; i++)
    g_byte_array_append (packed, nothing, sizeof nothing);
  g_byte_array_append (packed, end, sizeof end);
  g_assert_cmpuint (check_stream (packed, (const guint8 *)"x", 1, 1), ==, 1);
}

/* -- A stream by hand -------------------------------------------------------------------------- */

/* Blocks that repeat tables of one symbol, which libzstd's encoder never does. */
static void
test_repeated_rle (void)
{
  static const guint8 head[] = { 0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x00 };
  /* two raw literals; two sequences: one literal, a match of 3 from 1..4 back */
  static const guint8 first[] = { 0x10, 'x', 'y', 2, 0x54, 1, 2, 0, 0x1B };
  static const guint8 again[] = { 0x10, 'z', 'w', 2, 0xFC, 0x16 };
  g_autoptr (GByteArray) packed = g_byte_array_new ();
  g_autofree guint8 *expected = g_malloc (1 << 20);
  guint8 block[3];
  guint n_again = 400;

  g_byte_array_append (packed, head, sizeof head);
  vma_zstd_block_write (block, VMA_ZSTD_BLOCK_RAW, FALSE, 1020);
  g_byte_array_append (packed, block, sizeof block);
  append_fill (packed, 1020, TRUE);
  vma_zstd_block_write (block, VMA_ZSTD_BLOCK_COMPRESSED, FALSE, sizeof first);
  g_byte_array_append (packed, block, sizeof block);
  g_byte_array_append (packed, first, sizeof first);
  for (guint i = 0; i < n_again; i++) {
    vma_zstd_block_write (block, VMA_ZSTD_BLOCK_COMPRESSED, i + 1 == n_again, sizeof again);
    g_byte_array_append (packed, block, sizeof block);
    g_byte_array_append (packed, again, sizeof again);
  }
  gsize size = ZSTD_decompress (expected, 1 << 20, packed->data, packed->len);
  g_assert_false (ZSTD_isError (size));
  g_assert_cmpuint (size, ==, 1020 + 8 + 8 * n_again);
  g_assert_cmpuint (check_stream (packed, expected, size, 1), >=, 3);
}

/* -- The seekable format ----------------------------------------------------------------------- */

static gboolean
walk (GByteArray *packed, Result *result, guint64 *total, GError **error)
{
  const VmaCodecInput input = { packed, read_bytes, packed->len };
  const VmaCodecLimits limits = { .memory = 1 << 30, .spacing = 1 << 20 };
  const VmaPassSink sink = { result, on_output, on_checkpoint };

  return vma_zstd_codec.walk (&input, &limits, &sink, total, NULL, error);
}

static void
append_le32 (GByteArray *to, guint32 value)
{
  guint8 bytes[4];

  vma_put_le32 (bytes, value);
  g_byte_array_append (to, bytes, sizeof bytes);
}

static void
test_seekable (void)
{
  g_autoptr (GByteArray) packed = g_byte_array_new ();
  g_autoptr (GByteArray) table = g_byte_array_new ();
  const VmaCodecLimits limits = { .memory = 1 << 30, .spacing = 1 << 20 };
  const gsize piece = 300000;
  guint32 n = 0;
  guint64 total = 0;

  for (gsize at = 0; at < plain->len; at += piece, n++) {
    gsize size = MIN (piece, plain->len - at);
    gsize bound = ZSTD_compressBound (size);
    guint8 *to = (g_byte_array_set_size (packed, (guint)(packed->len + bound)),
                  packed->data + packed->len - bound);
    gsize got = ZSTD_compress (to, bound, plain->data + at, size, 1);
    g_byte_array_set_size (packed, (guint)(packed->len - bound + got));
    append_le32 (table, (guint32)got);
    append_le32 (table, (guint32)size);
  }
  append_le32 (packed, 0x184D2A5E);
  append_le32 (packed, table->len + 9);
  guint begin = packed->len;
  g_byte_array_append (packed, table->data, table->len);
  append_le32 (packed, n);
  g_byte_array_append (packed, (const guint8 *)"", 1);
  append_le32 (packed, 0x8F92EAB1);

  g_auto (Result) result = { 0 };
  g_autoptr (GError) error = NULL;
  result_init (&result);
  g_assert_true (walk (packed, &result, &total, &error));
  g_assert_cmpuint (total, ==, plain->len);
  g_assert_cmpuint (result.checkpoints->len, >, plain->len / (2u << 20));
  for (guint i = 0; i < result.checkpoints->len; i++) {
    const VmaCheckpoint *from = nth (&result, i);
    gsize left = plain->len - (gsize)from->out;
    check_decode (packed, from, &limits, left, plain->data + from->out);
    check_decode (packed, from, &limits, noise () % left, plain->data + from->out);
  }
  check_stream (packed, plain->data, plain->len, 1 << 20);

  /* A table with anything wrong is no table; frames say their size here, so that shows, too. */
  for (guint bit = 0; bit < (packed->len - begin + 8) * 8; bit++) {
    guint8 *byte = packed->data + begin - 8 + bit / 8;
    if (bit / 8 == packed->len - begin + 8 - 5)
      continue; /* the descriptor has unused bits */
    g_auto (Result) broken = { 0 };
    g_autoptr (GError) refusal = NULL;
    result_init (&broken);
    *byte ^= (guint8)(1 << (bit % 8));
    g_assert_false (walk (packed, &broken, &total, &refusal));
    g_assert_error (refusal, VMA_ERROR, VMA_ERROR_UNSUPPORTED);
    *byte ^= (guint8)(1 << (bit % 8));
  }
}

/* -- Refusals, damage -------------------------------------------------------------------------- */

static void
check_refused (const guint8 *bytes, gsize size, guint64 memory, VmaError code)
{
  g_autoptr (GByteArray) packed = g_byte_array_new ();
  const VmaCodecLimits limits = { .memory = memory, .spacing = 1 << 20 };
  g_auto (Result) result = { 0 };
  g_autoptr (GError) error = NULL;

  g_byte_array_append (packed, bytes, (guint)size);
  result_init (&result);
  g_assert_false (run_pass (packed, NULL, &limits, VMA_ZSTD_PASS_DEFAULT, &result, &error));
  g_assert_error (error, VMA_ERROR, (gint)code);
}

static void
test_refused (void)
{
  static const guint8 dictionary[] = { 0x28, 0xB5, 0x2F, 0xFD, 0x01, 0x58, 0x07, 1, 0, 0 };
  static const guint8 legacy[] = { 0x25, 0xB5, 0x2F, 0xFD, 0, 0, 0, 0, 0, 0 };
  static const guint8 huge[] = { 0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA9, 1, 0, 0 };
  static const guint8 large[] = { 0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x88, 1, 0, 0 }; /* 128 MiB */
  static const guint8 other[] = { 'V', 'M', 'A', 0, 0, 0, 0, 1, 0, 0 };
  static const guint8 begun[] = { 0x28, 0xB5, 0x2F };

  check_refused (dictionary, sizeof dictionary, 1 << 30, VMA_ERROR_UNSUPPORTED);
  check_refused (legacy, sizeof legacy, 1 << 30, VMA_ERROR_UNSUPPORTED);
  check_refused (huge, sizeof huge, G_GUINT64_CONSTANT (1) << 40, VMA_ERROR_UNSUPPORTED);
  check_refused (large, sizeof large, 200 << 20, VMA_ERROR_UNSUPPORTED);
  check_refused (other, sizeof other, 1 << 30, VMA_ERROR_DAMAGED);
  check_refused (begun, sizeof begun, 1 << 30, VMA_ERROR_DAMAGED);
  check_refused (large, 7, 1 << 30, VMA_ERROR_DAMAGED);
}

static void
test_probe (void)
{
  static const guint8 frame[] = { 0x28, 0xB5, 0x2F, 0xFD };
  static const guint8 skipped[] = { 0x51, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 9, 0x28, 0xB5, 0x2F, 0xFD };
  static const guint8 lz4[] = { 0x51, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 9, 0x04, 0x22, 0x4D, 0x18 };

  g_assert_true (vma_zstd_codec.probe (frame, sizeof frame));
  g_assert_true (vma_zstd_codec.probe (skipped, sizeof skipped));
  g_assert_false (vma_zstd_codec.probe (lz4, sizeof lz4));
  g_assert_false (vma_zstd_codec.probe (frame, 3));
}

/* Whatever is done to a stream with checksums: an error, or the same data.  What was emitted before
 * the damage can be read. */
static void
test_damaged (void)
{
  const gsize size = MIN (plain->len, 3u << 20);
  const VmaCodecLimits limits = { .memory = 256 << 20, .spacing = 300 << 10 };
  g_autoptr (GByteArray) packed = compress_part ("-3 --zstd=wlog=17", 0, size);

  for (guint round = 0; round < 150; round++) {
    g_autoptr (GByteArray) broken = g_byte_array_new ();
    g_auto (Result) result = { 0 };
    g_autoptr (GError) error = NULL;
    gsize at = noise () % packed->len;

    g_byte_array_append (broken, packed->data, packed->len);
    if (round % 3 == 0)
      g_byte_array_set_size (broken, (guint)at);
    else
      broken->data[at] ^= (guint8)(1 << (noise () % 8));
    result_init (&result);
    gboolean ok = run_pass (broken, NULL, &limits, VMA_ZSTD_PASS_DEFAULT | VMA_ZSTD_PASS_THOROUGH,
                            &result, &error);
    if (ok) {
      g_assert_true (result.out->len == size || broken->len == 0);
      g_assert_true (memcmp (result.out->data, plain->data, result.out->len) == 0);
    } else {
      g_assert_true (error->code == VMA_ERROR_DAMAGED || error->code == VMA_ERROR_UNSUPPORTED);
    }
    for (guint i = 0; i < result.checkpoints->len; i++) {
      const VmaCheckpoint *from = nth (&result, i);
      gsize n = result.out->len - (gsize)from->out;
      check_decode (broken, from, &limits, n, result.out->data + from->out);
    }
  }
}

/* Broken decoder states: an error or something else, but nothing worse. */
static void
test_broken_states (void)
{
  const gsize size = MIN (plain->len, 2u << 20);
  const VmaCodecLimits limits = { .memory = 64 << 20, .spacing = 300 << 10 };
  g_autoptr (GByteArray) packed = compress_part ("-3 --zstd=wlog=17", 0, size);
  g_autofree guint8 *out = g_malloc (300 << 10);
  g_auto (Result) result = { 0 };
  g_autoptr (GError) error = NULL;
  guint refused = 0;

  result_init (&result);
  run_pass (packed, NULL, &limits, VMA_ZSTD_PASS_DEFAULT, &result, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (result.checkpoints->len, >, 2);
  for (guint round = 0; round < 600; round++) {
    VmaCheckpoint from = *nth (&result, 1 + noise () % (result.checkpoints->len - 1));
    gsize state_size;
    const guint8 *data = g_bytes_get_data (from.state, &state_size);
    g_autofree guint8 *copy = g_memdup2 (data, state_size);
    g_autoptr (GError) refusal = NULL;

    if (round % 4 == 0)
      state_size = noise () % state_size;
    else
      copy[noise () % (round % 2 ? MIN (state_size, 300) : state_size)]
          ^= (guint8)(1 << (noise () % 8));
    g_autoptr (GBytes) state = g_bytes_new (copy, state_size);
    from.state = state;
    gsize want = MIN (300u << 10, size - (gsize)from.out);
    refused += !decode (packed, &from, &limits, out, round % 3 ? want : want / 2, &refusal);
    g_assert_true (refusal == NULL || refusal->message != NULL);
    if (round % 4 == 0)
      g_assert_nonnull (refusal);
  }
  g_assert_cmpuint (refused, >, 200);
}

int
main (int argc, char **argv)
{
  const char *megabytes = g_getenv ("VMA_TEST_ZSTD_MB");

  g_test_init (&argc, &argv, NULL);
  make_plain ((gsize)(megabytes != NULL ? atoi (megabytes) : synth_scale () < 1 ? 4 : 16) << 20);
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
    g_autofree char *path = g_strdup_printf ("/zstd/program/%s", kinds[i].arguments);
    g_test_add_data_func (path, &kinds[i], test_program);
  }
  g_test_add_func ("/zstd/many-frames", test_many_frames);
  g_test_add_func ("/zstd/empty", test_empty);
  g_test_add_func ("/zstd/empty-blocks", test_empty_blocks);
  g_test_add_func ("/zstd/repeated-rle", test_repeated_rle);
  g_test_add_func ("/zstd/seekable", test_seekable);
  g_test_add_func ("/zstd/refused", test_refused);
  g_test_add_func ("/zstd/probe", test_probe);
  g_test_add_func ("/zstd/damaged", test_damaged);
  g_test_add_func ("/zstd/broken-states", test_broken_states);
  int status = g_test_run ();
  g_byte_array_unref (plain);
  return status;
}
