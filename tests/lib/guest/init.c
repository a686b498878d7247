/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only program of the test guest: its init.
 *
 * Its writers overwrite the disks all the time, in an order that is known: each writer has its own
 * region on every disk, and its step n writes, for one disk after the other, one extent and then the
 * number n into the writer's log sector.  Place, size, kind and contents of an extent follow from
 * (writer, n, disk) alone, see extent_of(); tests/lib/guestmodel.py has the same arithmetic and so
 * knows every byte of every point in time.  Each write has ended before the next one of the same
 * writer starts, so a point in time is, per writer, the result of a prefix of its writes.
 *
 * Commands come as lines "ID WORD ARGUMENT..." on the second serial port, replies go there as
 * "ID ok ..." or "ID error ...":
 *
 *   go [MICROSECONDS]     writers start, or go on; with a pause between two steps
 *   pause                 writers stop after their step; the reply is that of status
 *   status                steps done, errors seen, longest write in us since the last status
 *   verify                reads all disks and compares them with what this guest knows it wrote
 *   latency DISK COUNT    random 4 KiB writes, timed (ns): to all of a disk, or to its last quarter
 *                         where writers have the rest
 *   sh COMMAND            what busybox says, newlines as \n
 *   off, reboot
 *
 * After a reboot, or a start from a copy of the disks, the steps are taken from the log sectors, and
 * the one that may have been under way is done again.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512
#define MAX_DISKS 8
#define MAX_WRITERS 8
#define MAX_SECTORS 256 /* of one extent */
#define LOG_SECTORS 128 /* before the regions */
#define HOT_SECTORS 512

typedef enum { KIND_WRITE, KIND_ZERO, KIND_DISCARD } Kind;

typedef struct {
  uint64_t first;
  uint32_t count;
  Kind kind;
} Extent;

typedef struct {
  int fd;
  uint64_t sectors;
  bool gone;
  uint64_t *state; /* of each sector: step << 8 | writer << 1 | zeros; 0: never written */
} Disk;

typedef struct {
  unsigned number;
  uint64_t step; /* done on all disks */
  uint8_t *buffer;
} Writer;

static Disk disks[MAX_DISKS];
static unsigned n_disks;
static Writer writers[MAX_WRITERS];
static unsigned n_writers = 2;
static bool discards = true; /* else zeros are written in their place */
static int port = -1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool running;       /* all of these: under lock */
static unsigned busy;      /* writers within a step */
static unsigned pause_us;
static uint64_t errors, longest_ns;
static int first_errno;

