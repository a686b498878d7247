/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All codecs with input that was cut off, changed, or cannot be read, with saved states that are not what was
 * saved, and with somebody who takes no more: an error that says so, or what it was, and nothing worse.
 *
 * What a changed stream gives is not looked at: source/packed.c has hashes for that.
 */
#include "source/gzip-window.h"
#include "source/gzip.h"
#include "source/lz4.h"
#include "source/lzop.h"
#include "source/zstd/codec.h"
#include "source/zstd/sequences.h"
#include "source/zstd/window.h"
#include "tests/unit/synth.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static const VmaCodec *const codecs[]
    = { &vma_gzip_codec, &vma_lzop_codec, &vma_lz4_codec, &vma_zstd_codec };
static const VmaCodecLimits limits = { .memory = 64u << 20, .spacing = 40000 };

/* --- streams ----------------------------------------------------------------------------------- */

static GByteArray *
make_plain (gsize size, guint32 seed)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  GByteArray *plain = g_byte_array_new ();

  g_byte_array_set_size (plain, (guint) size);
  for (gsize at = 0; at < size;) {
    gsize n = MIN (size - at, (gsize) g_rand_int_range (rand, 1, 9000)), back;
    guint how = (guint) g_rand_int_range (rand, 0, 4);
    for (gsize i = 0; i < n; i++)
      switch (how) {
      case 0:
        plain->data[at + i] = 0;
        break;
      case 1:
        plain->data[at + i] = (guint8) g_rand_int (rand);
        break;
      case 2:
        back = 1 + (at * 7919) % 30000;
        plain->data[at + i] = at + i >= back ? plain->data[at + i - back] : 'x';
        break;
      default:
        plain->data[at + i] = (guint8) "the cluster of a block, "[(at + i * i / 7) % 24];
      }
    at += n;
  }
  return plain;
}

static GBytes *
take_bytes (GByteArray *bytes)
{
  return g_byte_array_free_to_bytes (bytes);
}

/* Two members, the first with all that a header can have. */
static GBytes *
make_gzip (const GByteArray *plain)
{
  GByteArray *out = g_byte_array_new ();
  gsize half = plain->len / 2;

  for (guint i = 0; i < 2; i++) {
    guint8 extra[] = "any bytes", name[] = "name", comment[] = "comment";
    gz_header header = { .extra = extra, .extra_len = sizeof extra, .name = name,
                         .comment = comment, .hcrc = 1, .os = 3 };
    z_stream z = { 0 };
    gsize n = i == 0 ? half : plain->len - half;
    guint before = out->len;

    g_assert_cmpint (deflateInit2 (&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), ==, Z_OK);
    if (i == 0)
      deflateSetHeader (&z, &header);
    g_byte_array_set_size (out, before + (guint) deflateBound (&z, n));
    z.next_in = plain->data + (i == 0 ? 0 : half);
    z.avail_in = (guint) n;
    z.next_out = out->data + before;
    z.avail_out = out->len - before;
    g_assert_cmpint (deflate (&z, Z_FINISH), ==, Z_STREAM_END);
    g_byte_array_set_size (out, before + (guint) z.total_out);
    deflateEnd (&z);
  }
  return take_bytes (out);
}

static void
append_zstd (GByteArray *out, const guint8 *data, gsize size, gboolean known)
{
  g_autofree guint8 *room = g_malloc (ZSTD_compressBound (size));
  ZSTD_CCtx *context = ZSTD_createCCtx ();

  ZSTD_CCtx_setParameter (context, ZSTD_c_checksumFlag, 1);
  ZSTD_CCtx_setParameter (context, ZSTD_c_windowLog, 16); /* there is no checkpoint within a window */
  ZSTD_CCtx_setParameter (context, ZSTD_c_contentSizeFlag, known);
  gsize n = ZSTD_compress2 (context, room, ZSTD_compressBound (size), data, size);
  g_assert_false (ZSTD_isError (n));
  g_byte_array_append (out, room, (guint) n);
  ZSTD_freeCCtx (context);
}

static void
append_le32 (GByteArray *out, guint32 value)
{
  guint8 bytes[4];

  vma_put_le32 (bytes, value);
  g_byte_array_append (out, bytes, 4);
}

