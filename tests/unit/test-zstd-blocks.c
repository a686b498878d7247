/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks of zstd that are made by hand: those that are decoded in one go from a checkpoint, those that must be
 * decoded up to where a table says, and what the analysis makes of blocks that libzstd took.
 */
#include "source/zstd/analysis.h"
#include "source/zstd/decode.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>

/* --- streams ----------------------------------------------------------------------------------- */

/* Two literals and no sequences: gives "xy". */
static const guint8 two[] = { 0x10, 'x', 'y', 0 };
/* Two literals; two sequences of one literal and a match of 3, from 3 and from 4 back: gives 8 bytes. */
static const guint8 matches[] = { 0x10, 'x', 'y', 2, 0x54, 1, 2, 0, 0x1B };
/* The same with the tables of the block before. */
static const guint8 again[] = { 0x10, 'z', 'w', 2, 0xFC, 0x16 };
/* Both matches from where the latest one was. */
static const guint8 repeats[] = { 0x10, 'x', 'y', 2, 0x54, 1, 0, 0, 0x01 };

typedef struct {
  GByteArray *bytes;
  guint reads, fail_at; /* the n-th read fails */
} Stream;

static Stream
stream_new (void)
{
  return (Stream){ .bytes = g_byte_array_new () };
}

static void
stream_clear (Stream *stream)
{
  g_clear_pointer (&stream->bytes, g_byte_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Stream, stream_clear)

static void
add_bytes (Stream *stream, const void *bytes, gsize size)
{
  g_byte_array_append (stream->bytes, bytes, (guint) size);
}

static void
add_raw (Stream *stream, const char *text, gboolean last)
{
  guint8 head[VMA_ZSTD_BLOCK_HEADER];

  vma_zstd_block_write (head, VMA_ZSTD_BLOCK_RAW, last, (guint32) strlen (text));
  add_bytes (stream, head, sizeof head);
  add_bytes (stream, text, strlen (text));
}

static void
add_run (Stream *stream, char byte, guint32 size, gboolean last)
{
  guint8 head[VMA_ZSTD_BLOCK_HEADER];

  vma_zstd_block_write (head, VMA_ZSTD_BLOCK_RLE, last, size);
  add_bytes (stream, head, sizeof head);
  add_bytes (stream, &byte, 1);
}

static void
add_compressed (Stream *stream, const guint8 *body, gsize size, gboolean last)
{
  guint8 head[VMA_ZSTD_BLOCK_HEADER];

  vma_zstd_block_write (head, VMA_ZSTD_BLOCK_COMPRESSED, last, (guint32) size);
  add_bytes (stream, head, sizeof head);
  add_bytes (stream, body, size);
}

/* A type of block that there is not. */
static void
add_impossible (Stream *stream)
{
  add_bytes (stream, "\x06\0\0", 3);
}

static void
add_frame (Stream *stream, gboolean checksum)
{
  guint8 head[VMA_ZSTD_PLAIN_HEADER];

  vma_zstd_frame_write_plain (head, 17);
  head[4] |= checksum ? 4 : 0;
  add_bytes (stream, head, sizeof head);
}

static gssize
read_stream (gpointer data, void *buffer, gsize size, guint64 offset, GError **error)
{
  Stream *stream = data;

  if (++stream->reads == stream->fail_at) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "no read");
    return -1;
  }
  size = offset < stream->bytes->len ? MIN (size, stream->bytes->len - (gsize) offset) : 0;
  if (size > 0)
    memcpy (buffer, stream->bytes->data + offset, size);
  return (gssize) size;
}

/* `wanted` NULL: it fails with `code`, and says `message`. */
static void
expect (Stream *stream, const VmaCheckpoint *from, guint64 memory, const char *wanted, gsize size,
        int code, const char *message)
{
  const VmaCodecInput input = { stream, read_stream, stream->bytes->len };
  const VmaCodecLimits limits = { .memory = memory, .spacing = 1 };
  g_autofree guint8 *out = g_malloc0 (size + 1);
  g_autoptr (GError) error = NULL;
  gboolean ok = vma_zstd_decode (from, &input, &limits, out, size, &error);

  if (wanted != NULL) {
    g_assert_no_error (error);
    g_assert_true (ok);
    g_assert_cmpmem (out, size, wanted, strlen (wanted));
    return;
  }
  g_assert_false (ok);
  g_assert_error (error, VMA_ERROR, code);
  g_assert_nonnull (strstr (error->message, message));
}