static uint64_t
now_ns (void)
{
  struct timespec t;
  clock_gettime (CLOCK_MONOTONIC, &t);
  return (uint64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t
mix (uint64_t x)
{
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/* As in guestmodel.py: change both. */
static uint64_t
region_size (const Disk *disk)
{
  return (disk->sectors / 4 * 3 - LOG_SECTORS) / n_writers;
}

static Extent
extent_of (unsigned writer, uint64_t step, unsigned d)
{
  uint64_t region = region_size (&disks[d]);
  uint64_t start = LOG_SECTORS + writer * region;
  uint64_t h = mix (mix (mix (step) + writer) + d);
  unsigned kind = h & 15, class = h >> 4 & 7;
  bool hot = (h >> 7 & 3) == 0;
  uint64_t where = mix (h);
  Extent e = { .kind = kind == 0 ? KIND_ZERO : kind == 1 ? KIND_DISCARD : KIND_WRITE };
  unsigned align = 1;
  if (e.kind == KIND_DISCARD || class == 6)
    e.count = align = 128;
  else if (class <= 2)
    e.count = 1 + (h >> 16 & 7);
  else if (class <= 4)
    e.count = align = 8;
  else if (class == 5)
    e.count = 1 + (h >> 16 & 255);
  else
    {
      align = 8;
      e.count = 8 * (1 + (h >> 16 & 7));
    }
  uint64_t span = hot ? HOT_SECTORS : region;
  e.first = start + where % (span - e.count - align + 1);
  e.first = (e.first + align - 1) / align * align;
  return e;
}

static void
fill (uint8_t *buffer, unsigned writer, uint64_t step, unsigned d, Extent e)
{
  for (uint32_t i = 0; i < e.count; i++)
    for (unsigned k = 0; k < SECTOR / 16; k++)
      {
        uint64_t pair[2] = { step | (uint64_t) writer << 56, (e.first + i) | (uint64_t) d << 56 };
        memcpy (buffer + i * SECTOR + k * 16, pair, 16);
      }
}

static void
fill_log (uint8_t *buffer, unsigned writer, uint64_t step, unsigned d)
{
  for (unsigned k = 0; k < SECTOR / 32; k++)
    {
      uint64_t words[4] = { 0x474f4c53464d56, step, writer, d }; /* "VMFSLOG" */
      memcpy (buffer + k * 32, words, 32);
    }
}

static uint64_t
state_of (unsigned writer, uint64_t step, Kind kind)
{
  return step << 8 | writer << 1 | (kind != KIND_WRITE);
}

static void
remember (unsigned writer, uint64_t step, unsigned d)
{
  Extent e = extent_of (writer, step, d);
  for (uint32_t i = 0; i < e.count; i++)
    disks[d].state[e.first + i] = state_of (writer, step, e.kind);
}

static void
went_wrong (Disk *disk)
{
  pthread_mutex_lock (&lock);
  if (errors++ == 0)
    first_errno = errno;
  disk->gone = true;
  pthread_mutex_unlock (&lock);
}

static bool
put (Disk *disk, const uint8_t *data, Extent e)
{
  uint64_t start = now_ns ();
  uint64_t range[2] = { e.first * SECTOR, (uint64_t) e.count * SECTOR };
  bool ok;
  if (e.kind == KIND_WRITE)
    ok = pwrite (disk->fd, data, range[1], range[0]) == (ssize_t) range[1];
  else
    ok = ioctl (disk->fd, e.kind == KIND_DISCARD && discards ? BLKDISCARD : BLKZEROOUT, range) == 0;
  uint64_t took = now_ns () - start;
  pthread_mutex_lock (&lock);
  if (took > longest_ns)
    longest_ns = took;
  pthread_mutex_unlock (&lock);
  return ok;
}

static void
do_step (Writer *writer, uint64_t step)
{
  for (unsigned d = 0; d < n_disks; d++)
    {
      Disk *disk = &disks[d];
      if (disk->gone)
        continue;
      Extent e = extent_of (writer->number, step, d);
      fill (writer->buffer, writer->number, step, d, e);
      bool ok = put (disk, writer->buffer, e);
      if (ok)
        {
          remember (writer->number, step, d);
          fill_log (writer->buffer, writer->number, step, d);
          ok = put (disk, writer->buffer, (Extent){ writer->number, 1, KIND_WRITE });
        }
      if (!ok)
        went_wrong (disk);
    }
}

static void *
writer_thread (void *data)
{
  Writer *writer = data;
  for (;;)
    {
      pthread_mutex_lock (&lock);
      while (!running)
        pthread_cond_wait (&changed, &lock);
      busy++;
      unsigned us = pause_us;
      pthread_mutex_unlock (&lock);

      do_step (writer, writer->step + 1);

      pthread_mutex_lock (&lock);
      writer->step++;
      busy--;
      pthread_cond_broadcast (&changed);
      pthread_mutex_unlock (&lock);
      if (us > 0)
        usleep (us);
    }
  return NULL;
}

/* The state of before: what the log sectors say, on each disk. */
static void
recover (Writer *writer)
{
  uint64_t least = UINT64_MAX;
  bool uneven = false;
  for (unsigned d = 0; d < n_disks; d++)
    {
      uint64_t words[4] = { 0 };
      if (pread (disks[d].fd, writer->buffer, SECTOR, writer->number * SECTOR) == SECTOR)
        memcpy (words, writer->buffer, sizeof words);
      uint64_t step = words[0] == 0x474f4c53464d56 ? words[1] : 0;
      uneven = uneven || (d > 0 && step != least);
      if (step < least)
        least = step;
    }
  for (uint64_t step = 1; step <= least; step++)
    for (unsigned d = 0; d < n_disks; d++)
      remember (writer->number, step, d);
  writer->step = least;
  /* The step that was under way is done again; of a disk never written, there is none. */
  if (least > 0 || uneven)
    do_step (writer, ++writer->step);
}

__attribute__ ((format (printf, 2, 3))) static void
reply (const char *id, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  char *text = NULL;
  if (vasprintf (&text, format, args) >= 0)
    dprintf (port, "%s %s\n", id, text);
  free (text);
  va_end (args);
}

static void
status (const char *id)
{
  char steps[256] = "", *end = steps;
  pthread_mutex_lock (&lock);
  for (unsigned w = 0; w < n_writers; w++)
    end += sprintf (end, "%s%llu", w ? "," : "", (unsigned long long) writers[w].step);
  uint64_t us = longest_ns / 1000;
  longest_ns = 0;
  unsigned gone = 0;
  for (unsigned d = 0; d < n_disks; d++)
    gone += disks[d].gone;
  reply (id, "ok steps=%s errors=%llu errno=%d gone=%u longest_us=%llu running=%d", steps,
         (unsigned long long) errors, first_errno, gone, (unsigned long long) us, running);
  pthread_mutex_unlock (&lock);
}

static void
set_running (bool on, unsigned us)
{
  pthread_mutex_lock (&lock);
  running = on;
  pause_us = us;
  pthread_cond_broadcast (&changed);
  while (!on && busy > 0)
    pthread_cond_wait (&changed, &lock);
  pthread_mutex_unlock (&lock);
}

/* Is this sector what the state says? */
static bool
sector_fits (const uint8_t *data, unsigned d, uint64_t sector, uint64_t state)
{
  uint64_t want[2] = { 0, 0 };
  if (state != 0 && (state & 1) == 0)
    {
      want[0] = (state >> 8) | (state >> 1 & 0x7f) << 56;
      want[1] = sector | (uint64_t) d << 56;
    }
  for (unsigned k = 0; k < SECTOR / 16; k++)
    if (memcmp (data + k * 16, want, 16) != 0)
      return false;
  return true;
}

static void
verify (const char *id)
{
  size_t size = 1 << 20;
  uint8_t *data = NULL;
  uint64_t seen = 0;
  if (posix_memalign ((void **) &data, 4096, size) != 0)
    {
      reply (id, "error no memory");
      return;
    }
  for (unsigned d = 0; d < n_disks; d++)
    {
      Disk *disk = &disks[d];
      uint64_t end = (LOG_SECTORS + region_size (disk) * n_writers);
      for (uint64_t at = 0; at < end && !disk->gone; at += size / SECTOR)
        {
          ssize_t n = pread (disk->fd, data, size, at * SECTOR);
          if (n <= 0)
            {
              reply (id, "error disk %u at sector %llu: %s", d, (unsigned long long) at,
                     strerror (errno));
              free (data);
              return;
            }
          for (uint64_t s = at; s < at + n / SECTOR && s < end; s++)
            if (s >= LOG_SECTORS
                && !sector_fits (data + (s - at) * SECTOR, d, s, disk->state[s]))
              {
                uint64_t got[2];
                memcpy (got, data + (s - at) * SECTOR, 16);
                reply (id, "error disk %u sector %llu: %llx %llx, not step %llu of writer %d%s", d,
                       (unsigned long long) s, (unsigned long long) got[0],
                       (unsigned long long) got[1], (unsigned long long) (disk->state[s] >> 8),
                       (int) (disk->state[s] >> 1 & 0x7f), disk->state[s] & 1 ? " (zeros)" : "");
                free (data);
                return;
              }
          seen += n / SECTOR;
        }
      for (unsigned w = 0; w < n_writers && !disk->gone; w++)
        {
          uint64_t words[4];
          if (pread (disk->fd, data, SECTOR, w * SECTOR) != SECTOR)
            memset (data, 0xff, SECTOR);
          memcpy (words, data, sizeof words);
          if (words[1] != writers[w].step)
            {
              reply (id, "error disk %u: log of writer %u says %llu, not %llu", d, w,
                     (unsigned long long) words[1], (unsigned long long) writers[w].step);
              free (data);
              return;
            }
        }
    }
  free (data);
  reply (id, "ok sectors=%llu", (unsigned long long) seen);
}

static int
compare (const void *a, const void *b)
{
  const uint64_t *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static void
latency (const char *id, unsigned d, unsigned count)
{
  if (d >= n_disks || count < 1 || count > 1000000)
    {
      reply (id, "error no such disk, or no such number");
      return;
    }
  Disk *disk = &disks[d];
  uint64_t start = n_writers > 0 ? disk->sectors / 4 * 3 : LOG_SECTORS;
  uint64_t first = start / 8 + 1, last = disk->sectors / 8;
  uint64_t *times = calloc (count, sizeof *times), sum = 0, random = now_ns ();
  uint8_t *data = NULL;
  if (times == NULL || posix_memalign ((void **) &data, 4096, 4096) != 0)
    {
      reply (id, "error no memory");
      free (times);
      return;
    }
  for (unsigned i = 0; i < count; i++)
    {
      random = mix (random);
      memset (data, (int) (random >> 56) | 1, 4096);
      off_t at = (off_t) (first + random % (last - first)) * 4096;
      uint64_t start = now_ns ();
      if (pwrite (disk->fd, data, 4096, at) != 4096)
        {
          reply (id, "error write: %s", strerror (errno));
          free (data);
          free (times);
          return;
        }
      times[i] = now_ns () - start;
      sum += times[i];
    }
  qsort (times, count, sizeof *times, compare);
  reply (id, "ok count=%u mean=%llu p50=%llu p99=%llu max=%llu", count,
         (unsigned long long) (sum / count), (unsigned long long) times[count / 2],
         (unsigned long long) times[count - 1 - count / 100],
         (unsigned long long) times[count - 1]);
  free (data);
  free (times);
}

static void
shell (const char *id, const char *command)
{
  char text[65536], escaped[2 * sizeof text];
  FILE *pipe = popen (command, "r");
  size_t n = pipe ? fread (text, 1, sizeof text, pipe) : 0, k = 0;
  int code = pipe ? pclose (pipe) : -1;
  for (size_t i = 0; i < n; i++)
    if (text[i] == '\n' || text[i] == '\\')
      {
        escaped[k++] = '\\';
        escaped[k++] = text[i] == '\n' ? 'n' : '\\';
      }
    else
      escaped[k++] = text[i];
  reply (id, "%s status=%d %.*s", code == 0 ? "ok" : "error", code, (int) k, escaped);
}

static void
command (char *line)
{
  char *id = strsep (&line, " "), *word = line ? strsep (&line, " ") : NULL;
  if (word == NULL)
    return;
  unsigned a = 0, b = 0;
  if (line && strcmp (word, "sh") != 0)
    sscanf (line, "%u %u", &a, &b);
  if (strcmp (word, "go") == 0)
    {
      set_running (true, a);
      reply (id, "ok");
    }
  else if (strcmp (word, "pause") == 0)
    {
      set_running (false, 0);
      status (id);
    }
  else if (strcmp (word, "status") == 0)
    status (id);
  else if (strcmp (word, "verify") == 0)
    verify (id);
  else if (strcmp (word, "latency") == 0)
    latency (id, a, b);
  else if (strcmp (word, "sh") == 0)
    shell (id, line ? line : "true");
  else if (strcmp (word, "off") == 0 || strcmp (word, "reboot") == 0)
    {
      set_running (false, 0);
      reply (id, "ok");
      tcdrain (port);
      reboot (word[0] == 'o' ? RB_POWER_OFF : RB_AUTOBOOT);
    }
  else
    reply (id, "error no command %s", word);
}

static void
load_modules (void)
{
  FILE *list = fopen ("/modules/order", "r");
  char name[256];
  while (list && fgets (name, sizeof name, list))
    {
      name[strcspn (name, "\n")] = 0;
      char path[300];
      snprintf (path, sizeof path, "/modules/%s", name);
      int fd = open (path, O_RDONLY | O_CLOEXEC);
      if (fd < 0 || syscall (SYS_finit_module, fd, "", 0) != 0)
        printf ("init: module %s: %s\n", name, strerror (errno));
      close (fd);
    }
  if (list)
    fclose (list);
}

/* The number of a disk is in its serial: "d0", "d1"... */
static int
disk_number (const char *name)
{
  char path[300], text[256] = "";
  snprintf (path, sizeof path, "/sys/block/%s/serial", name);
  int fd = open (path, O_RDONLY | O_CLOEXEC), skip = 0;
  if (fd < 0)
    {
      snprintf (path, sizeof path, "/sys/block/%s/device/vpd_pg80", name);
      fd = open (path, O_RDONLY | O_CLOEXEC);
      skip = 4;
    }
  ssize_t n = fd < 0 ? -1 : read (fd, text, sizeof text - 1);
  if (fd >= 0)
    close (fd);
  if (n < skip + 2 || text[skip] != 'd' || !isdigit (text[skip + 1]))
    return -1;
  return text[skip + 1] - '0';
}

static void
find_disks (void)
{
  /* SCSI disks are looked for in the background. */
  unsigned wanted = 0;
  const char *asked = getenv ("disks");
  if (asked)
    wanted = atoi (asked);
  for (int tries = 0; tries < 1000; tries++)
    {
      DIR *dir = opendir ("/sys/block");
      for (struct dirent *entry; dir && (entry = readdir (dir));)
        {
          int number = disk_number (entry->d_name);
          if (number < 0 || number >= MAX_DISKS || disks[number].sectors != 0)
            continue;
          char path[300];
          uint64_t bytes = 0;
          snprintf (path, sizeof path, "/dev/%s", entry->d_name);
          int fd = open (path, O_RDWR | O_DIRECT | O_CLOEXEC);
          if (fd < 0 || ioctl (fd, BLKGETSIZE64, &bytes) != 0)
            {
              close (fd);
              continue;
            }
          disks[number].fd = fd;
          disks[number].sectors = bytes / SECTOR;
          disks[number].state = calloc (bytes / SECTOR, sizeof (uint64_t));
          n_disks++;
        }
      if (dir)
        closedir (dir);
      if (n_disks >= wanted)
        return;
      usleep (10000);
    }
}

int
main (void)
{
  mount ("dev", "/dev", "devtmpfs", 0, "");
  mount ("proc", "/proc", "proc", 0, "");
  mount ("sys", "/sys", "sysfs", 0, "");
  mount ("tmp", "/tmp", "tmpfs", 0, "");
  int console = open ("/dev/console", O_RDWR);
  for (int i = 0; i < 3 && console >= 0; i++)
    dup2 (console, i);
  setenv ("PATH", "/bin", 1);
  load_modules ();
  if (getenv ("writers"))
    n_writers = atoi (getenv ("writers"));
  if (n_writers > MAX_WRITERS)
    n_writers = MAX_WRITERS;
  if (getenv ("discards"))
    discards = atoi (getenv ("discards")) != 0;
  find_disks ();

  port = open ("/dev/ttyS1", O_RDWR | O_NOCTTY);
  struct termios raw;
  tcgetattr (port, &raw);
  cfmakeraw (&raw);
  cfsetspeed (&raw, B115200);
  tcsetattr (port, TCSANOW, &raw);

  for (unsigned w = 0; w < n_writers; w++)
    {
      writers[w].number = w;
      if (posix_memalign ((void **) &writers[w].buffer, 4096, MAX_SECTORS * SECTOR) != 0)
        abort ();
      if (n_disks > 0)
        recover (&writers[w]);
      pthread_t thread;
      if (n_disks > 0)
        pthread_create (&thread, NULL, writer_thread, &writers[w]);
    }
  /* A line of its own: the host may have heard half a line of the kernel's before. */
  dprintf (port, "\nready disks=%u writers=%u\n", n_disks, n_writers);

  static char line[4096];
  size_t used = 0;
  for (;;)
    {
      ssize_t n = read (port, line + used, sizeof line - 1 - used);
      if (n <= 0)
        {
          usleep (100000);
          continue;
        }
      used += n;
      char *end;
      while ((end = memchr (line, '\n', used)) != NULL)
        {
          *end = 0;
          command (line);
          used -= end + 1 - line;
          memmove (line, end + 1, used);
        }
      if (used == sizeof line - 1)
        used = 0;
    }
}