/* One large frame; with something to be skipped before it, and an empty frame behind. */
static GBytes *
make_zstd (const GByteArray *plain)
{
  GByteArray *out = g_byte_array_new ();

  append_le32 (out, 0x184D2A53);
  append_le32 (out, 5);
  g_byte_array_append (out, (const guint8 *) "hello", 5);
  append_zstd (out, plain->data, plain->len, FALSE);
  append_zstd (out, plain->data, 0, TRUE);
  return take_bytes (out);
}

/* Many frames, one of them to be skipped, and a table of them; with sums in it or without. */
static GBytes *
make_seekable (const GByteArray *plain, gboolean sums)
{
  GByteArray *out = g_byte_array_new ();
  g_autoptr (GByteArray) table = g_byte_array_new ();
  guint32 n = 0;

  for (gsize at = 0; at <= plain->len; n++) {
    gsize size = MIN (30000, plain->len - at);
    guint before = out->len;
    if (n == 3) {
      append_le32 (out, 0x184D2A50);
      append_le32 (out, 0);
      size = 0;
    } else
      append_zstd (out, plain->data + at, size, n % 2 == 0);
    append_le32 (table, out->len - before);
    append_le32 (table, (guint32) size);
    if (sums)
      append_le32 (table, 0);
    at += n == 3 ? 0 : MAX (size, 1);
  }
  append_le32 (out, 0x184D2A5E);
  append_le32 (out, table->len + 9);
  g_byte_array_append (out, table->data, table->len);
  append_le32 (out, n);
  g_byte_array_append (out, (const guint8 *) (sums ? "\x80" : "\0"), 1);
  append_le32 (out, 0x8F92EAB1);
  return take_bytes (out);
}

typedef struct {
  char *name;
  const VmaCodec *codec;
  GBytes *bytes;
} Stream;

static GPtrArray *streams; /* Stream */

static void
add_stream (const char *name, const VmaCodec *codec, GBytes *bytes)
{
  Stream *stream = g_new (Stream, 1);

  *stream = (Stream){ g_strdup (name), codec, bytes };
  g_ptr_array_add (streams, stream);
}

/* The sound ones of a fuzzer's seeds. */
static void
add_seeds (const char *folder, const VmaCodec *codec, const char *const *names)
{
  for (; *names != NULL; names++) {
    g_autofree char *file = g_build_filename (g_getenv ("SEEDS"), folder, *names, NULL);
    char *bytes;
    gsize size;
    g_assert_true (g_file_get_contents (file, &bytes, &size, NULL));
    add_stream (*names, codec, g_bytes_new_take (bytes, size));
  }
}

static void
make_streams (void)
{
  g_autoptr (GByteArray) plain = make_plain (700000, 1);

  streams = g_ptr_array_new ();
  add_stream ("gzip", &vma_gzip_codec, make_gzip (plain));
  add_stream ("zstd", &vma_zstd_codec, make_zstd (plain));
  add_stream ("seekable", &vma_zstd_codec, make_seekable (plain, FALSE));
  add_stream ("seekable with sums", &vma_zstd_codec, make_seekable (plain, TRUE));
  add_seeds ("lzop", &vma_lzop_codec, (const char *[]){ "crc", "plain", "stored", NULL });
  add_seeds ("lz4", &vma_lz4_codec,
             (const char *[]){ "linked", "no-sums", "stored", "two-frames", NULL });
}

/* --- going through them ------------------------------------------------------------------------ */

#define STOPPED 77

typedef struct {
  const guint8 *bytes;
  gsize size;
  guint reads, fail_at;    /* the n-th read fails */
  guint taken, refuse_at;  /* the n-th thing given is not taken */
  guint64 out;             /* bytes given */
  GArray *checkpoints;     /* VmaCheckpoint */
} Run;

static gssize
run_read (gpointer data, void *buffer, gsize size, guint64 offset, GError **error)
{
  Run *run = data;

  if (++run->reads == run->fail_at) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "no read");
    return -1;
  }
  if (offset >= run->size)
    return 0;
  size = (gsize) MIN (size, run->size - offset);
  memcpy (buffer, run->bytes + offset, size);
  return (gssize) size;
}

static gboolean
take_one (Run *run, GError **error)
{
  if (++run->taken != run->refuse_at)
    return TRUE;
  g_set_error (error, G_FILE_ERROR, STOPPED, "no more");
  return FALSE;
}

