/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening the archives of a directory when they are asked for, and closing them when they are not
 * used.
 */
#include "fuse/archive-name.h"
#include "base/thread.h"
#include "fuse/directory-impl.h"
#include "fuse/file-id.h"
#include "fuse/log.h"
#include "vma/error.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <time.h>

/* How long an archive waits for another one to be closed, when as many are open as may be. */
#define ROOM_WAIT_MS 1000
#define ROOM_STEP_MS 20
/* The housekeeper's round. */
#define ROUND_MIN_US (G_USEC_PER_SEC / 20)
#define ROUND_MAX_US G_USEC_PER_SEC

fuse_ino_t
vma_member_ino (const VmaMember *entry)
{
  return (fuse_ino_t) entry->serial << VMA_NODE_BITS | FUSE_ROOT_ID;
}

void
vma_member_free (VmaMember *entry)
{
  g_clear_pointer (&entry->mounted, vma_mounted_free);
  g_free (entry->file);
  g_free (entry->name);
  g_free (entry->failure);
  g_free (entry);
}

/* Forgets an entry that is not listed, and that nobody needs.  The caller holds the lock. */
static void
reap (VmaMember *entry)
{
  if (!entry->listed && entry->state == VMA_MEMBER_CLOSED && entry->waiting.length == 0)
    g_hash_table_remove (entry->directory->by_serial, &entry->serial);
}

/* --- closing ---------------------------------------------------------------------------------- */

/* The entry is CLOSED now.  The caller holds the lock, and answers what is put into `stale`. */
static void
become_closed (VmaMember *entry, GQueue *stale)
{
  entry->state = VMA_MEMBER_CLOSED;
  if (!entry->listed)
    vma_waiting_take (entry, stale);
  else if (entry->waiting.length > 0)
    vma_member_begin_opening (entry);
  reap (entry);
}

/* The entry is CLOSING, without users.  The caller does not hold the lock. */
static void
close_entry (VmaMember *entry)
{
  VmaDirectory *directory = entry->directory;
  GQueue stale = G_QUEUE_INIT;
  VmaMounted *mounted = g_steal_pointer (&entry->mounted);
  char *failure = vma_mounted_dup_failure (mounted);

  vma_mounted_free (mounted);
#ifdef __GLIBC__
  malloc_trim (0);
#endif
  {
    VMA_LOCK (&directory->lock);
    g_free (entry->failure);
    entry->failure = failure;
    directory->slots--;
    become_closed (entry, &stale);
  }
  vma_waiting_refuse (&stale, ESTALE);
}

static void
close_job (gpointer data)
{
  close_entry (data);
}

/* An entry that is OPEN and has no users begins to close.  The caller holds the lock. */
static void
begin_closing (VmaMember *entry)
{
  entry->state = VMA_MEMBER_CLOSING;
  g_ptr_array_remove_fast (entry->directory->open, entry);
}