/* --- from a checkpoint, in one go -------------------------------------------------------------- */

#define MEMORY (64u << 20)

/* Eight bytes are before the checkpoint. */
static VmaZstdCheckpoint
make_state (guint64 gives, gboolean ends)
{
  VmaZstdCheckpoint state = { .window = 1024, .position = 8, .content = 8 };

  vma_zstd_tables_reset (&state.tables);
  state.repeats = vma_zstd_repeats_initial;
  state.blocks = (VmaZstdBlocks){ .known = TRUE, .ends = ends, .size = gives };
  return state;
}

static void
expect_state (Stream *stream, VmaZstdCheckpoint state, guint64 memory, const char *wanted,
              gsize size, int code, const char *message)
{
  guint8 before[] = "12345678";
  const VmaZstdRing ring = { before, 8 };
  g_autoptr (VmaZstdWindow) window = vma_zstd_window_new (0, 8);

  vma_zstd_window_use (window, &ring, 0, 8);
  g_autoptr (GByteArray) packed = vma_zstd_window_pack (window, 8, &state.unpacked);
  if (state.packed == NULL) {
    state.packed = packed->data;
    state.packed_size = packed->len;
  }
  g_autoptr (GBytes) bytes = vma_zstd_checkpoint_serialise (&state);
  const VmaCheckpoint from = { .in = 0, .out = 8, .state = bytes };
  stream->reads = 0;
  expect (stream, &from, memory, wanted, size, code, message);
}

static void
test_batch (void)
{
  g_auto (Stream) stream = stream_new ();

  add_raw (&stream, "hello", FALSE);
  add_run (&stream, '!', 3, FALSE);
  add_raw (&stream, "bye", TRUE);
  expect_state (&stream, make_state (11, FALSE), MEMORY, "hello!!!bye", 11, 0, NULL);
  expect_state (&stream, make_state (11, TRUE), MEMORY, "hello!!!bye", 11, 0, NULL);
  expect_state (&stream, make_state (11, FALSE), MEMORY, "hello!!!", 8, 0, NULL);
  expect_state (&stream, make_state (11, FALSE), MEMORY, "hello!!", 7, 0, NULL); /* inside a block */
  expect_state (&stream, make_state (8, FALSE), MEMORY, "hello!!!bye", 11, 0, NULL);
  VmaZstdCheckpoint unknown = make_state (0, FALSE);
  unknown.blocks.known = FALSE;
  expect_state (&stream, unknown, MEMORY, "hello!!!bye", 11, 0, NULL);
  expect_state (&stream, make_state (0, TRUE), MEMORY, "hello!!!bye", 11, 0, NULL);
  expect_state (&stream, make_state (12, FALSE), MEMORY, NULL, 12, VMA_ERROR_DAMAGED,
                "the frame ends too early");
}

static void
test_batch_cut_off (void)
{
  g_auto (Stream) stream = stream_new ();

  add_raw (&stream, "hello", FALSE);
  expect_state (&stream, make_state (8, FALSE), MEMORY, NULL, 8, VMA_ERROR_DAMAGED,
                "offset 8: the file ends inside a frame");
  stream.fail_at = 1;
  expect_state (&stream, make_state (8, FALSE), MEMORY, NULL, 8, VMA_ERROR_IO, "no read");
  stream.fail_at = 0;
  add_raw (&stream, "a longer one", TRUE);
  g_byte_array_set_size (stream.bytes, stream.bytes->len - 1);
  expect_state (&stream, make_state (17, FALSE), MEMORY, NULL, 17, VMA_ERROR_DAMAGED,
                "offset 8: the file ends inside a frame");
  g_byte_array_set_size (stream.bytes, 8);
  add_impossible (&stream);
  expect_state (&stream, make_state (8, FALSE), MEMORY, NULL, 8, VMA_ERROR_DAMAGED,
                "offset 8: the block's header is not valid");
}

/* Blocks that give nothing are not collected without end. */
static void
test_batch_of_nothing (void)
{
  g_auto (Stream) stream = stream_new ();

  for (guint i = 0; i < 200000; i++)
    add_raw (&stream, "", FALSE);
  add_raw (&stream, "at last", TRUE);
  expect_state (&stream, make_state (7, TRUE), MEMORY, "at last", 7, 0, NULL);
}

