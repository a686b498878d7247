/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of lz4 frames one by one, made by hand: each says how much it needs, and what is wrong with it.
 */
#include "source/lz4-stream.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>
#include <xxhash.h>

#define INDEPENDENT 0x60u /* with the format's version */
#define LINKED      0x40u
#define BLOCK_SUMS  0x10u
#define SIZED       0x08u
#define SUM         0x04u

static void
add (GByteArray *to, const void *bytes, gsize size)
{
  g_byte_array_append (to, bytes, (guint) size);
}

static void
add_le32 (GByteArray *to, guint32 value)
{
  guint8 bytes[4];

  vma_put_le32 (bytes, value);
  add (to, bytes, 4);
}

static void
add_header (GByteArray *to, guint8 flags, guint64 size)
{
  guint8 bytes[10] = { flags, 0x40 }; /* blocks of at most 64 KiB */
  gsize n = (flags & SIZED) != 0 ? 10 : 2;

  vma_put_le64 (bytes + 2, size);
  add_le32 (to, LZ4_MAGIC);
  add (to, bytes, n);
  guint8 sum = (guint8) (XXH32 (bytes, n, 0) >> 8);
  add (to, &sum, 1);
}

static void
add_stored (GByteArray *to, const char *text, gboolean sum)
{
  gsize size = strlen (text);

  add_le32 (to, 0x80000000u | (guint32) size);
  add (to, text, size);
  if (sum)
    add_le32 (to, XXH32 (text, size, 0));
}

/* Goes through it as far as it can; each part is asked for with one byte less than it takes before. */
static gboolean
run (Lz4Stream *stream, const GByteArray *bytes, GString *out, GError **error)
{
  gsize at = 0;

  while (at < bytes->len) {
    gsize size = 0, used, need;
    do {
      /* A copy of its own, so that reading behind it is seen. */
      g_autofree guint8 *copy = g_memdup2 (bytes->data + at, size);
      if (!lz4_stream_step (stream, copy, size, &used, &need, error))
        return FALSE;
      g_assert_true (need > size || need == 0);
      g_assert_true (need == 0 || used == 0);
      size = need;
    } while (need != 0 && at + need <= bytes->len);
    if (need != 0)
      return TRUE; /* cut off */
    at += used;
    g_assert_cmpuint (stream->offset, ==, at);
    const guint8 *got = lz4_stream_output (stream, &size);
    if (size > 0)
      g_string_append_len (out, (const char *) got, (gssize) size);
  }
  return TRUE;
}

