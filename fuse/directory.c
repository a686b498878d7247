/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/directory-impl.h"

#include <errno.h>

/* Threads that open and close archives. */
#define WORKERS 4

/* A request that waits for an entry to be open. */
typedef struct {
  VmaRequest request;
  char *name;
  VmaDirectory *directory;
  VmaMember *entry;             /* where it is queued */
  gboolean queued, interrupted; /* under the directory's lock */
} Waiting;

const char *
vma_directory_path (VmaDirectory *directory)
{
  return directory->path;
}

const VmaMountOptions *
vma_directory_options (VmaDirectory *directory)
{
  return directory->options;
}

void
vma_directory_stat (VmaDirectory *directory, struct stat *st)
{
  if (stat (directory->path, st) == 0)
    return;
  VMA_LOCK (&directory->lock);
  *st = directory->seen;
}

gboolean
vma_directory_is_top (fuse_ino_t ino)
{
  return ino >> VMA_NODE_BITS == 0;
}

/* The entry that an inode belongs to, or NULL.  The caller holds the lock. */
static VmaMember *
entry_of (VmaDirectory *directory, fuse_ino_t ino)
{
  gint64 serial = (gint64) (ino >> VMA_NODE_BITS);

  return g_hash_table_lookup (directory->by_serial, &serial);
}

/* --- requests --------------------------------------------------------------------------------- */

static void
waiting_free (Waiting *waiting)
{
  g_free (waiting->name);
  g_free (waiting);
}

/* Replies with an error.  It is on no list any more; the lock is not held. */
static void
refuse (Waiting *waiting, int errnum)
{
  /* Returns only when no interrupt is being delivered to it. */
  fuse_req_interrupt_func (waiting->request.req, NULL, NULL);
  fuse_reply_err (waiting->request.req, errnum);
  waiting_free (waiting);
}

void
vma_waiting_refuse (GQueue *queue, int errnum)
{
  Waiting *waiting;

  while ((waiting = g_queue_pop_head (queue)) != NULL)
    refuse (waiting, errnum);
}

void
vma_waiting_take (VmaMember *entry, GQueue *into)
{
  Waiting *waiting;

  while ((waiting = g_queue_pop_head (&entry->waiting)) != NULL) {
    waiting->queued = FALSE;
    g_queue_push_tail (into, waiting);
  }
}

static void
serve (VmaMounted *mounted, const VmaRequest *request)
{
  vma_request_serve (request, mounted);
  vma_mounted_release (mounted);
}

void
vma_waiting_serve (GQueue *queue, VmaMounted *mounted)
{
  Waiting *waiting;

  while ((waiting = g_queue_pop_head (queue)) != NULL) {
    fuse_req_interrupt_func (waiting->request.req, NULL, NULL);
    serve (mounted, &waiting->request);
    waiting_free (waiting);
  }
}

/* Called by libfuse when the reader was interrupted. */
static void
on_interrupt (fuse_req_t req, void *data)
{
  Waiting *waiting = data;
  gboolean ours;

  {
    VMA_LOCK (&waiting->directory->lock);
    ours = waiting->queued;
    waiting->interrupted = TRUE;
    waiting->queued = FALSE;
    if (ours)
      g_queue_remove (&waiting->entry->waiting, waiting);
  }
  if (!ours) /* somebody is about to answer it */
    return;
  fuse_reply_err (req, EINTR);
  waiting_free (waiting);
}

typedef enum { ROUTE_QUEUED, ROUTE_OPEN, ROUTE_STALE, ROUTE_INTERRUPTED } Route;

/*
 * Where a request goes: to *mounted, which has it as a user now; or on the queue (without
 * `waiting`, nowhere).
 */
static Route
find_route (VmaDirectory *directory, fuse_ino_t ino, Waiting *waiting, VmaMounted **mounted)
{
  VMA_LOCK (&directory->lock);
  VmaMember *entry = entry_of (directory, ino);

  if (directory->stopped || (waiting != NULL && waiting->interrupted))
    return ROUTE_INTERRUPTED;
  if (entry == NULL)
    return ROUTE_STALE;
  if (entry->state == VMA_MEMBER_OPEN) {
    *mounted = entry->mounted;
    vma_mounted_hold (*mounted);
    return ROUTE_OPEN;
  }
  if (waiting != NULL) {
    waiting->entry = entry;
    waiting->queued = TRUE;
    g_queue_push_tail (&entry->waiting, waiting);
    if (entry->state == VMA_MEMBER_CLOSED)
      vma_member_begin_opening (entry);
  }
  return ROUTE_QUEUED;
}

/* The entry has to be opened first. */
static void
wait_for_entry (VmaDirectory *directory, const VmaRequest *request)
{
  Waiting *waiting = g_new0 (Waiting, 1);
  VmaMounted *mounted = NULL;

  waiting->directory = directory;
  waiting->request = *request;
  waiting->request.name = waiting->name = g_strdup (request->name);
  /* Before it is on the list: from there another thread may answer and free it. */
  fuse_req_interrupt_func (request->req, on_interrupt, waiting);
  switch (find_route (directory, request->ino, waiting, &mounted)) {
  case ROUTE_QUEUED:
    break;
  case ROUTE_OPEN:
    fuse_req_interrupt_func (request->req, NULL, NULL);
    serve (mounted, &waiting->request);
    waiting_free (waiting);
    break;
  case ROUTE_STALE:
    refuse (waiting, ESTALE);
    break;
  case ROUTE_INTERRUPTED:
    refuse (waiting, EINTR);
    break;
  }
}