/* The open archive that was not used for longest; NULL where all are in use. */
static VmaMember *
least_recently_used (VmaDirectory *directory)
{
  VmaMember *least = NULL;

  for (guint i = 0; i < directory->open->len; i++) {
    VmaMember *entry = g_ptr_array_index (directory->open, i);
    if (atomic_load (&entry->mounted->users) == 0
        && (least == NULL
            || atomic_load (&entry->mounted->last_used) < atomic_load (&least->mounted->last_used)))
      least = entry;
  }
  return least;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Takes a slot, closing another archive where need be; waits a little where all are in use. */
static gboolean
take_slot (VmaDirectory *directory)
{
  for (guint waited = 0; waited <= ROOM_WAIT_MS; waited += ROOM_STEP_MS) {
    VmaMember *victim;
    {
      VMA_LOCK (&directory->lock);
      if (directory->stopped)
        return FALSE;
      if (directory->slots < directory->options->max_open) {
        directory->slots++;
        return TRUE;
      }
      victim = least_recently_used (directory);
      if (victim != NULL)
        begin_closing (victim);
    }
    if (victim != NULL)
      close_entry (victim);
    else
      g_usleep (ROOM_STEP_MS * 1000);
  }
  vma_log ("%s: %u archives are in use, and another one cannot be opened (mount with a larger"
           " -o max_open)",
           directory->path, directory->options->max_open);
  return FALSE;
}

/* What has to be known of an entry to open it without the lock. */
typedef struct {
  char *path, *notes, *log, *failure;
  struct stat st;
  VmaMountedPlace place;
} Opening;

static void
opening_init (Opening *opening, VmaMember *entry)
{
  VmaDirectory *directory = entry->directory;
  gboolean growing;

  VMA_LOCK (&directory->lock);
  int stem = (int) vma_archive_name_stem (entry->file, &growing);
  opening->path = g_build_filename (directory->path, entry->file, NULL);
  opening->notes = g_strconcat (opening->path, ".notes", NULL);
  opening->log = g_strdup_printf ("%s/%.*s.log", directory->path, stem, entry->file);
  opening->failure = g_strdup (entry->failure);
  opening->st = entry->st;
  opening->place = (VmaMountedPlace){
    .first = vma_member_ino (entry),
    .growing = entry->growing,
    .failure = opening->failure,
    .notes = opening->notes,
    .log = opening->log,
    .file = &opening->st,
    .cancellable = directory->cancellable,
  };
}

static void
opening_clear (Opening *opening)
{
  g_free (opening->path);
  g_free (opening->notes);
  g_free (opening->log);
  g_free (opening->failure);
}

/* Whether the file is not the one any more that was to be opened. */
static gboolean
was_replaced (const Opening *opening)
{
  struct stat st;

  return stat (opening->path, &st) != 0
         || !(opening->place.growing ? vma_file_is_same (&st, &opening->st)
                                     : vma_file_is_unchanged (&st, &opening->st));
}

static VmaMounted *
open_archive (VmaDirectory *directory, const Opening *opening, GError **error)
{
  VmaMounted *mounted
      = vma_mounted_open (opening->path, directory->options, &opening->place, error);

  if (mounted == NULL)
    return NULL;
  vma_archive_report_index_failure (mounted->archive);
  if (directory->options->wait) {
    vma_archive_start_index (mounted->archive);
    /* Where it fails, the archive's ERROR says so. */
    vma_archive_wait_index (mounted->archive, -1, directory->cancellable, NULL);
  }
  return mounted;
}

/* Opens an entry's archive, or what is shown in its place; a slot is taken.  NULL and an errno. */
static VmaMounted *
open_entry (VmaMember *entry, int *errnum)
{
  VmaDirectory *directory = entry->directory;
  g_autoptr (GError) error = NULL;
  Opening opening;

  opening_init (&opening, entry);
  VmaMounted *mounted = open_archive (directory, &opening, &error);
  if (mounted == NULL && g_cancellable_is_cancelled (directory->cancellable))
    *errnum = EINTR;
  else if (mounted == NULL && was_replaced (&opening))
    *errnum = ESTALE;
  else if (mounted == NULL) {
    if (g_strcmp0 (error->message, opening.failure) != 0)
      vma_log_error (error);
    mounted = vma_mounted_broken (opening.path, directory->options, &opening.place, error);
  }
  opening_clear (&opening);
  return mounted;
}

/* An entry could not be opened.  `queue` gets its requests. */
static void
opening_failed (VmaMember *entry, gboolean has_slot, GQueue *queue)
{
  VmaDirectory *directory = entry->directory;

  VMA_LOCK (&directory->lock);
  directory->slots -= has_slot;
  directory->looked = 0; /* most likely another file is there now */
  vma_waiting_take (entry, queue);
  entry->state = VMA_MEMBER_CLOSED;
  reap (entry);
}

static void
opening_done (VmaMember *entry, VmaMounted *mounted, GQueue *queue)
{
  VmaDirectory *directory = entry->directory;

  VMA_LOCK (&directory->lock);
  vma_waiting_take (entry, queue);
  atomic_fetch_add (&mounted->users, queue->length);
  entry->mounted = mounted;
  entry->state = VMA_MEMBER_OPEN;
  g_ptr_array_add (directory->open, entry);
  pthread_cond_signal (&directory->changed);
}

static void
open_job (gpointer data)
{
  VmaMember *entry = data;
  GQueue queue = G_QUEUE_INIT;
  int errnum = ENFILE;
  gboolean has_slot = take_slot (entry->directory);
  VmaMounted *mounted = has_slot ? open_entry (entry, &errnum) : NULL;

  if (mounted == NULL) {
    opening_failed (entry, has_slot, &queue);
    vma_waiting_refuse (&queue, errnum);
  } else {
    opening_done (entry, mounted, &queue);
    vma_waiting_serve (&queue, mounted);
  }
}

void
vma_member_begin_opening (VmaMember *entry)
{
  entry->state = VMA_MEMBER_OPENING;
  vma_workers_push (entry->directory->workers, open_job, entry);
}

void
vma_member_drop (VmaMember *entry)
{
  pthread_cond_signal (&entry->directory->changed); /* it is closed when it has no users */
  reap (entry);
}

/* --- the housekeeper -------------------------------------------------------------------------- */

/* Has archives closed that were not used for long enough.  The caller holds the lock. */
static void
close_idle (VmaDirectory *directory)
{
  gint64 now = g_get_monotonic_time ();
  gint64 idle = (gint64) directory->options->idle * G_USEC_PER_SEC;

  for (guint i = directory->open->len; i > 0; i--) {
    VmaMember *entry = g_ptr_array_index (directory->open, i - 1);
    if (atomic_load (&entry->mounted->users) == 0
        && (!entry->listed || now - atomic_load (&entry->mounted->last_used) >= idle)) {
      begin_closing (entry);
      vma_workers_push (directory->workers, close_job, entry);
    }
  }
}

static void *
housekeeper_thread (void *data)
{
  VmaDirectory *directory = data;
  gint64 idle = (gint64) directory->options->idle * G_USEC_PER_SEC;
  gint64 round = CLAMP (idle / 4, ROUND_MIN_US, ROUND_MAX_US);

  pthread_mutex_lock (&directory->lock);
  while (!directory->stopped) {
    close_idle (directory);
    if (directory->open->len == 0)
      pthread_cond_wait (&directory->changed, &directory->lock);
    else {
      gint64 until = g_get_real_time () + round;
      const struct timespec at
          = { .tv_sec = until / G_USEC_PER_SEC, .tv_nsec = until % G_USEC_PER_SEC * 1000 };
      pthread_cond_timedwait (&directory->changed, &directory->lock, &at);
    }
  }
  pthread_mutex_unlock (&directory->lock);
  return NULL;
}

gboolean
vma_directory_start_housekeeper (VmaDirectory *directory, GError **error)
{
  int failed = vma_thread_start (&directory->housekeeper, housekeeper_thread, directory);
  directory->has_housekeeper = failed == 0;
  if (failed == 0)
    failed = vma_workers_start (directory->workers);
  if (failed != 0)
    vma_set_errno_error (error, failed, "%s: cannot start a thread", directory->path);
  return failed == 0;
}
