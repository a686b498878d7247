/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlays when the power fails, the scratch file is full, or its medium breaks.
 *
 * The linker puts the functions below between the overlay and the system (--wrap): they keep a log
 * of all that is done to the scratch file.  A power failure at any point of the log leaves all that
 * was flushed before, and of the rest any choice of sectors.  From that the file is made anew,
 * opened, and each sector compared with what may be in it.
 */
#include "overlay/disk.h"
#include "overlay/format.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "vma/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECTOR 512

/* --- the log ---------------------------------------------------------------------------------- */

typedef enum {
  EVENT_WRITE,
  EVENT_PUNCH,
  EVENT_FLUSH,  /* all before is on the medium */
  EVENT_BEGIN,  /* of a write to the disk: number `offset` */
  EVENT_SYNCED, /* vma_overlay_sync() came back */
} EventKind;

typedef struct {
  EventKind kind;
  guint64 offset, size;
  guint8 *data;
} Event;

static GArray *events;         /* NULL: no log is kept */
static gint64 space = -1;      /* bytes that can still be written; -1: any number */
static gboolean medium_broken; /* flushes fail */
static gboolean no_holes;      /* holes cannot be made */

static void
log_event (EventKind kind, guint64 offset, const void *data, guint64 size)
{
  Event event = { .kind = kind, .offset = offset, .size = size };

  if (events == NULL)
    return;
  if (data != NULL)
    event.data = g_memdup2 (data, size);
  g_array_append_val (events, event);
}

static void
free_events (void)
{
  for (guint i = 0; i < events->len; i++)
    g_free (g_array_index (events, Event, i).data);
  g_clear_pointer (&events, g_array_unref);
}