/* Where the frame goes on behind what its blocks are said to give, or ends, and a frame follows. */
static void
test_batch_end (void)
{
  for (guint checksum = 0; checksum < 2; checksum++) {
    for (guint empty = 0; empty < 3; empty++) {
      g_auto (Stream) stream = stream_new ();
      VmaZstdCheckpoint state = make_state (5, TRUE);
      state.checksum = checksum;
      add_raw (&stream, "hello", empty == 0);
      for (guint i = 1; i <= empty; i++)
        add_raw (&stream, "", i == empty);
      if (checksum)
        add_bytes (&stream, "sums", 4);
      add_frame (&stream, FALSE);
      add_raw (&stream, " you", TRUE);
      expect_state (&stream, state, MEMORY, "hello you", 9, 0, NULL);
    }
  }
  g_auto (Stream) stream = stream_new ();
  add_raw (&stream, "hello", FALSE);
  expect_state (&stream, make_state (5, TRUE), MEMORY, NULL, 9, VMA_ERROR_DAMAGED,
                "offset 8: the file ends inside a frame");
  add_raw (&stream, "more", TRUE);
  expect_state (&stream, make_state (5, TRUE), MEMORY, NULL, 9, VMA_ERROR_DAMAGED,
                "offset 8: the frame goes on where its end should be");
  g_byte_array_set_size (stream.bytes, 8);
  add_impossible (&stream);
  expect_state (&stream, make_state (5, TRUE), MEMORY, NULL, 9, VMA_ERROR_DAMAGED,
                "offset 8: the block's header is not valid");
}

/* Compressed blocks, of which the state tells what they give: 128 KiB where it has nothing else. */
static void
test_batch_compressed (void)
{
  static const guint8 gives_2[] = { 0, 2 }, gives_3[] = { 0, 3 }, garbage[] = { 0xff, 0xff, 0xff };
  g_auto (Stream) stream = stream_new ();
  g_auto (Stream) broken = stream_new ();
  VmaZstdCheckpoint state = make_state (2, FALSE);

  add_compressed (&stream, two, sizeof two, TRUE);
  state.blocks.count = 1;
  state.blocks.list = gives_2;
  state.blocks.list_size = sizeof gives_2;
  expect_state (&stream, state, MEMORY, "xy", 2, 0, NULL);
  state.blocks.list = gives_3;
  state.blocks.size = 3;
  expect_state (&stream, state, MEMORY, NULL, 3, VMA_ERROR_DAMAGED,
                "the blocks do not give what the saved decoder state says");
  add_compressed (&broken, garbage, sizeof garbage, TRUE);
  expect_state (&broken, state, MEMORY, NULL, 3, VMA_ERROR_DAMAGED, "offset 0: zstd: ");
}

static void
test_batch_window (void)
{
  static const guint8 garbage[] = "no zstd";
  g_auto (Stream) stream = stream_new ();
  VmaZstdCheckpoint state = make_state (5, FALSE);

  add_raw (&stream, "hello", TRUE);
  expect_state (&stream, state, 7, NULL, 5, VMA_ERROR_UNSUPPORTED, "memory limit"); /* content */
  expect_state (&stream, state, 12, NULL, 5, VMA_ERROR_UNSUPPORTED, "memory limit"); /* and packed */
  expect_state (&stream, state, 100, "hello", 5, 0, NULL);
  /* Block by block it takes a window. */
  expect_state (&stream, state, 100, NULL, 4, VMA_ERROR_UNSUPPORTED, "memory limit");
  state.packed = garbage;
  state.packed_size = sizeof garbage;
  expect_state (&stream, state, MEMORY, NULL, 5, VMA_ERROR_DAMAGED,
                "offset 0: the window of a saved decoder state is not valid");
  expect_state (&stream, state, MEMORY, NULL, 4, VMA_ERROR_DAMAGED,
                "offset 0: the window of a saved decoder state is not valid");
  state = make_state (5, FALSE);
  state.tables.huffman_size = 3;
  memcpy (state.tables.huffman, "\x02\xff\xff", 3);
  expect_state (&stream, state, MEMORY, NULL, 5, VMA_ERROR_DAMAGED, "offset 0: zstd: ");
  expect_state (&stream, state, MEMORY, NULL, 4, VMA_ERROR_DAMAGED,
                "zstd does not accept a saved decoder state");
}