void
vma_directory_route (VmaDirectory *directory, const VmaRequest *request)
{
  VmaMounted *mounted = NULL;
  fuse_ino_t node = request->ino & (((fuse_ino_t) 1 << VMA_NODE_BITS) - 1);

  if (vma_directory_is_top (request->ino) || (node == FUSE_ROOT_ID && request->unopened)) {
    if (request->serve_top != NULL)
      request->serve_top (directory, request);
    else
      fuse_reply_err (request->req, EINVAL);
    return;
  }
  switch (find_route (directory, request->ino, NULL, &mounted)) {
  case ROUTE_OPEN:
    serve (mounted, request);
    break;
  case ROUTE_QUEUED:
    wait_for_entry (directory, request);
    break;
  case ROUTE_STALE:
    fuse_reply_err (request->req, ESTALE);
    break;
  case ROUTE_INTERRUPTED:
    fuse_reply_err (request->req, EINTR);
    break;
  }
}

VmaMounted *
vma_directory_of_open_file (VmaDirectory *directory, fuse_ino_t ino)
{
  VMA_LOCK (&directory->lock);
  return entry_of (directory, ino)->mounted; /* which the open file keeps there */
}

/* --- what there is ---------------------------------------------------------------------------- */

gboolean
vma_directory_find (VmaDirectory *directory, const char *name, fuse_ino_t *ino, struct stat *file)
{
  vma_directory_refresh (directory, FALSE, NULL);
  VMA_LOCK (&directory->lock);
  VmaMember *entry = g_hash_table_lookup (directory->by_name, name);

  if (entry == NULL)
    return FALSE;
  *ino = vma_member_ino (entry);
  *file = entry->st;
  return TRUE;
}

gboolean
vma_directory_find_ino (VmaDirectory *directory, fuse_ino_t ino, struct stat *file)
{
  VMA_LOCK (&directory->lock);
  VmaMember *entry = entry_of (directory, ino);

  if (entry != NULL)
    *file = entry->st;
  return entry != NULL;
}

gboolean
vma_directory_list (VmaDirectory *directory, VmaListing *listing)
{
  if (!vma_directory_refresh (directory, FALSE, NULL))
    return FALSE;
  VMA_LOCK (&directory->lock);
  listing->names = g_ptr_array_new_full (directory->listed->len, g_free);
  listing->inos = g_array_new (FALSE, FALSE, sizeof (fuse_ino_t));
  for (guint i = 0; i < directory->listed->len; i++) {
    const VmaMember *entry = g_ptr_array_index (directory->listed, i);
    fuse_ino_t ino = vma_member_ino (entry);
    g_ptr_array_add (listing->names, g_strdup (entry->name));
    g_array_append_val (listing->inos, ino);
  }
  return TRUE;
}

void
vma_listing_clear (VmaListing *listing)
{
  g_clear_pointer (&listing->names, g_ptr_array_unref);
  g_clear_pointer (&listing->inos, g_array_unref);
}

/* --- its life --------------------------------------------------------------------------------- */

VmaDirectory *
vma_directory_new (const char *path, const VmaMountOptions *options, GError **error)
{
  g_autoptr (VmaDirectory) directory = g_new0 (VmaDirectory, 1);

  directory->path = g_canonicalize_filename (path, NULL);
  directory->options = options;
  directory->workers = vma_workers_new (WORKERS);
  directory->cancellable = g_cancellable_new ();
  pthread_mutex_init (&directory->scanning, NULL);
  pthread_mutex_init (&directory->lock, NULL);
  pthread_cond_init (&directory->changed, NULL);
  directory->by_serial
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, (GDestroyNotify) vma_member_free);
  directory->by_name = g_hash_table_new (g_str_hash, g_str_equal);
  directory->by_file = g_hash_table_new (g_str_hash, g_str_equal);
  directory->listed = g_ptr_array_new ();
  directory->open = g_ptr_array_new ();
  if (!vma_directory_refresh (directory, TRUE, error)
      || !vma_directory_start_housekeeper (directory, error))
    return NULL;
  return g_steal_pointer (&directory);
}

/* Takes all requests that wait for any entry; no others will. */
static void
stop_waiting (VmaDirectory *directory, GQueue *into)
{
  GHashTableIter iter;
  gpointer value;

  VMA_LOCK (&directory->lock);
  directory->stopped = TRUE;
  pthread_cond_broadcast (&directory->changed);
  g_hash_table_iter_init (&iter, directory->by_serial);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    vma_waiting_take (value, into);
}

void
vma_directory_stop (VmaDirectory *directory)
{
  GQueue waiting = G_QUEUE_INIT;

  g_cancellable_cancel (directory->cancellable);
  stop_waiting (directory, &waiting);
  vma_waiting_refuse (&waiting, EINTR);
  vma_workers_stop (directory->workers);
  if (directory->has_housekeeper)
    pthread_join (directory->housekeeper, NULL);
  directory->has_housekeeper = FALSE;
  /* Nobody but us is left who would change this. */
  for (guint i = 0; i < directory->open->len; i++) {
    VmaMember *entry = g_ptr_array_index (directory->open, i);
    vma_mounted_stop (entry->mounted);
  }
}

void
vma_directory_free (VmaDirectory *directory)
{
  vma_directory_stop (directory);
  g_hash_table_unref (directory->by_name);
  g_hash_table_unref (directory->by_file);
  g_hash_table_unref (directory->by_serial);
  g_ptr_array_unref (directory->listed);
  g_ptr_array_unref (directory->open);
  vma_workers_free (directory->workers);
  g_object_unref (directory->cancellable);
  pthread_cond_destroy (&directory->changed);
  pthread_mutex_destroy (&directory->lock);
  pthread_mutex_destroy (&directory->scanning);
  g_free (directory->path);
  g_free (directory);
}