static gboolean
run_output (gpointer data, const guint8 *bytes G_GNUC_UNUSED, gsize size, GError **error)
{
  Run *run = data;

  run->out += size;
  if (run->out > 64u << 20) {
    g_set_error (error, G_FILE_ERROR, STOPPED, "enough");
    return FALSE;
  }
  return take_one (run, error);
}

static gboolean
run_checkpoint (gpointer data, const VmaCheckpoint *checkpoint, GError **error)
{
  Run *run = data;
  VmaCheckpoint copy = *checkpoint;

  if (copy.state != NULL)
    copy.state = g_bytes_new (g_bytes_get_data (copy.state, NULL), g_bytes_get_size (copy.state));
  g_array_append_val (run->checkpoints, copy);
  return take_one (run, error);
}

static void
checkpoint_clear (gpointer data)
{
  g_clear_pointer (&((VmaCheckpoint *) data)->state, g_bytes_unref);
}

static Run
run_new (const guint8 *bytes, gsize size)
{
  Run run = { .bytes = bytes, .size = size,
              .checkpoints = g_array_new (FALSE, FALSE, sizeof (VmaCheckpoint)) };

  g_array_set_clear_func (run.checkpoints, checkpoint_clear);
  return run;
}

static void
run_clear (Run *run)
{
  g_array_unref (run->checkpoints);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Run, run_clear)

/* What went wrong must be said, and be one of the things that can. */
static gboolean
checked (gboolean ok, GError **where)
{
  const GError *error = *where;


  g_assert_true (ok == (error == NULL));
  if (error != NULL && error->domain == VMA_ERROR)
    g_assert_true (error->code == VMA_ERROR_DAMAGED || error->code == VMA_ERROR_UNSUPPORTED
                   || error->code == VMA_ERROR_IO || error->code == VMA_ERROR_CANCELLED);
  else if (error != NULL)
    g_assert_error (error, G_FILE_ERROR, STOPPED);
  return ok;
}

/* A whole pass, in pieces; from a checkpoint, or from the beginning. */
static gboolean
pass (const VmaCodec *codec, Run *run, const VmaCheckpoint *from, gsize piece, GError **error)
{
  static const VmaCheckpoint start = { 0 };
  const VmaPassSink sink = { run, run_output, run_checkpoint };
  gsize at = from != NULL ? (gsize) MIN (from->in, run->size) : 0;
  VmaPass *pass = codec->pass_new (from != NULL ? from : &start, &limits, &sink, error);
  gboolean ok = pass != NULL;

  while (ok && at < run->size) {
    gsize n = MIN (piece, run->size - at);
    ok = codec->pass_feed (pass, run->bytes + at, n, error);
    at += n;
  }
  ok = ok && codec->pass_end (pass, error);
  if (pass != NULL)
    codec->pass_free (pass);
  return ok;
}

static gboolean
walk (const VmaCodec *codec, Run *run, GCancellable *cancellable, GError **error)
{
  const VmaCodecInput input = { run, run_read, run->size };
  const VmaPassSink sink = { run, run_output, run_checkpoint };

  return codec->walk (&input, &limits, &sink, &run->out, cancellable, error);
}

/* The checkpoints of a stream, by whichever way it has, and what it gives in all. */
static Run
explore (const Stream *stream)
{
  gsize size;
  const guint8 *bytes = g_bytes_get_data (stream->bytes, &size);
  Run run = run_new (bytes, size);
  g_autoptr (GError) error = NULL;

  if (stream->codec->walk != NULL && checked (walk (stream->codec, &run, NULL, &error), &error))
    return run;
  g_clear_error (&error);
  g_assert_nonnull (stream->codec->pass_new);
  run_clear (&run);
  run = run_new (bytes, size);
  checked (pass (stream->codec, &run, NULL, 65536, &error), &error);
  g_assert_no_error (error);
  return run;
}

static const VmaCheckpoint *
checkpoint_at (const Run *run, guint i)
{
  static const VmaCheckpoint start = { 0 };

  return i == 0 ? &start : &g_array_index (run->checkpoints, VmaCheckpoint, i - 1);
}

static guint64
end_of (const Run *run, guint i)
{
  return i < run->checkpoints->len ? g_array_index (run->checkpoints, VmaCheckpoint, i).out
                                   : run->out;
}