/* --- saved states ------------------------------------------------------------------------------ */

static gboolean
comes_back (VmaZstdCheckpoint *state)
{
  static const guint8 any[] = "any";
  g_autoptr (GError) error = NULL;
  VmaZstdCheckpoint again_state;
  gsize size;

  state->packed = any;
  state->packed_size = sizeof any;
  g_autoptr (GBytes) bytes = vma_zstd_checkpoint_serialise (state);
  const guint8 *data = g_bytes_get_data (bytes, &size);
  gboolean ok = vma_zstd_checkpoint_parse (data, size, &again_state, &error);
  if (ok) {
    g_assert_no_error (error);
    g_assert_cmpuint (again_state.window, ==, state->window);
    g_assert_cmpuint (again_state.position, ==, state->position);
    g_assert_cmpuint (again_state.blocks.size, ==, state->blocks.size);
    g_assert_cmpmem (again_state.packed, again_state.packed_size, any, sizeof any);
  } else
    g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
  return ok;
}

/* Each number just too large. */
static void
test_state_limits (void)
{
  static const guint8 full[] = { 0, 0x80, 0x80, 8 }, more[] = { 0, 0x81, 0x80, 8 };
  VmaZstdCheckpoint state = make_state (9, TRUE);

  g_assert_true (comes_back (&state));
  for (guint how = 0; how < 18; how++) {
    gboolean good = how >= 15;
    state = make_state (9, TRUE);
    VmaZstdTable *table = &state.tables.fse[0];
    state.blocks.list = full;
    state.blocks.list_size = how == 0 || how == 1 ? 4 : 0;
    state.blocks.count = how == 0 ? 2 : 0; /* fewer entries, or more, than it says */
    if (how == 2) {
      state.blocks.list = more;
      state.blocks.list_size = 4;
      state.blocks.count = 1;
    } else if (how == 3)
      state.blocks.count = 16385;
    else if (how == 4)
      state.blocks.size = (guint64) G_MAXINT64 + 1;
    else if (how == 5)
      table->kind = VMA_ZSTD_TABLE_FSE + 1;
    else if (how == 6)
      table->kind = VMA_ZSTD_TABLE_RLE; /* of no symbol */
    else if (how == 7)
      *table = (VmaZstdTable){ .kind = VMA_ZSTD_TABLE_RLE, .size = 1, .description = { 255 } };
    else if (how == 8)
      *table = (VmaZstdTable){ .kind = VMA_ZSTD_TABLE_PREDEFINED, .size = 1 };
    else if (how == 9)
      state.repeats.offset[1] = 0;
    else if (how == 10)
      state.repeats.offset[1] = 9; /* farther than there is anything */
    else if (how == 11)
      state.content = 9;
    else if (how == 12)
      state.content = 7; /* less than a repeat offset */
    else if (how == 13)
      state.window = VMA_ZSTD_WINDOW_MAX + 1;
    else if (how == 14)
      state.position = (guint64) G_MAXINT64 + 1;
    else if (how == 15) {
      state.blocks.list_size = 4;
      state.blocks.count = 1;
    } else if (how == 16)
      *table = (VmaZstdTable){ .kind = VMA_ZSTD_TABLE_RLE, .size = 1, .description = { 1 } };
    else
      state.unpacked = 3 * 8 + 16;
    g_assert_true (comes_back (&state) == good);
  }
  state.unpacked++;
  g_assert_false (comes_back (&state));
}