ssize_t __real_pwrite64 (int fd, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwrite64 (int fd, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwritev64 (int fd, const struct iovec *iov, int n, off_t offset);
int __real_fdatasync (int fd);
int __wrap_fdatasync (int fd);
int __real_fallocate64 (int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64 (int fd, int mode, off_t offset, off_t size);

ssize_t
__wrap_pwrite64 (int fd, const void *data, size_t size, off_t offset)
{
  if (space >= 0) {
    if (space == 0 && size > 0) {
      errno = ENOSPC;
      return -1;
    }
    size = MIN (size, (size_t)space);
    space -= (gint64)size;
  }
  log_event (EVENT_WRITE, (guint64)offset, data, size);
  return __real_pwrite64 (fd, data, size, offset);
}

/* In two pieces: nobody promises that it is one. */
ssize_t
__wrap_pwritev64 (int fd, const struct iovec *iov, int n, off_t offset)
{
  ssize_t done = 0;

  for (int i = 0; i < n; i++) {
    ssize_t step = iov[i].iov_len == 0
                       ? 0
                       : __wrap_pwrite64 (fd, iov[i].iov_base, iov[i].iov_len, offset + done);
    if (step < 0)
      return done > 0 ? done : -1;
    done += step;
    if ((size_t)step < iov[i].iov_len)
      break;
  }
  return done;
}

int
__wrap_fdatasync (int fd)
{
  if (medium_broken) {
    errno = EIO;
    return -1;
  }
  log_event (EVENT_FLUSH, 0, NULL, 0);
  return events != NULL ? 0 : __real_fdatasync (fd);
}

int
__wrap_fallocate64 (int fd, int mode, off_t offset, off_t size)
{
  if (no_holes) {
    errno = EOPNOTSUPP;
    return -1;
  }
  if (mode != 0)
    log_event (EVENT_PUNCH, (guint64)offset, NULL, (guint64)size);
  return __real_fallocate64 (fd, mode, offset, size);
}

/* --- what was written ------------------------------------------------------------------------- */

/* A sector's content: of a disk, at a place, by the write of this number.  0: the archive's; 1:
 * zeros. */
typedef struct {
  guint number;
} Version;

typedef struct {
  guint8 id;
  guint64 size;
  guint8 *below;
  GArray **versions; /* of each sector: Version, ascending */
} Disk;

typedef struct {
  VmaArchive *archive;
  VmaOverlay *overlay;
  char *folder, *file;
  GArray *disks;
  guint writes; /* numbers given out */
} Fixture;

static void
content (const Disk *disk, guint64 sector, guint number, guint8 out[SECTOR])
{
  if (number == 0)
    memcpy (out, disk->below + sector * SECTOR, SECTOR);
  else if (number % 2 == 1) /* odd numbers are zeros */
    memset (out, 0, SECTOR);
  else
    for (guint i = 0; i < SECTOR; i += 4) {
      guint32 value = number * 2654435761u ^ (guint32)sector * 40503u ^ i;
      memcpy (out + i, &value, 4);
    }
}

static Fixture *
fixture_new (guint32 seed)
{
  const SynthLayout layout
      = { .seed = seed, .n_devices = 2, .max_clusters = 7, .slots = 59, .density = 70 };
  g_autoptr (SynthArchive) synth = synth_archive_new (&layout);
  Fixture *f = g_new0 (Fixture, 1);
  g_autoptr (GError) error = NULL;

  f->archive = util_open (util_file (synth->bytes->data, synth->bytes->len), FALSE, &error);
  g_assert_no_error (error);
  f->folder = g_dir_make_tmp ("vmafs-unit.XXXXXX", &error);
  f->file = g_build_filename (f->folder, "overlay", NULL);
  f->disks = g_array_new (FALSE, FALSE, sizeof (Disk));
  for (guint i = 0; i < synth->disks->len; i++) {
    const SynthDisk *from = &g_array_index (synth->disks, SynthDisk, i);
    Disk disk = { .id = (guint8)from->id, .size = from->size / SECTOR * SECTOR };
    disk.below = g_malloc (disk.size + 1);
    disk.versions = g_new0 (GArray *, disk.size / SECTOR + 1);
    if (disk.size > 0)
      synth_truth (synth, from, 0, disk.size, disk.below);
    for (guint64 s = 0; s < disk.size / SECTOR; s++) {
      Version first = { 0 };
      disk.versions[s] = g_array_new (FALSE, FALSE, sizeof (Version));
      g_array_append_val (disk.versions[s], first);
    }
    g_array_append_val (f->disks, disk);
  }
  f->overlay = vma_overlay_open (f->file, f->archive, &error);
  g_assert_no_error (error);
  vma_overlay_keep (f->overlay);
  return f;
}

static void
fixture_free (Fixture *f)
{
  g_clear_pointer (&f->overlay, vma_overlay_free);
  for (guint i = 0; i < f->disks->len; i++) {
    Disk *disk = &g_array_index (f->disks, Disk, i);
    for (guint64 s = 0; s < disk->size / SECTOR; s++)
      g_array_unref (disk->versions[s]);
    g_free (disk->versions);
    g_free (disk->below);
  }
  g_array_unref (f->disks);
  vma_archive_free (f->archive);
  g_unlink (f->file);
  g_rmdir (f->folder);
  g_free (f->folder);
  g_free (f->file);
  g_free (f);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Fixture, fixture_free)

/* Writes sectors [first, last), or zeros them.  What vma_overlay_pwrite() returned. */
static gssize
write_sectors (Fixture *f, Disk *disk, guint64 first, guint64 last, gboolean zero, GError **error)
{
  VmaOverlayDisk *overlaid = vma_overlay_disk (f->overlay, disk->id);
  gsize size = (gsize)(last - first) * SECTOR;
  g_autofree guint8 *data = g_malloc (size);
  Version version = { (f->writes += 2) | zero };

  log_event (EVENT_BEGIN, version.number, NULL, 0);
  for (guint64 s = first; s < last; s++)
    content (disk, s, version.number, data + (s - first) * SECTOR);
  gssize n
      = zero ? vma_overlay_zero (overlaid, first * SECTOR, size, NULL, error) ? (gssize)size : -1
             : vma_overlay_pwrite (overlaid, data, size, first * SECTOR, NULL, error);
  for (guint64 s = first; n > 0 && s < first + (guint64)n / SECTOR; s++)
    g_array_append_val (disk->versions[s], version);
  return n;
}

static void
random_write (Fixture *f, GRand *rand)
{
  static const gint32 most[] = { 2, 9, 40, 300 };
  Disk *disk
      = &g_array_index (f->disks, Disk, (guint)g_rand_int_range (rand, 0, (gint32)f->disks->len));
  guint64 sectors = disk->size / SECTOR;
  g_autoptr (GError) error = NULL;

  if (sectors == 0)
    return;
  guint64 first = (guint64)g_rand_int_range (rand, 0, (gint32)sectors);
  guint64 last = first + (guint64)g_rand_int_range (rand, 1, most[g_rand_int_range (rand, 0, 4)]);
  last = MIN (last, sectors);
  write_sectors (f, disk, first, last, g_rand_int_range (rand, 0, 5) == 0, &error);
  g_assert_no_error (error);
}

/* --- power failure ---------------------------------------------------------------------------- */

/* Does what is in an event to an image of the file, but for sectors that did not make it. */
static void
apply (const Event *event, guint8 *image, GRand *rand, double kept)
{
  /* Sectors of the medium: a write may begin and end within one, and such go as a whole. */
  for (guint64 at = event->offset, end; at < event->offset + event->size; at = end) {
    end = MIN (event->offset + event->size, (at / SECTOR + 1) * SECTOR);
    if (rand != NULL && g_rand_double (rand) >= kept)
      continue;
    if (event->kind == EVENT_WRITE)
      memcpy (image + at, event->data + (at - event->offset), end - at);
    else
      memset (image + at, 0, end - at);
  }
}

static void
write_image (int fd, const guint8 *image, gsize size)
{
  static const guint8 zeros[4096];

  g_assert_cmpint (ftruncate (fd, 0), ==, 0);
  g_assert_cmpint (ftruncate (fd, (off_t)size), ==, 0);
  for (gsize at = 0; at < size; at += 4096)
    if (memcmp (image + at, zeros, 4096) != 0)
      g_assert_cmpint (__real_pwrite64 (fd, image + at, 4096, (off_t)at), ==, 4096);
}

/*
 * Each sector has the content that it had at the last sync, or one of those that were on their way:
 * written by a number in (synced, begun].
 */
static void
check_disk (VmaOverlay *overlay, const Disk *disk, guint synced, guint begun)
{
  g_autofree guint8 *got = g_malloc (disk->size + 1);
  guint8 wanted[SECTOR];

  g_assert_cmpint (
      vma_overlay_pread (vma_overlay_disk (overlay, disk->id), got, disk->size, 0, NULL, NULL), ==,
      (gssize)disk->size);
  for (guint64 s = 0; s < disk->size / SECTOR; s++) {
    gboolean fits = FALSE;
    for (guint i = disk->versions[s]->len; i-- > 0 && !fits;) {
      guint number = g_array_index (disk->versions[s], Version, i).number;
      if (number > begun)
        continue;
      content (disk, s, number, wanted);
      fits = memcmp (wanted, got + s * SECTOR, SECTOR) == 0;
      if ((number | 1) <= (synced | 1))
        break; /* nothing older may be there any more */
    }
    if (!fits)
      g_error ("sector %" G_GUINT64_FORMAT " is wrong (synced: write %u, begun: %u)", s, synced,
               begun);
  }
}

static void
check_power_failure (Fixture *f, const guint8 *start, gsize size, guint cut, int fd, GRand *rand)
{
  g_autofree guint8 *image = g_memdup2 (start, size);
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  double kept = g_rand_int_range (rand, 0, 5) / 4.0;
  guint flushed = 0, synced = 0, begun = 0;
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < cut; i++) {
    const Event *event = &g_array_index (events, Event, i);
    if (event->kind == EVENT_FLUSH)
      flushed = i;
    else if (event->kind == EVENT_BEGIN)
      begun = (guint)event->offset;
    else if (event->kind == EVENT_SYNCED)
      synced = begun;
  }
  for (guint i = 0; i < cut; i++) {
    const Event *event = &g_array_index (events, Event, i);
    if (event->kind == EVENT_WRITE || event->kind == EVENT_PUNCH)
      apply (event, image, i > flushed ? rand : NULL, kept);
  }
  write_image (fd, image, size);

  GArray *kept_events = g_steal_pointer (&events);
  g_autoptr (VmaOverlay) overlay = vma_overlay_open (path, f->archive, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < f->disks->len; i++)
    check_disk (overlay, &g_array_index (f->disks, Disk, i), synced, begun);
  events = kept_events;
}

static void
run_power_failure (guint32 seed)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  g_autoptr (Fixture) f = fixture_new (seed);
  g_autoptr (GError) error = NULL;
  g_autofree char *start = NULL;
  gsize size;

  g_assert_true (g_file_get_contents (f->file, &start, &size, &error));
  int fd = memfd_create ("overlay", MFD_CLOEXEC);
  events = g_array_new (FALSE, FALSE, sizeof (Event));
  for (guint i = 0; i < 60; i++) {
    if (g_rand_int_range (rand, 0, 6) > 0)
      random_write (f, rand);
    else {
      g_assert_true (vma_overlay_sync (f->overlay, &error));
      log_event (EVENT_SYNCED, 0, NULL, 0);
    }
  }
  for (guint cut = 0; cut <= events->len; cut++)
    for (guint i = 0; i < 3; i++)
      check_power_failure (f, (const guint8 *)start, size, cut, fd, rand);
  free_events ();
  close (fd);
}

static void
test_power_failure (void)
{
  guint n = MAX (1, (guint)(12 * synth_scale ()));

  for (guint32 seed = 1; seed <= n; seed++)
    run_power_failure (seed);
}

/* The program ends without a word: what was synced is there. */
static void
test_killed (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (99);
  g_autoptr (Fixture) f = fixture_new (99);
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < 40; i++)
    random_write (f, rand);
  g_assert_true (vma_overlay_sync (f->overlay, &error));
  guint synced = f->writes;
  for (guint i = 0; i < 40; i++)
    random_write (f, rand);
  vma_overlay_free (f->overlay); /* not closed */
  f->overlay = vma_overlay_open (f->file, f->archive, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < f->disks->len; i++)
    check_disk (f->overlay, &g_array_index (f->disks, Disk, i), synced | 1, f->writes | 1);
}