/* In one go, or in steps. */
static gboolean
decode (const VmaCodec *codec, Run *run, const VmaCheckpoint *from, gsize size, gboolean steps,
        GError **error)
{
  const VmaCodecInput input = { run, run_read, run->size };
  g_autofree guint8 *out = g_malloc (size + 1);

  if (!steps || codec->decoder_new == NULL)
    return codec->decode (from, &input, &limits, out, size, error);
  VmaDecoder *decoder = codec->decoder_new (from, &input, &limits, error);
  gboolean ok = decoder != NULL;
  for (gsize at = 0; ok && at < size; at += 5000)
    ok = codec->decoder_read (decoder, out + at, MIN (5000, size - at), error);
  if (decoder != NULL)
    codec->decoder_free (decoder);
  return ok;
}

static gsize
decode_size (const Run *run, guint i)
{
  guint64 from = checkpoint_at (run, i)->out, end = end_of (run, i);

  return end > from ? (gsize) MIN (end - from, 1u << 20) : 0;
}

static guint
rounds (guint n)
{
  return MAX (1, (guint) (n * MIN (synth_scale (), 1)));
}

/* --- tests ------------------------------------------------------------------------------------- */

static void
test_probe (void)
{
  for (guint i = 0; i < streams->len; i++) {
    const Stream *stream = g_ptr_array_index (streams, i);
    gsize size;
    const guint8 *bytes = g_bytes_get_data (stream->bytes, &size);

    for (guint c = 0; c < G_N_ELEMENTS (codecs); c++) {
      gboolean its = codecs[c] == stream->codec;
      g_assert_true (codecs[c]->probe (bytes, MIN (size, 512)) == its);
      g_assert_false (codecs[c]->probe (bytes, 0));
      for (gsize n = 1; n < 12; n++)
        codecs[c]->probe (bytes, n);
      for (guint at = 0; at < 4; at++) { /* magic and method */
        guint8 head[16];
        memcpy (head, bytes, sizeof head);
        head[at] ^= 0x80;
        codecs[c]->probe (head, sizeof head);
      }
    }
  }
}

/* A file that ends anywhere. */
static void
test_cut_off (void)
{
  for (guint i = 0; i < streams->len; i++) {
    const Stream *stream = g_ptr_array_index (streams, i);
    g_auto (Run) whole = explore (stream);
    gsize step = MAX (1, whole.size / rounds (150));

    for (gsize size = 0; size < whole.size; size += size < 64 ? 1 : step) {
      g_autofree guint8 *copy = g_memdup2 (whole.bytes, size);
      if (stream->codec->pass_new != NULL) {
        g_autoptr (GError) error = NULL;
        g_auto (Run) run = run_new (copy, size);
        checked (pass (stream->codec, &run, NULL, 4096, &error), &error);
      }
      if (stream->codec->walk != NULL) {
        g_autoptr (GError) error = NULL;
        g_auto (Run) run = run_new (copy, size);
        checked (walk (stream->codec, &run, NULL, &error), &error);
      }
    }
    for (guint c = 0; c <= whole.checkpoints->len; c++) {
      const VmaCheckpoint *from = checkpoint_at (&whole, c);
      gsize wanted = decode_size (&whole, c);
      for (guint k = 0; k < rounds (24); k++) {
        gsize size = (gsize) MIN (from->in + k * k * 40, whole.size);
        g_autofree guint8 *copy = g_memdup2 (whole.bytes, size);
        g_autoptr (GError) error = NULL;
        g_auto (Run) run = run_new (copy, size);
        checked (decode (stream->codec, &run, from, wanted, k % 2 != 0, &error), &error);
      }
    }
  }
}

static void
change (guint8 *bytes, gsize size, gsize from, GRand *rand)
{
  guint n = (guint) g_rand_int_range (rand, 1, 4);

  while (n-- > 0 && from < size) {
    gsize room = g_rand_boolean (rand) ? size - from : MIN (size - from, 64);
    gsize at = from + (gsize) g_rand_int_range (rand, 0, (gint32) room);
    bytes[at] = g_rand_boolean (rand) ? (guint8) g_rand_int (rand)
                                      : bytes[at] ^ (guint8) (1 << g_rand_int_range (rand, 0, 8));
  }
}

