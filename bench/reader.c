/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reader FILE seq|rnd SIZE THREADS [drop] [direct] [seconds=S] [count=N] [seed=N]: reads a file, and
 * says how fast: one line of JSON.
 *
 *   seq     each thread reads its part of the file from front to back
 *   rnd     every place of the file at most once, in random order
 *   drop    first drops what the page cache holds of the file (its own pages, not those of whatever
 *           file a FUSE driver serves it from)
 *   direct  opens it with O_DIRECT
 *
 * Ends when the file or `count` reads are done, or the seconds are over.  The threads start to read
 * together, after all of them are there.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 64

static const char *path;
static int fd;
static int is_random;
static size_t size;
static unsigned n_threads;
static double seconds = 1e9;
static uint64_t slots; /* reads of `size` bytes in the file */
static uint64_t count; /* of them, to be done */
static uint32_t *order; /* rnd: the slots, shuffled */
static pthread_barrier_t barrier;

typedef struct {
  uint64_t first, end; /* of the count */
  uint64_t bytes, reads;
} Part;

static double
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (double) ts.tv_sec + (double) ts.tv_nsec * 1e-9;
}

static void
die (const char *what)
{
  fprintf (stderr, "reader: %s: %s: %s\n", path, what, strerror (errno));
  exit (EXIT_FAILURE);
}

static void *
read_part (void *data)
{
  Part *part = data;
  void *buffer = mmap (NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

  if (buffer == MAP_FAILED)
    die ("no memory");
  pthread_barrier_wait (&barrier);
  double until = now () + seconds;
  for (uint64_t i = part->first; i < part->end; i++) {
    uint64_t slot = is_random ? order[i] : i;
    ssize_t n = pread (fd, buffer, size, (off_t) (slot * size));
    if (n != (ssize_t) size)
      die (n < 0 ? "read" : "short read");
    part->bytes += size;
    part->reads++;
    if ((part->reads % 16 == 0 || size > 65536) && now () > until)
      break;
  }
  pthread_barrier_wait (&barrier);
  return NULL;
}

static void
shuffle (uint64_t seed)
{
  uint64_t x = seed * UINT64_C (0x9e3779b97f4a7c15) + 1;

  order = malloc (slots * sizeof *order);
  if (order == NULL)
    die ("no memory");
  for (uint64_t i = 0; i < slots; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    uint64_t j = x % (i + 1);
    order[i] = order[j];
    order[j] = (uint32_t) i;
  }
}

static void
usage (void)
{
  fprintf (stderr, "usage: reader FILE seq|rnd SIZE THREADS [drop] [direct] [seconds=S] [count=N] "
                   "[seed=N]\n");
  exit (2);
}

int
main (int argc, char **argv)
{
  pthread_t threads[MAX_THREADS];
  Part parts[MAX_THREADS] = { 0 };
  int flags = O_RDONLY, drop = 0;
  uint64_t seed = 1, bytes = 0, reads = 0;
  struct stat st;

  if (argc < 5)
    usage ();
  path = argv[1];
  is_random = strcmp (argv[2], "rnd") == 0;
  size = strtoull (argv[3], NULL, 10);
  n_threads = (unsigned) strtoul (argv[4], NULL, 10);
  for (int i = 5; i < argc; i++) {
    if (strcmp (argv[i], "drop") == 0)
      drop = 1;
    else if (strcmp (argv[i], "direct") == 0)
      flags |= O_DIRECT;
    else if (strncmp (argv[i], "seconds=", 8) == 0)
      seconds = strtod (argv[i] + 8, NULL);
    else if (strncmp (argv[i], "count=", 6) == 0)
      count = strtoull (argv[i] + 6, NULL, 10);
    else if (strncmp (argv[i], "seed=", 5) == 0)
      seed = strtoull (argv[i] + 5, NULL, 10);
    else
      usage ();
  }
  if (size == 0 || n_threads == 0 || n_threads > MAX_THREADS)
    usage ();

  fd = open (path, flags);
  if (fd < 0 || fstat (fd, &st) != 0)
    die ("open");
  if (drop)
    posix_fadvise (fd, 0, 0, POSIX_FADV_DONTNEED);
  slots = (uint64_t) st.st_size / size;
  if (count == 0 || count > slots)
    count = slots;
  if (slots == 0 || slots > UINT32_MAX)
    usage ();
  if (is_random)
    shuffle (seed);

  pthread_barrier_init (&barrier, NULL, n_threads + 1);
  for (unsigned i = 0; i < n_threads; i++) {
    parts[i].first = count * i / n_threads;
    parts[i].end = count * (i + 1) / n_threads;
    if (pthread_create (&threads[i], NULL, read_part, &parts[i]) != 0)
      die ("thread");
  }
  pthread_barrier_wait (&barrier);
  double start = now ();
  pthread_barrier_wait (&barrier);
  double took = now () - start;
  for (unsigned i = 0; i < n_threads; i++) {
    pthread_join (threads[i], NULL);
    bytes += parts[i].bytes;
    reads += parts[i].reads;
  }
  printf ("{\"bytes\": %llu, \"reads\": %llu, \"seconds\": %.6f}\n", (unsigned long long) bytes,
          (unsigned long long) reads, took);
  return EXIT_SUCCESS;
}