/* Without a sync, but old enough. */
static void
test_flusher (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (98);
  g_autoptr (Fixture) f = fixture_new (98);
  g_autoptr (GError) error = NULL;
  VmaOverlayUsage usage = { 0 };

  vma_overlay_start_flusher (f->overlay, 1);
  for (guint i = 0; i < 40; i++)
    random_write (f, rand);
  vma_overlay_get_usage (f->overlay, &usage);
  guint64 begun = usage.syncs, before;
  do { /* and it comes to rest when nothing more is written */
    before = usage.syncs;
    g_usleep (2500000);
    vma_overlay_get_usage (f->overlay, &usage);
  } while (usage.syncs == begun || usage.syncs != before);
  vma_overlay_free (f->overlay); /* not closed */
  f->overlay = vma_overlay_open (f->file, f->archive, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < f->disks->len; i++)
    check_disk (f->overlay, &g_array_index (f->disks, Disk, i), f->writes | 1, f->writes | 1);
}

/* --- full, broken ----------------------------------------------------------------------------- */

/*
 * A full scratch file: the writer is told, with a count of what went in; all that was written
 * before stays as it was.
 */
static void
test_no_space (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (5);
  guint refused = 0, shortened = 0;

  for (gint64 limit = 0; limit < 60000; limit += 1531) {
    g_autoptr (Fixture) f = fixture_new (11);
    Disk *disk = &g_array_index (f->disks, Disk, 0);
    gssize n;
    g_assert_cmpuint (disk->size, >, 100 * SECTOR);
    space = limit;
    for (guint i = 0; i < 12; i++) {
      g_autoptr (GError) error = NULL;
      guint64 first = (guint64)g_rand_int_range (rand, 0, 90);
      guint64 last = first + (guint64)g_rand_int_range (rand, 1, 60);
      last = MIN (last, disk->size / SECTOR);
      n = write_sectors (f, disk, first, last, FALSE, &error);
      if (n < 0) {
        g_assert_error (error, VMA_ERROR, VMA_ERROR_NO_SPACE);
        refused++;
      } else if ((guint64)n < (last - first) * SECTOR)
        shortened++;
      /* Sectors of a write that failed may be new where the block was there before. */
      if (n < (gssize)((last - first) * SECTOR))
        break;
    }
    space = -1;
    /* In place nothing needs space in real life; here it does, so that the rest is unknown. */
    guint64 sure = 0;
    g_autofree guint8 *got = g_malloc (disk->size);
    g_assert_cmpint (
        vma_overlay_pread (vma_overlay_disk (f->overlay, disk->id), got, disk->size, 0, NULL, NULL),
        ==, (gssize)disk->size);
    for (guint64 s = 0; s < disk->size / SECTOR; s++) {
      guint8 wanted[SECTOR], failed[SECTOR];
      content (disk, s,
               g_array_index (disk->versions[s], Version, disk->versions[s]->len - 1).number,
               wanted);
      content (disk, s, f->writes, failed);
      /* 1531 is no multiple of 512: the very last sector may be a mixture. */
      if (memcmp (got + s * SECTOR, wanted, SECTOR) == 0)
        sure++;
      else
        g_assert_true (memcmp (got + s * SECTOR, failed, 1) == 0);
    }
    g_assert_cmpuint (sure, >=, disk->size / SECTOR - 60);
    g_assert_true (vma_overlay_sync (f->overlay, NULL));
  }
  g_assert_cmpuint (refused, >, 0);
  g_assert_cmpuint (shortened, >, 0);
}

