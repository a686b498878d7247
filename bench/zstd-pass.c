/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * zstd-pass FILE [SPACING-MiB [READS]]: the index pass over a zstd file, and random reads from its
 * checkpoints.  Prints the pass's seconds, the sidecar's share and the reads' latencies.
 */
#include "source/zstd/codec.h"
#include "source/zstd/pass.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
  guint64 out;
  guint64 sum; /* keeps the output from being optimised away */
  GArray *checkpoints;
  guint64 state_bytes;
} Result;

static gboolean
output (gpointer data, const guint8 *bytes, gsize size, GError **error)
{
  Result *result = data;

  (void)error;
  result->out += size;
  result->sum += bytes[size - 1];
  return TRUE;
}

static gboolean
checkpoint (gpointer data, const VmaCheckpoint *at, GError **error)
{
  Result *result = data;
  VmaCheckpoint copy = *at;

  (void)error;
  result->state_bytes += 16;
  if (copy.state != NULL) {
    result->state_bytes += g_bytes_get_size (copy.state);
    g_bytes_ref (copy.state);
  }
  g_array_append_val (result->checkpoints, copy);
  return TRUE;
}

static gssize
read_at (gpointer data, void *buffer, gsize size, guint64 offset, GError **error)
{
  (void)error;
  return pread (*(int *)data, buffer, size, (off_t)offset);
}

static int
compare (const void *a, const void *b)
{
  double x = *(const double *)a;
  double y = *(const double *)b;

  return x < y ? -1 : x > y;
}

static void
random_reads (int fd, Result *result, const VmaCodecLimits *limits, guint64 widest, guint reads)
{
  const VmaCodecInput input = { &fd, read_at, (guint64)lseek (fd, 0, SEEK_END) };
  const gsize want = 64 << 10;
  g_autofree double *times = g_new (double, reads);
  g_autofree guint8 *buffer = g_malloc0 (widest + want + (1 << 20)); /* as a cache would have it */
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  for (guint i = 0; i < reads; i++) {
    guint64 offset = (guint64)(g_rand_double (rand) * (double)(result->out - want));
    const VmaCheckpoint *from = NULL;
    g_autoptr (GError) error = NULL;

    for (guint k = 0; k < result->checkpoints->len; k++) {
      const VmaCheckpoint *next = &g_array_index (result->checkpoints, VmaCheckpoint, k);
      if (next->out <= offset)
        from = next;
    }
    gint64 start = g_get_monotonic_time ();
    gsize size = (gsize)(offset + want - from->out);
    if (!vma_zstd_codec.decode (from, &input, limits, buffer, size, &error))
      g_error ("%s", error->message);
    times[i] = (double)(g_get_monotonic_time () - start) / 1000;
  }
  qsort (times, reads, sizeof *times, compare);
  printf ("read 64 KiB: median %.2f ms, 90 %% %.2f ms, worst %.2f ms (%u reads)\n",
          times[reads / 2], times[reads * 9 / 10], times[reads - 1], reads);
}

int
main (int argc, char **argv)
{
  VmaCodecLimits limits = { .memory = G_GUINT64_CONSTANT (6) << 30, .spacing = 16 << 20 };
  Result result = { .checkpoints = g_array_new (FALSE, FALSE, sizeof (VmaCheckpoint)) };
  const VmaPassSink sink = { &result, output, checkpoint };
  g_autoptr (GError) error = NULL;
  static guint8 buffer[256 << 10];
  guint64 widest = 0;
  gssize got;
  int fd;

  if (argc < 2 || (fd = open (argv[1], O_RDONLY | O_CLOEXEC)) < 0) {
    fprintf (stderr, "usage: %s FILE [SPACING-MiB [READS [one]]]\n", argv[0]);
    return 2;
  }
  if (argc > 2)
    limits.spacing = strtoull (argv[2], NULL, 0) << 20;

  gint64 start = g_get_monotonic_time ();
  VmaPass *pass = vma_zstd_pass_new_with (
      NULL, &limits, &sink, argc > 4 ? VMA_ZSTD_PASS_ONE_THREAD : VMA_ZSTD_PASS_DEFAULT, &error);
  while (pass != NULL && (got = read (fd, buffer, sizeof buffer)) > 0)
    if (!vma_zstd_pass_feed (pass, buffer, (gsize)got, &error))
      g_error ("%s", error->message);
  if (pass == NULL || !vma_zstd_pass_end (pass, &error))
    g_error ("%s", error->message);
  printf ("pass: %.3f s, %.1f MiB, %u checkpoints, %u frames given up\n",
          (double)(g_get_monotonic_time () - start) / 1e6, (double)result.out / 0x1p20,
          result.checkpoints->len, vma_zstd_pass_given_up (pass));
  vma_zstd_pass_free (pass);
  for (guint i = 1; i <= result.checkpoints->len; i++)
    widest = MAX (widest, (i == result.checkpoints->len
                               ? result.out
                               : g_array_index (result.checkpoints, VmaCheckpoint, i).out)
                              - g_array_index (result.checkpoints, VmaCheckpoint, i - 1).out);
  printf ("sidecar: %" G_GUINT64_FORMAT " bytes, %.3f %%; widest spacing %.1f MiB\n",
          result.state_bytes, 100.0 * (double)result.state_bytes / (double)result.out,
          (double)widest / 0x1p20);
  random_reads (fd, &result, &limits, widest, argc > 3 ? (guint)atoi (argv[3]) : 200);
  return 0;
}