static void
expect_good (const GByteArray *bytes, const char *wanted, gboolean may_end)
{
  g_autoptr (GString) out = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  Lz4Stream stream;

  lz4_stream_init (&stream, 0);
  run (&stream, bytes, out, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (out->str, ==, wanted);
  g_assert_true (lz4_stream_may_end (&stream) == may_end);
  lz4_stream_clear (&stream);
}

static void
expect_bad (const GByteArray *bytes, int code, const char *message)
{
  g_autoptr (GString) out = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  Lz4Stream stream;

  lz4_stream_init (&stream, 0);
  g_assert_false (run (&stream, bytes, out, &error));
  g_assert_error (error, VMA_ERROR, code);
  g_assert_nonnull (strstr (error->message, message));
  lz4_stream_clear (&stream);
}

static void
test_frames (void)
{
  for (guint i = 0; i < 16; i++) {
    guint8 flags = (guint8) ((i & 1 ? BLOCK_SUMS : 0) | (i & 2 ? SIZED : 0) | (i & 4 ? SUM : 0)
                             | (i & 8 ? LINKED : INDEPENDENT));
    g_autoptr (GByteArray) bytes = g_byte_array_new ();

    add_header (bytes, flags, 8);
    add_stored (bytes, "hello", i & 1);
    expect_good (bytes, "hello", FALSE);
    add_stored (bytes, "you", i & 1);
    add_le32 (bytes, 0);
    if ((flags & SUM) != 0) {
      expect_good (bytes, "helloyou", FALSE);
      add_le32 (bytes, XXH32 ("helloyou", 8, 0));
    }
    expect_good (bytes, "helloyou", TRUE);
    /* Another, and something to be skipped before it, or nothing. */
    add_le32 (bytes, LZ4_MAGIC_SKIPPABLE + i);
    add_le32 (bytes, i % 3);
    add (bytes, "any", i % 3);
    expect_good (bytes, "helloyou", TRUE);
    add_header (bytes, INDEPENDENT, 0);
    add_stored (bytes, "!", FALSE);
    expect_good (bytes, "helloyou!", FALSE);
    add_le32 (bytes, 0);
    expect_good (bytes, "helloyou!", TRUE);
  }
}

/* A block may copy from the one before it, if they are linked. */
static void
test_linked (void)
{
  static const guint8 copies[] = { 0x04, 8, 0, 0x50, 'a', 'b', 'c', 'd', '!' }; /* 8 bytes from 8 back */

  for (guint linked = 0; linked < 2; linked++) {
    g_autoptr (GByteArray) bytes = g_byte_array_new ();
    add_header (bytes, linked ? LINKED : INDEPENDENT, 0);
    add_stored (bytes, "12345678", FALSE);
    add_le32 (bytes, sizeof copies);
    add (bytes, copies, sizeof copies);
    if (linked)
      expect_good (bytes, "1234567812345678abcd!", FALSE);
    else
      expect_bad (bytes, VMA_ERROR_DAMAGED, "at 19 of the file: a block that cannot be decoded");
  }
}

static void
test_bad_headers (void)
{
  const struct {
    const char *bytes;
    gsize size;
    int code;
    const char *message;
  } bad[] = {
    { "\x02\x21\x4c\x18", 4, VMA_ERROR_UNSUPPORTED, "the legacy format" },
    { "none", 4, VMA_ERROR_DAMAGED, "this is not the header of a frame" },
    { "\x04\x22\x4d\x18\x20\x40", 6, VMA_ERROR_DAMAGED, "an impossible frame header" }, /* version */
    { "\x04\x22\x4d\x18\x62\x40", 6, VMA_ERROR_DAMAGED, "an impossible frame header" },
    { "\x04\x22\x4d\x18\x60\xc0", 6, VMA_ERROR_DAMAGED, "an impossible frame header" },
    { "\x04\x22\x4d\x18\x60\x30", 6, VMA_ERROR_DAMAGED, "an impossible frame header" }, /* size */
    { "\x04\x22\x4d\x18\x61\x40", 6, VMA_ERROR_UNSUPPORTED, "needs a dictionary" },
    { "\x04\x22\x4d\x18\x60\x40\0", 7, VMA_ERROR_DAMAGED, "checksum mismatch in a frame header" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GByteArray) bytes = g_byte_array_new ();
    add (bytes, bad[i].bytes, bad[i].size);
    expect_bad (bytes, bad[i].code, bad[i].message);
  }
}

static void
test_bad_blocks (void)
{
  g_autoptr (GByteArray) large = g_byte_array_new (), sum = g_byte_array_new (),
                         size = g_byte_array_new (), frame = g_byte_array_new ();

  add_header (large, INDEPENDENT, 0);
  add_le32 (large, 65537);
  expect_bad (large, VMA_ERROR_DAMAGED, "at 7 of the file: a block is too large");

  add_header (sum, INDEPENDENT | BLOCK_SUMS, 0);
  add_stored (sum, "hello", TRUE);
  sum->data[sum->len - 1] ^= 1;
  expect_bad (sum, VMA_ERROR_DAMAGED, "at 7 of the file: checksum mismatch in a block");

  add_header (size, INDEPENDENT | SIZED, 6);
  add_stored (size, "hello", FALSE);
  add_le32 (size, 0);
  expect_bad (size, VMA_ERROR_DAMAGED, "the content size of the frame is wrong");

  add_header (frame, INDEPENDENT | SUM, 0);
  add_stored (frame, "hello", FALSE);
  add_le32 (frame, 0);
  add_le32 (frame, 1 + XXH32 ("hello", 5, 0));
  expect_bad (frame, VMA_ERROR_DAMAGED, "checksum mismatch in the frame that ends here");
}

/* From a block on: what needs the frame's beginning is not checked, all else is. */
static void
test_states (void)
{
  for (guint linked = 0; linked < 2; linked++) {
    g_autoptr (GByteArray) bytes = g_byte_array_new (), rest = g_byte_array_new ();
    g_autoptr (GString) out = g_string_new (NULL);
    g_autoptr (GError) error = NULL;
    Lz4Stream first, second;

    add_header (bytes, (linked ? LINKED : INDEPENDENT) | SIZED | SUM, 99); /* which is not so */
    add_stored (bytes, "12345678", FALSE);
    lz4_stream_init (&first, 0);
    g_assert_true (run (&first, bytes, out, &error));
    g_autoptr (GBytes) state = lz4_stream_save (&first);
    lz4_stream_clear (&first);
    VmaCheckpoint from = { .in = 0, .out = 8, .state = state };

    lz4_stream_init (&second, 0);
    g_assert_true (lz4_stream_restore (&second, &from, &error));
    g_assert_cmpuint (second.window, ==, linked ? 8 : 0);
    if (linked) {
      add_le32 (rest, 9);
      add (rest, "\x04\x08\0\x50" "abcd!", 9);
    } else
      add_stored (rest, "12345678abcd!", FALSE);
    add_le32 (rest, 0);
    add (rest, "sums", 4);
    g_string_truncate (out, 0);
    g_assert_true (run (&second, rest, out, &error));
    g_assert_no_error (error);
    g_assert_cmpstr (out->str, ==, "12345678abcd!");
    g_assert_true (lz4_stream_may_end (&second));
    lz4_stream_clear (&second);
  }
}

static void
test_bad_states (void)
{
  static const struct {
    guint8 bytes[6];
    gsize size;
  } bad[] = { { { 0 }, 0 },
              { { LINKED }, 1 },
              { { 0, 0x40 }, 2 },                    /* no version */
              { { LINKED | 1, 0x40 }, 2 },           /* a dictionary */
              { { LINKED, 0x40, 'b', 'a', 'd' }, 5 } };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GBytes) state = g_bytes_new (bad[i].bytes, bad[i].size);
    const VmaCheckpoint from = { .in = 5, .out = 1234, .state = state };
    g_autoptr (GError) error = NULL;
    Lz4Stream stream;

    lz4_stream_init (&stream, 5);
    g_assert_false (lz4_stream_restore (&stream, &from, &error));
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
    g_assert_cmpstr (error->message, ==, "the saved checkpoint at 1234 is damaged");
    lz4_stream_clear (&stream);
  }
  const VmaCheckpoint none = { .in = 5, .out = 0 };
  gsize size;
  Lz4Stream stream;
  lz4_stream_init (&stream, 5);
  g_assert_true (lz4_stream_restore (&stream, &none, NULL));
  g_assert_null (lz4_stream_output (&stream, &size));
  g_assert_false (lz4_stream_may_end (&stream)); /* there was no frame */
  lz4_stream_clear (&stream);
}