/* Blocks are listed up to a bound; then they go one by one. */
static void
test_list (void)
{
  VmaZstdBlockList list = { 0 };
  VmaZstdBlockSizes sizes;

  vma_zstd_block_list_clear (&list);
  vma_zstd_block_list_add (&list, TRUE, VMA_ZSTD_BLOCK_MAX);
  vma_zstd_block_list_add (&list, FALSE, 5);
  for (guint i = 0; i < 16384; i++)
    vma_zstd_block_list_add (&list, TRUE, 1 + i);
  g_assert_true (list.blocks.known);
  list.blocks.list = list.list->data;
  list.blocks.list_size = list.list->len;
  vma_zstd_block_sizes_begin (&sizes, &list.blocks);
  g_assert_cmpuint (vma_zstd_block_sizes_next (&sizes), ==, VMA_ZSTD_BLOCK_MAX);
  for (guint i = 0; i < 16384; i++)
    g_assert_cmpuint (vma_zstd_block_sizes_next (&sizes), ==, 1 + i);
  g_assert_cmpuint (vma_zstd_block_sizes_next (&sizes), ==, VMA_ZSTD_BLOCK_MAX);
  vma_zstd_block_list_add (&list, TRUE, 1);
  g_assert_false (list.blocks.known);
  vma_zstd_block_list_add (&list, TRUE, 1);
  g_assert_false (list.blocks.known);
  VmaZstdCheckpoint state = make_state (0, FALSE);
  state.blocks.known = FALSE;
  g_assert_true (comes_back (&state));
  g_byte_array_unref (list.list);
}

/* --- frames ------------------------------------------------------------------------------------ */