/* Changed bytes, at the front of the file, behind a checkpoint, at the end (where tables are). */
static void
test_changed (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (5);

  for (guint i = 0; i < streams->len; i++) {
    const Stream *stream = g_ptr_array_index (streams, i);
    g_auto (Run) whole = explore (stream);

    for (guint k = 0; k < rounds (120); k++) {
      g_autofree guint8 *copy = g_memdup2 (whole.bytes, whole.size);
      guint c = (guint) g_rand_int_range (rand, 0, (gint32) whole.checkpoints->len + 1);
      const VmaCheckpoint *from = checkpoint_at (&whole, c);
      gsize at = k % 3 == 0 ? 0 : k % 3 == 1 ? (gsize) from->in : whole.size - MIN (whole.size, 300);

      change (copy, whole.size, MIN (at, whole.size - 1), rand);
      if (stream->codec->walk != NULL) {
        g_autoptr (GError) error = NULL;
        g_auto (Run) run = run_new (copy, whole.size);
        checked (walk (stream->codec, &run, NULL, &error), &error);
      }
      if (stream->codec->pass_new != NULL && k % 3 != 1) {
        g_autoptr (GError) error = NULL;
        g_auto (Run) run = run_new (copy, whole.size);
        checked (pass (stream->codec, &run, NULL, 100000, &error), &error);
      }
      g_autoptr (GError) error = NULL;
      g_auto (Run) run = run_new (copy, whole.size);
      checked (decode (stream->codec, &run, from, decode_size (&whole, c), k % 2 != 0, &error),
               &error);
    }
  }
}

/* Reads that fail, and somebody who takes no more: the very error comes back. */
static void
test_refused (void)
{
  for (guint i = 0; i < streams->len; i++) {
    const Stream *stream = g_ptr_array_index (streams, i);
    const VmaCodec *codec = stream->codec;
    g_auto (Run) whole = explore (stream);
    gboolean reached = TRUE;

    for (guint n = 1; reached && n < 400 && codec->pass_new != NULL; n += 1 + n / 8) {
      g_autoptr (GError) error = NULL;
      g_auto (Run) run = run_new (whole.bytes, whole.size);
      run.refuse_at = n;
      checked (pass (codec, &run, NULL, 3000, &error), &error);
      reached = run.taken >= n;
      if (reached)
        g_assert_error (error, G_FILE_ERROR, STOPPED);
    }
    reached = codec->walk != NULL;
    for (guint n = 1; reached && n < 400; n++) {
      g_autoptr (GError) error = NULL, unread = NULL;
      g_auto (Run) run = run_new (whole.bytes, whole.size);
      g_auto (Run) failing = run_new (whole.bytes, whole.size);
      run.refuse_at = failing.fail_at = n;
      checked (walk (codec, &run, NULL, &error), &error);
      if (run.taken >= n)
        g_assert_error (error, G_FILE_ERROR, STOPPED);
      checked (walk (codec, &failing, NULL, &unread), &unread);
      if (failing.reads >= n)
        g_assert_error (unread, VMA_ERROR, VMA_ERROR_IO);
      reached = run.taken >= n || failing.reads >= n;
    }
    if (codec->walk != NULL) {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      g_autoptr (GError) error = NULL;
      g_auto (Run) run = run_new (whole.bytes, whole.size);
      g_cancellable_cancel (cancellable);
      checked (walk (codec, &run, cancellable, &error), &error);
    }
    for (guint c = 0; c <= whole.checkpoints->len; c++)
      for (guint n = 1; n < 6; n++)
        for (guint steps = 0; steps < 2; steps++) {
          g_autoptr (GError) error = NULL;
          g_auto (Run) run = run_new (whole.bytes, whole.size);
          run.fail_at = n;
          gboolean ok = checked (decode (codec, &run, checkpoint_at (&whole, c),
                                         decode_size (&whole, c), steps, &error),
                                 &error);
          if (run.reads >= n) {
            g_assert_false (ok);
            g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
          } else
            g_assert_no_error (error);
        }
  }
}