/* A block that came in part, where there was none, does not count: the archive's is still there. */
static void
test_no_space_first (void)
{
  for (gint64 limit = 0; limit < 3 * 4096; limit += 512) {
    g_autoptr (Fixture) f = fixture_new (11);
    Disk *disk = &g_array_index (f->disks, Disk, 0);
    g_autoptr (GError) error = NULL;
    space = limit;
    gssize n = write_sectors (f, disk, 3, 21, FALSE, &error);
    space = -1;
    gint64 whole = limit / 4096 * 4096 - 3 * SECTOR;
    if (whole <= 0)
      g_assert_error (error, VMA_ERROR, VMA_ERROR_NO_SPACE);
    else
      g_assert_cmpint (n, ==, MIN (whole, 18 * SECTOR));
    check_disk (f->overlay, disk, f->writes, f->writes);
  }
}

static void
test_broken_medium (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (6);
  g_autoptr (Fixture) f = fixture_new (12);
  g_autoptr (GError) error = NULL;
  VmaOverlayUsage usage;

  for (guint i = 0; i < 10; i++)
    random_write (f, rand);
  g_assert_true (vma_overlay_sync (f->overlay, &error));
  guint synced = f->writes;
  for (guint i = 0; i < 10; i++)
    random_write (f, rand);
  medium_broken = TRUE;
  g_assert_false (vma_overlay_sync (f->overlay, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  g_clear_error (&error);
  medium_broken = FALSE;
  /* The system forgets what it could not write: a second try that succeeds would be a lie. */
  g_assert_false (vma_overlay_sync (f->overlay, NULL));
  g_assert_false (vma_overlay_close (f->overlay, &error));
  g_assert_error (error, VMA_ERROR, VMA_ERROR_IO);
  vma_overlay_get_usage (f->overlay, &usage);
  g_assert_true (usage.failed);
  g_clear_error (&error);
  vma_overlay_free (f->overlay);
  f->overlay = vma_overlay_open (f->file, f->archive, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < f->disks->len; i++)
    check_disk (f->overlay, &g_array_index (f->disks, Disk, i), synced | 1, f->writes | 1);
}

static void
test_no_holes (void)
{
  g_autoptr (Fixture) f = fixture_new (13);
  Disk *disk = &g_array_index (f->disks, Disk, 0);
  g_autoptr (GError) error = NULL;

  no_holes = TRUE;
  g_assert_cmpint (write_sectors (f, disk, 3, 40, TRUE, &error), ==, -1);
  no_holes = FALSE;
  g_assert_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/overlay/power-failure", test_power_failure);
  g_test_add_func ("/overlay/killed", test_killed);
  g_test_add_func ("/overlay/flusher", test_flusher);
  g_test_add_func ("/overlay/no-space", test_no_space);
  g_test_add_func ("/overlay/no-space-first", test_no_space_first);
  g_test_add_func ("/overlay/broken-medium", test_broken_medium);
  g_test_add_func ("/overlay/no-holes", test_no_holes);
  return g_test_run ();
}