static void
test_frames (void)
{
  const VmaCheckpoint start = { 0 };
  const struct {
    const char *bytes;
    gsize size;
    int code;
    const char *message;
  } bad[] = {
    { "", 0, VMA_ERROR_DAMAGED, "offset 0: the stream ends too early" },
    { "\x28\xb5\x2f", 3, VMA_ERROR_DAMAGED, "offset 0: the stream ends too early" },
    { "\x28\xb5\x2f\xfd\x00", 5, VMA_ERROR_DAMAGED, "offset 0: the stream ends too early" },
    { "\x50\x2a\x4d\x18\0\0\0", 7, VMA_ERROR_DAMAGED, "offset 0: the stream ends too early" },
    { "no frame", 8, VMA_ERROR_DAMAGED, "offset 0: no zstd frame" },
    { "\x27\xb5\x2f\xfd\0\0", 6, VMA_ERROR_UNSUPPORTED, "older than" },
    { "\x28\xb5\x2f\xfd\x08\x58", 6, VMA_ERROR_UNSUPPORTED, "reserved bit" },
    { "\x28\xb5\x2f\xfd\x00\xb0\0\0\0", 9, VMA_ERROR_UNSUPPORTED, "more than 2 GiB" },
    { "\x28\xb5\x2f\xfd\x01\x58\x07", 7, VMA_ERROR_UNSUPPORTED, "needs a dictionary" },
    { "\x28\xb5\x2f\xfd\x00\x90\0\0\0", 9, VMA_ERROR_UNSUPPORTED, "memory limit" }, /* 256 MiB */
    { "\x28\xb5\x2f\xfd\x00\x58", 6, VMA_ERROR_DAMAGED, "offset 6: the file ends inside a frame" },
    { "\x28\xb5\x2f\xfd\x00\x58\x06\0\0", 9, VMA_ERROR_DAMAGED, "offset 6: the block's header" },
    { "\x28\xb5\x2f\xfd\x00\x58\x11\0\0x", 10, VMA_ERROR_DAMAGED, "offset 6: the file ends" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_auto (Stream) stream = stream_new ();
    add_bytes (&stream, bad[i].bytes, bad[i].size);
    expect (&stream, &start, MEMORY, NULL, 5, bad[i].code, bad[i].message);
  }
  g_auto (Stream) stream = stream_new ();
  add_bytes (&stream, "\x53\x2a\x4d\x18\x03\0\0\0any", 11);
  add_frame (&stream, FALSE);
  add_raw (&stream, "he", TRUE);
  add_frame (&stream, FALSE);
  add_raw (&stream, "llo", TRUE);
  expect (&stream, &start, MEMORY, "hello", 5, 0, NULL);
  stream.fail_at = 1;
  stream.reads = 0;
  expect (&stream, &start, MEMORY, NULL, 5, VMA_ERROR_IO, "no read");
}

static void
test_checksum (void)
{
  const VmaCheckpoint all = { .next = 18 }, front = { 0 };
  g_auto (Stream) stream = stream_new ();

  add_frame (&stream, TRUE);
  add_raw (&stream, "hello", TRUE);
  add_bytes (&stream, "sum", 3);
  expect (&stream, &all, MEMORY, NULL, 5, VMA_ERROR_DAMAGED, "the file ends inside a frame");
  add_bytes (&stream, "s", 1);
  expect (&stream, &all, MEMORY, NULL, 5, VMA_ERROR_DAMAGED,
          "offset 14: the frame's checksum does not match what it gave");
  expect (&stream, &front, MEMORY, NULL, 5, VMA_ERROR_DAMAGED, "checksum");
  expect (&stream, &front, MEMORY, "hel", 3, 0, NULL); /* it is not looked at so far */
}

/* A table says where a frame ends, and what it gives. */
static void
test_exact (void)
{
  g_auto (Stream) stream = stream_new ();
  VmaCheckpoint from = { 0 };

  add_frame (&stream, FALSE);
  add_raw (&stream, "hel", FALSE);
  add_raw (&stream, "lo", TRUE);
  from.next = stream.bytes->len;
  expect (&stream, &from, MEMORY, "hello", 5, 0, NULL);
  expect (&stream, &from, MEMORY, NULL, 4, VMA_ERROR_DAMAGED,
          "the frame gives more than the seek table says");
  expect (&stream, &from, MEMORY, NULL, 6, VMA_ERROR_DAMAGED, "the stream ends too early");
  from.next--;
  expect (&stream, &from, MEMORY, NULL, 5, VMA_ERROR_DAMAGED,
          "a frame ends where the seek table does not say so");
  /* Frames that give nothing may stand before the next. */
  add_frame (&stream, FALSE);
  add_raw (&stream, "", TRUE);
  from.next = stream.bytes->len;
  expect (&stream, &from, MEMORY, "hello", 5, 0, NULL);
  add_frame (&stream, FALSE);
  add_raw (&stream, "!", TRUE);
  from.next = stream.bytes->len;
  expect (&stream, &from, MEMORY, NULL, 5, VMA_ERROR_DAMAGED,
          "the frame gives more than the seek table says");
  g_auto (Stream) broken = stream_new ();
  add_frame (&broken, FALSE);
  add_compressed (&broken, (const guint8 *) "\xff\xff\xff", 3, TRUE);
  from.next = broken.bytes->len;
  expect (&broken, &from, MEMORY, NULL, 5, VMA_ERROR_DAMAGED, "offset 6: zstd: ");
}

/* --- the analysis ------------------------------------------------------------------------------ */

#define WINDOW 512u

typedef struct {
  VmaZstdAnalysis *analysis;
  VmaZstdRecord record;
  GArray *emitted; /* VmaCheckpoint */
  guint8 ring[4096];
  guint64 out;
} Watch;

static void
on_emit (gpointer data, VmaCheckpoint *checkpoint)
{
  g_array_append_val (((Watch *) data)->emitted, *checkpoint);
}

static void
clear_checkpoint (gpointer data)
{
  g_clear_pointer (&((VmaCheckpoint *) data)->state, g_bytes_unref);
}

static void
begin_frame (Watch *watch)
{
  const VmaZstdFrame frame = { .window = WINDOW, .content = VMA_ZSTD_CONTENT_UNKNOWN };

  vma_zstd_analysis_frame (watch->analysis, watch->out, watch->out, &frame);
}

static void
watch_init (Watch *watch, guint64 spacing, guint64 memory, gboolean thorough)
{
  const VmaCodecLimits limits = { .memory = memory, .spacing = spacing };
  static VmaZstdRing ring;

  *watch = (Watch){ .emitted = g_array_new (FALSE, FALSE, sizeof (VmaCheckpoint)) };
  g_array_set_clear_func (watch->emitted, clear_checkpoint);
  for (guint i = 0; i < sizeof watch->ring; i++)
    watch->ring[i] = (guint8) (i * 7 + i / 256);
  ring = (VmaZstdRing){ watch->ring, sizeof watch->ring };
  watch->analysis = vma_zstd_analysis_new (&limits, &ring, thorough, on_emit, watch);
  begin_frame (watch);
}

static void
watch_clear (Watch *watch)
{
  vma_zstd_analysis_free (watch->analysis);
  vma_zstd_record_clear (&watch->record);
  g_array_unref (watch->emitted);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Watch, watch_clear)

/* A block's record; the caller may change it before give(). */
static VmaZstdRecord *
prepare (Watch *watch, const guint8 *body, gsize size, guint32 given, gboolean last)
{
  const VmaZstdBlock block
      = { .type = body != NULL ? VMA_ZSTD_BLOCK_COMPRESSED : VMA_ZSTD_BLOCK_RAW,
          .last = last, .size = body != NULL ? (guint32) size : given,
          .body = body != NULL ? (guint32) size : given };

  vma_zstd_record_set_body (&watch->record, &block, body);
  watch->record.in = watch->record.next = watch->out;
  watch->record.out = watch->out;
  watch->record.given = given;
  return &watch->record;
}

static gboolean
give (Watch *watch, GError **error)
{
  watch->out += watch->record.given;
  return vma_zstd_analysis_block (watch->analysis, &watch->record, error);
}

static void
raw (Watch *watch, guint32 given, gboolean last)
{
  prepare (watch, NULL, 0, given, last);
  g_assert_true (give (watch, NULL));
}

static void
block (Watch *watch, const guint8 *body, gsize size)
{
  prepare (watch, body, size, 8, FALSE);
  g_assert_true (give (watch, NULL));
}

static void
emitted_state (const Watch *watch, guint i, VmaZstdCheckpoint *state)
{
  const VmaCheckpoint *at = &g_array_index (watch->emitted, VmaCheckpoint, i);
  gsize size;
  const guint8 *bytes = g_bytes_get_data (at->state, &size);
  g_autoptr (GError) error = NULL;

  vma_zstd_checkpoint_parse (bytes, size, state, &error);
  g_assert_no_error (error);
}

/* What is not as it must be costs the checkpoints of this frame, and of no other. */
static void
test_given_up (void)
{
  for (guint how = 0; how < 7; how++) {
    g_auto (Watch) watch;
    VmaZstdRecord *record;

    watch_init (&watch, 1, MEMORY, TRUE);
    raw (&watch, 100, FALSE);
    record = how == 5 ? prepare (&watch, again, sizeof again, 8, FALSE)
                      : prepare (&watch, matches, sizeof matches, 8, FALSE);
    if (how == 0)
      record->valid = FALSE;
    else if (how == 1)
      record->sequences_size = 0;
    else if (how == 2)
      record->given = 9; /* not what literals and matches are */
    else if (how == 3)
      record->literals = 1; /* the sequences use two */
    else if (how == 4)
      record->sequences[record->sequences_size - 1] = 0; /* no bits */
    else if (how == 6)
      record->sequences[0] = 1; /* a sequence less, so bits are left */
    g_assert_true (give (&watch, NULL));
    g_assert_cmpuint (vma_zstd_analysis_given_up (watch.analysis), ==, 1);
    raw (&watch, 2000, FALSE);
    raw (&watch, 2000, TRUE);
    g_assert_cmpuint (watch.emitted->len, ==, 1); /* the beginning */
    begin_frame (&watch);
    raw (&watch, 1000, FALSE);
    raw (&watch, 1000, TRUE);
    g_assert_cmpuint (watch.emitted->len, ==, 3);
    g_assert_cmpuint (vma_zstd_analysis_given_up (watch.analysis), ==, 1);
  }
}

static void
test_outside (void)
{
  g_auto (Watch) watch;
  g_autoptr (GError) error = NULL;

  watch_init (&watch, 1, MEMORY, TRUE);
  prepare (&watch, matches, sizeof matches, 8, FALSE);
  g_assert_false (give (&watch, &error)); /* nothing is 3 bytes back */
  g_assert_error (error, VMA_ERROR, VMA_ERROR_DAMAGED);
  g_assert_nonnull (strstr (error->message, "copies from outside the window"));
}

/* Of no use is a checkpoint with nothing behind it, and too dear one with too much before it. */
static void
test_dropped (void)
{
  for (guint how = 0; how < 3; how++) {
    g_auto (Watch) watch;

    watch_init (&watch, 1, how == 1 ? 64 : MEMORY, FALSE);
    raw (&watch, 1020, FALSE);
    if (how == 0)
      raw (&watch, 0, FALSE);
    else
      block (&watch, matches, sizeof matches);
    raw (&watch, 0, TRUE);
    g_assert_cmpuint (watch.emitted->len, ==, how == 2 ? 2 : 1);
    if (how == 2) {
      VmaZstdCheckpoint state;
      emitted_state (&watch, 1, &state);
      g_assert_cmpuint (state.position, ==, 1020);
      g_assert_cmpuint (state.blocks.size, ==, 8);
      g_assert_true (state.blocks.ends);
      g_assert_cmpuint (state.content, ==, 8); /* the farthest repeat offset */
    }
  }
}

static void
test_cut (void)
{
  g_auto (Watch) watch;
  VmaZstdCheckpoint state;

  watch_init (&watch, 1, MEMORY, FALSE);
  vma_zstd_analysis_cut (watch.analysis); /* nothing is open */
  g_assert_cmpuint (watch.emitted->len, ==, 0);
  raw (&watch, 1020, FALSE);
  raw (&watch, 77, FALSE);
  vma_zstd_analysis_cut (watch.analysis);
  g_assert_cmpuint (watch.emitted->len, ==, 2);
  emitted_state (&watch, 1, &state);
  g_assert_false (state.blocks.ends);
  g_assert_cmpuint (state.blocks.size, ==, 77);
}

/* Where the last blocks do not tell the repeat offsets, the checkpoint waits for those that do. */
static void
test_tracking (void)
{
  g_auto (Watch) watch;
  VmaZstdCheckpoint state;

  watch_init (&watch, 2000, MEMORY, FALSE);
  raw (&watch, 600, FALSE);
  for (guint i = 0; i < 20; i++)
    block (&watch, repeats, sizeof repeats);
  raw (&watch, 1400, FALSE);
  g_assert_cmpuint (watch.out, ==, 2160); /* here one is due */
  block (&watch, repeats, sizeof repeats);
  block (&watch, matches, sizeof matches);
  block (&watch, matches, sizeof matches);
  raw (&watch, 10, TRUE);
  g_assert_cmpuint (watch.emitted->len, ==, 2);
  emitted_state (&watch, 1, &state);
  g_assert_cmpuint (state.position, ==, 2160 + 3 * 8);
  for (guint i = 0; i < 3; i++)
    g_assert_true (state.repeats.offset[i] == 3 || state.repeats.offset[i] == 4);
  g_assert_cmpuint (vma_zstd_analysis_given_up (watch.analysis), ==, 0);
}

/* A pass that goes on at a frame does not begin with the checkpoint that it has come from. */
static void
test_resumed (void)
{
  g_auto (Watch) watch;

  watch_init (&watch, 4000, MEMORY, FALSE);
  watch.out = 5000;
  vma_zstd_analysis_resume (watch.analysis, watch.out, NULL);
  begin_frame (&watch);
  raw (&watch, 999, TRUE);
  g_assert_cmpuint (watch.emitted->len, ==, 0);
  begin_frame (&watch); /* too close */
  raw (&watch, 1, TRUE);
  g_assert_cmpuint (watch.emitted->len, ==, 0);
  begin_frame (&watch);
  raw (&watch, 1, TRUE);
  g_assert_cmpuint (watch.emitted->len, ==, 1);
  g_assert_cmpuint (g_array_index (watch.emitted, VmaCheckpoint, 0).out, ==, 6000);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/zstd-blocks/batch", test_batch);
  g_test_add_func ("/zstd-blocks/batch-cut-off", test_batch_cut_off);
  g_test_add_func ("/zstd-blocks/batch-of-nothing", test_batch_of_nothing);
  g_test_add_func ("/zstd-blocks/batch-end", test_batch_end);
  g_test_add_func ("/zstd-blocks/batch-compressed", test_batch_compressed);
  g_test_add_func ("/zstd-blocks/batch-window", test_batch_window);
  g_test_add_func ("/zstd-blocks/state-limits", test_state_limits);
  g_test_add_func ("/zstd-blocks/list", test_list);
  g_test_add_func ("/zstd-blocks/frames", test_frames);
  g_test_add_func ("/zstd-blocks/checksum", test_checksum);
  g_test_add_func ("/zstd-blocks/exact", test_exact);
  g_test_add_func ("/zstd-blocks/given-up", test_given_up);
  g_test_add_func ("/zstd-blocks/outside", test_outside);
  g_test_add_func ("/zstd-blocks/dropped", test_dropped);
  g_test_add_func ("/zstd-blocks/cut", test_cut);
  g_test_add_func ("/zstd-blocks/tracking", test_tracking);
  g_test_add_func ("/zstd-blocks/resumed", test_resumed);
  return g_test_run ();
}