/* A state as it might come back from a disk that has changed it, where even its sum fits. */
static void
test_states (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (6);
  guint states = 0;

  for (guint i = 0; i < streams->len; i++) {
    const Stream *stream = g_ptr_array_index (streams, i);
    g_auto (Run) whole = explore (stream);

    for (guint c = 1; c <= whole.checkpoints->len; c++) {
      VmaCheckpoint from = *checkpoint_at (&whole, c);
      gsize size;
      const guint8 *state = from.state != NULL ? g_bytes_get_data (from.state, &size) : NULL;
      states += state != NULL;

      for (guint k = 0; state != NULL && k < rounds (60); k++) {
        guint8 *copy = g_memdup2 (state, size);
        gsize left = k % 4 == 0 ? (gsize) g_rand_int_range (rand, 0, (gint32) size) : size;
        change (copy, left, 0, rand);
        g_autoptr (GBytes) changed = g_bytes_new_take (copy, left);
        g_autoptr (GError) error = NULL, error_pass = NULL;
        g_auto (Run) run = run_new (whole.bytes, whole.size);
        from.state = changed;
        checked (decode (stream->codec, &run, &from, decode_size (&whole, c), k % 2 != 0, &error),
                 &error);
        if (stream->codec->pass_new != NULL && k < rounds (12))
          checked (pass (stream->codec, &run, &from, 100000, &error_pass), &error_pass);
      }
    }
  }
  g_assert_cmpuint (states, >, 6); /* of gzip and of zstd */
}

/* The state of gzip is itself compressed: any content of it. */
static void
unpack_plain (const guint8 *plain, gsize size, guint bits, guint window, guint32 said, gboolean good)
{
  uLongf packed = compressBound (size);
  g_autofree guint8 *bytes = g_malloc (16 + packed);
  GzipState state;

  bytes[0] = (guint8) bits;
  bytes[1] = 0;
  vma_put_le32 (bytes + 2, 0);
  vma_put_le32 (bytes + 6, 0);
  vma_put_le16 (bytes + 10, (guint16) window);
  vma_put_le32 (bytes + 12, said);
  compress2 (bytes + 16, &packed, plain, size, 1);
  g_autoptr (GBytes) all = g_bytes_new (bytes, 16 + packed);
  g_assert_true (gzip_state_unpack (all, &state) == good);
}

static void
test_gzip_state (void)
{
  static const guint8 good[] = { 1, 2, 3, 'a', 'b', 'c' }; /* one run: 3 bytes from place 2 on */
  static const struct {
    guint8 bytes[8];
    gsize size;
  } bad[] = {
    { { 0 }, 0 },                                     /* nothing */
    { { 1, 2 }, 2 },                                  /* half a run */
    { { 0x80 }, 1 },                                  /* half a number */
    { { 0x80, 0x80, 0x80, 0x80, 1 }, 5 },             /* a number too long */
    { { 0xff, 0xff, 0xff, 0x7f }, 4 },                /* too many runs */
    { { 1, 9, 1, 'a' }, 4 },                          /* begins behind the window */
    { { 1, 2, 9, 'a' }, 4 },                          /* ends there */
    { { 1, 2, 3, 'a', 'b' }, 5 },                     /* too few bytes */
    { { 1, 2, 3, 'a', 'b', 'c', 'd' }, 7 },           /* too many */
  };

  unpack_plain (good, sizeof good, 7, 8, sizeof good, TRUE);
  unpack_plain (good, sizeof good, 8, 8, sizeof good, FALSE);
  unpack_plain (good, sizeof good, 0, 65535, sizeof good, FALSE);
  unpack_plain (good, sizeof good, 0, 8, sizeof good - 1, FALSE);
  unpack_plain (good, sizeof good, 0, 8, sizeof good + 1, FALSE);
  unpack_plain (good, sizeof good, 0, 8, G_MAXUINT32, FALSE);
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    unpack_plain (bad[i].bytes, bad[i].size, 0, 8, (guint32) bad[i].size, FALSE);
  g_autoptr (GBytes) tiny = g_bytes_new ("123", 3);
  GzipState state;
  g_assert_false (gzip_state_unpack (tiny, &state));
}

/* --- inside zstd: what libzstd has seen before in a pass, but nobody where decoding begins -------- */