/* The lengths of independent blocks alone; `gives` 0: refused. */
static void
test_measure (void)
{
  const struct {
    const char *bytes;
    gsize size, max, gives;
  } blocks[] = {
    { "\x10x", 2, 10, 1 },
    { "", 0, 10, 0 },
    { "\x20x", 2, 10, 0 },                      /* fewer literals than it says */
    { "\x20xy", 3, 1, 0 },                      /* more than there may be */
    { "\xf0", 1, 999, 0 },                      /* a length that goes on nowhere */
    { "\xf0\xff", 2, 999, 0 },
    { "\xf0\x00" "123456789012345", 17, 999, 15 },
    { "\x10x\x01", 3, 10, 0 },                  /* half a distance */
    { "\x10x\x00\x00", 4, 10, 0 },              /* of nothing */
    { "\x10x\x02\x00", 4, 10, 0 },              /* from before the block */
    { "\x10x\x01\x00\x10y", 6, 10, 6 },
    { "\x10x\x01\x00\x10y", 6, 4, 0 },          /* the match is too long */
    { "\x10x\x01\x00", 4, 10, 0 },              /* no last literals */
    { "\x1fx\x01\x00", 4, 999, 0 },             /* a match's length that goes on nowhere */
    { "\x1fx\x01\x00\x05\x10y", 7, 999, 26 },   /* 1 + 15 + 5 + 4 + 1 */
  };

  for (guint i = 0; i < G_N_ELEMENTS (blocks); i++) {
    g_autofree guint8 *copy = g_memdup2 (blocks[i].bytes, blocks[i].size);
    g_assert_cmpuint (lz4_block_measure (copy, blocks[i].size, blocks[i].max), ==, blocks[i].gives);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/lz4-stream/frames", test_frames);
  g_test_add_func ("/lz4-stream/linked", test_linked);
  g_test_add_func ("/lz4-stream/bad-headers", test_bad_headers);
  g_test_add_func ("/lz4-stream/bad-blocks", test_bad_blocks);
  g_test_add_func ("/lz4-stream/states", test_states);
  g_test_add_func ("/lz4-stream/bad-states", test_bad_states);
  g_test_add_func ("/lz4-stream/measure", test_measure);
  return g_test_run ();
}