/* Any bytes as the sections of a block: sizes stay within it. */
static void
test_zstd_sections (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (7);
  g_autoptr (VmaZstdSequencer) sequencer = vma_zstd_sequencer_new ();
  guint decoded = 0;

  for (guint k = 0; k < rounds (200000); k++) {
    gsize size = (gsize) g_rand_int_range (rand, 0, 40);
    g_autofree guint8 *body = g_malloc (size);
    VmaZstdLiteralsSection literals;
    VmaZstdSequencesSection sequences;
    VmaZstdTables tables;
    gboolean found;

    for (gsize i = 0; i < size; i++)
      body[i] = g_rand_int_range (rand, 0, 3) == 0 ? 0 : (guint8) g_rand_int (rand);
    if (size > 0 && k % 2 == 0)
      body[0] &= 3; /* small literals */
    vma_zstd_tables_reset (&tables);
    if (vma_zstd_literals_section_parse (body, size, &literals)) {
      g_assert_cmpuint (literals.size, <=, size);
      g_assert_cmpuint (literals.literals, <=, VMA_ZSTD_BLOCK_MAX);
      vma_zstd_tables_apply_literals (&tables, &literals);
    }
    if (vma_zstd_sequences_section_parse (body, size, &sequences) && sequences.count > 0) {
      g_assert_true (sequences.bits + sequences.bits_size == body + size);
      if (vma_zstd_tables_apply_sequences (&tables, &sequences)) {
        g_autofree guint8 *padded = g_malloc0 (VMA_ZSTD_BITS_PAD + sequences.bits_size + 8);
        VmaZstdRepeats repeats = vma_zstd_repeats_initial;
        guint32 all_literals, matches;
        memcpy (padded + VMA_ZSTD_BITS_PAD, sequences.bits, sequences.bits_size);
        decoded += vma_zstd_sequencer_decode (sequencer, &tables, padded + VMA_ZSTD_BITS_PAD,
                                              sequences.bits_size, sequences.count, &repeats,
                                              &all_literals, &matches)
                   != NULL;
      }
    }
    g_autoptr (GByteArray) pinned = vma_zstd_tables_pin (&tables, body, size, &found);
  }
  g_test_message ("%u of them could be decoded", decoded);
}

/* The longest form of a number of sequences, and all places where a section may end. */
static void
test_zstd_counts (void)
{
  static const guint8 longest[] = { 255, 1, 0, 0, 0x80 }, none[] = { 0 }, more[] = { 0, 1 },
                      rle[] = { 1, 0x54, 0, 0, 0, 1 };
  VmaZstdSequencesSection section;

  g_assert_true (vma_zstd_sequences_section_parse (longest, sizeof longest, &section));
  g_assert_cmpuint (section.count, ==, 0x7f01);
  for (gsize n = 0; n < 4; n++)
    g_assert_false (vma_zstd_sequences_section_parse (longest, n, &section));
  g_assert_true (vma_zstd_sequences_section_parse (none, 1, &section));
  g_assert_cmpuint (section.count, ==, 0);
  g_assert_false (vma_zstd_sequences_section_parse (more, 2, &section));
  g_assert_true (vma_zstd_sequences_section_parse (rle, sizeof rle, &section));
  for (gsize n = 0; n < 5; n++)
    g_assert_false (vma_zstd_sequences_section_parse (rle, n, &section));
}

/* A packed window of any content. */
static void
test_zstd_window (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (8);
  guint8 content[64];

  for (guint k = 0; k < rounds (20000); k++) {
    guint8 plain[24], packed[128];
    gsize n = (gsize) g_rand_int_range (rand, 0, sizeof plain + 1);
    for (gsize i = 0; i < n; i++)
      plain[i] = (guint8) g_rand_int_range (rand, 0, k % 2 == 0 ? 6 : 256);
    gsize size = ZSTD_compress (packed, sizeof packed, plain, n, 1);
    g_assert_false (ZSTD_isError (size));
    vma_zstd_window_unpack (packed, size, n, content, sizeof content);
    g_assert_false (vma_zstd_window_unpack (packed, size, n + 1, content, sizeof content));
    g_assert_false (vma_zstd_window_unpack (packed, size - 1, n, content, sizeof content));
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  make_streams ();
  g_test_add_func ("/codecs/probe", test_probe);
  g_test_add_func ("/codecs/cut-off", test_cut_off);
  g_test_add_func ("/codecs/changed", test_changed);
  g_test_add_func ("/codecs/refused", test_refused);
  g_test_add_func ("/codecs/states", test_states);
  g_test_add_func ("/codecs/gzip-state", test_gzip_state);
  g_test_add_func ("/codecs/zstd-sections", test_zstd_sections);
  g_test_add_func ("/codecs/zstd-counts", test_zstd_counts);
  g_test_add_func ("/codecs/zstd-window", test_zstd_window);
  int status = g_test_run ();
  for (guint i = 0; i < streams->len; i++) {
    Stream *stream = g_ptr_array_index (streams, i);
    g_free (stream->name);
    g_bytes_unref (stream->bytes);
    g_free (stream);
  }
  g_ptr_array_unref (streams);
  return status;
}
