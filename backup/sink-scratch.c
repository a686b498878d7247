/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scratch file in front of a slow sink: what a guest waits for is on its way when it is here, and
 * a thread brings it to the sink below.  The background copy goes there by itself, and waits for
 * it.
 *
 * Where the sink below cannot be read all data stay here too (keep), for the view.
 */
#include "backup/sink.h"

#include "backup/slots.h"
#include "base/io.h"
#include "base/thread.h"
#include "index/lock.h"
#include "vma/error.h"
#include "vma/header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STUCK_SECONDS 5

/* What is still to be passed on: one cluster in the file, or some of zeros. */
typedef struct {
  guint disk;
  guint64 cluster, n;
  guint32 slot; /* 0: zeros */
} Item;

typedef struct {
  VmaTargetSink base;
  VmaTargetSink *below;      /* NULL: none */
  VmaScratchOptions options; /* path and sizes are valid in new() only */
  char *path;
  guint64 *sizes;
  int fd;
  gboolean has_thread;
  pthread_t thread;
  _Atomic guint64 written, waiting;

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  VmaSlots *slots;
  GQueue items;      /* Item */
  gboolean draining; /* the thread is at one that it took off the list */
  gboolean ending, aborted;
  GError *failure;
} ScratchSink;

/* --- places ----------------------------------------------------------------------------------- */

static guint64
cluster_bytes (ScratchSink *sink, guint disk, guint64 cluster)
{
  return MIN (VMA_CLUSTER_SIZE, sink->sizes[disk] - cluster * VMA_CLUSTER_SIZE);
}

static off_t
slot_offset (guint32 slot)
{
  return (off_t) (slot - 1) * VMA_CLUSTER_SIZE;
}

/* The caller holds the lock. */
static gboolean
check_alive (ScratchSink *sink, GError **error)
{
  if (sink->failure != NULL) {
    if (error != NULL)
      *error = g_error_copy (sink->failure);
    return FALSE;
  }
  if (sink->aborted) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "the scratch file is given up");
    return FALSE;
  }
  return TRUE;
}

/* Whether a place will be free some day.  The caller holds the lock. */
static gboolean
can_wait (ScratchSink *sink)
{
  return !sink->options.fail_full && !sink->options.keep
         && (sink->items.length > 0 || sink->draining);
}

/* A free place, waited for if that is wanted; 0 and an error.  The caller holds the lock. */
static guint32
take_slot (ScratchSink *sink, GError **error)
{
  guint32 slot = 0;

  while (check_alive (sink, error) && (slot = vma_slots_take (sink->slots)) == 0) {
    if (!can_wait (sink)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: the scratch file is full", sink->path);
      return 0;
    }
    pthread_cond_wait (&sink->changed, &sink->lock);
  }
  return slot;
}

/* FALSE and errno, with nothing but the place written to. */
static gboolean
write_slot (ScratchSink *sink, guint32 slot, const guint8 *data, gsize size)
{
  return vma_io_pwrite_all (sink->fd, data, size, (guint64) slot_offset (slot));
}

/* Puts one cluster into the file; `pass_on`: the thread brings it below. */
static gboolean
keep_cluster (ScratchSink *sink, guint disk, guint64 cluster, const guint8 *data, gboolean pass_on,
              GError **error)
{
  gsize size = (gsize) cluster_bytes (sink, disk, cluster);

  for (;;) {
    guint32 slot;
    {
      VMA_LOCK (&sink->lock);
      slot = take_slot (sink, error);
    }
    if (slot == 0)
      return FALSE;
    gboolean ok = write_slot (sink, slot, data, size);
    int errnum = errno;

    VMA_LOCK (&sink->lock);
    if (ok) {
      vma_slots_set (sink->slots, disk, cluster, slot);
      atomic_fetch_add (&sink->written, size);
      if (pass_on) {
        Item *item = g_new (Item, 1);
        *item = (Item){ disk, cluster, 1, slot };
        g_queue_push_tail (&sink->items, item);
        atomic_fetch_add (&sink->waiting, size);
        pthread_cond_broadcast (&sink->changed);
      }
      return TRUE;
    }
    if (errnum != ENOSPC && errnum != EDQUOT) {
      vma_set_errno_error (error, errnum, "%s: cannot write the scratch file", sink->path);
      return FALSE;
    }
    /* Its file system is smaller than its limit.  This place has no room behind it: it is lost. */
    vma_slots_limit (sink->slots);
  }
}

/* --- the interface ---------------------------------------------------------------------------- */

static gboolean
scratch_write (VmaTargetSink *base, const VmaTargetClusters *clusters, GError **error)
{
  ScratchSink *sink = (ScratchSink *) base;
  gboolean directly = !clusters->hurry && sink->below != NULL;

  if (clusters->data != NULL && (!directly || sink->options.keep))
    for (guint64 i = 0; i < clusters->n; i++)
      if (!keep_cluster (sink, clusters->disk, clusters->cluster + i,
                         clusters->data + i * VMA_CLUSTER_SIZE, sink->below != NULL && !directly,
                         error))
        return FALSE;
  if (directly)
    return sink->below->ops->write (sink->below, clusters, error);
  if (clusters->data != NULL || sink->below == NULL)
    return TRUE;

  Item *item = g_new (Item, 1);
  *item = (Item){ clusters->disk, clusters->cluster, clusters->n, 0 };
  VMA_LOCK (&sink->lock);
  g_queue_push_tail (&sink->items, item);
  pthread_cond_broadcast (&sink->changed);
  return TRUE;
}

static gboolean
read_slot (ScratchSink *sink, guint32 slot, guint8 *buffer, gsize size, GError **error)
{
  int errnum;

  if (vma_io_pread (sink->fd, buffer, size, (guint64) slot_offset (slot), &errnum) == size)
    return TRUE;
  vma_set_errno_error (error, errnum != 0 ? errnum : EIO, "%s: cannot read the scratch file",
                       sink->path);
  return FALSE;
}

static guint32
slot_of (ScratchSink *sink, guint disk, guint64 cluster)
{
  VMA_LOCK (&sink->lock);
  return vma_slots_get (sink->slots, disk, cluster);
}

static gboolean
scratch_read (VmaTargetSink *base, guint disk, guint64 cluster, void *buffer, GError **error)
{
  ScratchSink *sink = (ScratchSink *) base;
  guint32 slot = slot_of (sink, disk, cluster);

  if (slot != 0) {
    gsize size = (gsize) cluster_bytes (sink, disk, cluster);
    gboolean ok = read_slot (sink, slot, buffer, size, error);
    /* It may have gone below meanwhile, and the place have become another cluster's. */
    if (!ok || slot_of (sink, disk, cluster) == slot)
      return ok;
  }
  if (sink->below != NULL && sink->below->ops->read != NULL)
    return sink->below->ops->read (sink->below, disk, cluster, buffer, error);
  g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING,
               "cluster %" G_GUINT64_FORMAT " of disk %u is not in the scratch file", cluster,
               disk);
  return FALSE;
}

static guint64
scratch_written (VmaTargetSink *base)
{
  ScratchSink *sink = (ScratchSink *) base;

  return atomic_load (&sink->written)
         + (sink->below != NULL ? sink->below->ops->written (sink->below) : 0);
}

static guint64
scratch_waiting (VmaTargetSink *base)
{
  return atomic_load (&((ScratchSink *) base)->waiting);
}

static gboolean
scratch_finish (VmaTargetSink *base, GCancellable *cancellable, GError **error)
{
  ScratchSink *sink = (ScratchSink *) base;

  {
    VMA_LOCK (&sink->lock);
    while ((sink->items.length > 0 || sink->draining) && sink->failure == NULL && !sink->aborted)
      pthread_cond_wait (&sink->changed, &sink->lock);
    if (!check_alive (sink, error))
      return FALSE;
  }
  return sink->below == NULL || sink->below->ops->finish (sink->below, cancellable, error);
}

static void
scratch_abort (VmaTargetSink *base)
{
  ScratchSink *sink = (ScratchSink *) base;

  {
    VMA_LOCK (&sink->lock);
    sink->aborted = TRUE;
    pthread_cond_broadcast (&sink->changed);
  }
  if (sink->below != NULL)
    sink->below->ops->abort (sink->below);
}

/* --- passing on ------------------------------------------------------------------------------- */

static gboolean
pass_on (ScratchSink *sink, const Item *item, guint8 *buffer, GError **error)
{
  VmaTargetClusters clusters
      = { .disk = item->disk, .cluster = item->cluster, .n = item->n, .hurry = TRUE };

  if (item->slot != 0) {
    clusters.size = (gsize) cluster_bytes (sink, item->disk, item->cluster);
    clusters.data = buffer;
    if (!read_slot (sink, item->slot, buffer, clusters.size, error))
      return FALSE;
  }
  return sink->below->ops->write (sink->below, &clusters, error);
}

/* The caller holds the lock. */
static void
passed_on (ScratchSink *sink, const Item *item)
{
  if (item->slot == 0)
    return;
  atomic_fetch_sub (&sink->waiting, cluster_bytes (sink, item->disk, item->cluster));
  if (!sink->options.keep) {
    vma_slots_set (sink->slots, item->disk, item->cluster, 0);
    vma_slots_give_back (sink->slots, item->slot);
  }
}

static void *
drain (void *data)
{
  ScratchSink *sink = data;
  g_autofree guint8 *buffer = g_malloc (VMA_CLUSTER_SIZE);

  pthread_mutex_lock (&sink->lock);
  while (!sink->ending && !sink->aborted && sink->failure == NULL) {
    g_autofree Item *item = g_queue_pop_head (&sink->items);
    GError *error = NULL;

    if (item == NULL) {
      pthread_cond_wait (&sink->changed, &sink->lock);
      continue;
    }
    sink->draining = TRUE;
    pthread_mutex_unlock (&sink->lock);
    gboolean ok = pass_on (sink, item, buffer, &error);
    pthread_mutex_lock (&sink->lock);
    sink->draining = FALSE;
    if (ok)
      passed_on (sink, item);
    else {
      sink->failure = error;
      if (!sink->aborted) {
        g_autoptr (GError) copy = g_error_copy (error);
        pthread_mutex_unlock (&sink->lock);
        sink->options.failed (sink->options.data, copy);
        pthread_mutex_lock (&sink->lock);
      }
    }
    pthread_cond_broadcast (&sink->changed);
  }
  pthread_mutex_unlock (&sink->lock);
  return NULL;
}

/* --- making it -------------------------------------------------------------------------------- */

static gboolean
scratch_free (VmaTargetSink *base)
{
  ScratchSink *sink = (ScratchSink *) base;
  struct timespec until;

  {
    VMA_LOCK (&sink->lock);
    sink->ending = TRUE;
    pthread_cond_broadcast (&sink->changed);
  }
  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_sec += STUCK_SECONDS;
  if (sink->has_thread && pthread_timedjoin_np (sink->thread, NULL, &until) != 0)
    return FALSE;
  sink->has_thread = FALSE;
  if (sink->below != NULL && !sink->below->ops->free (sink->below))
    return FALSE;
  if (sink->fd >= 0)
    close (sink->fd);
  g_queue_clear_full (&sink->items, g_free);
  g_clear_pointer (&sink->slots, vma_slots_free);
  g_clear_error (&sink->failure);
  pthread_cond_destroy (&sink->changed);
  pthread_mutex_destroy (&sink->lock);
  g_free (sink->sizes);
  g_free (sink->path);
  g_free (sink);
  return TRUE;
}

static const VmaTargetSinkOps scratch_ops = {
  .write = scratch_write,
  .read = scratch_read,
  .written = scratch_written,
  .waiting = scratch_waiting,
  .finish = scratch_finish,
  .abort = scratch_abort,
  .free = scratch_free,
};

static const VmaTargetSinkOps blind_ops = {
  .write = scratch_write,
  .written = scratch_written,
  .waiting = scratch_waiting,
  .finish = scratch_finish,
  .abort = scratch_abort,
  .free = scratch_free,
};

/* A file without a name: nothing of it is left, however we end. */
static gboolean
open_file (ScratchSink *sink, GError **error)
{
  g_autofree char *folder = g_file_test (sink->path, G_FILE_TEST_IS_DIR)
                                ? g_strdup (sink->path)
                                : g_path_get_dirname (sink->path);

  sink->fd = open (folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (sink->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    g_autofree char *name = g_build_filename (folder, ".vmabackup-scratch.XXXXXX", NULL);
    sink->fd = g_mkstemp_full (name, O_RDWR | O_CLOEXEC, 0600);
    if (sink->fd >= 0)
      unlink (name);
  }
  if (sink->fd < 0)
    vma_set_errno_error (error, errno, "%s: cannot make the scratch file", sink->path);
  return sink->fd >= 0;
}

static gboolean
start_thread (ScratchSink *sink, GError **error)
{
  sink->has_thread = vma_thread_start (&sink->thread, drain, sink) == 0;
  if (!sink->has_thread)
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "cannot start a thread");
  return sink->has_thread;
}

VmaTargetSink *
vma_scratch_sink_new (const VmaScratchOptions *options, VmaTargetSink *below, GError **error)
{
  ScratchSink *sink = g_new0 (ScratchSink, 1);
  g_autofree guint64 *clusters = g_new0 (guint64, options->n_disks + 1);
  guint64 max = options->size / VMA_CLUSTER_SIZE;
  gboolean readable = options->keep || below == NULL || below->ops->read != NULL;

  sink->base.ops = readable ? &scratch_ops : &blind_ops;
  sink->below = below;
  sink->options = *options;
  sink->path = g_strdup (options->path);
  sink->sizes = g_memdup2 (options->sizes, options->n_disks * sizeof *options->sizes);
  sink->fd = -1;
  pthread_mutex_init (&sink->lock, NULL);
  pthread_cond_init (&sink->changed, NULL);
  g_queue_init (&sink->items);
  for (guint i = 0; i < options->n_disks; i++)
    clusters[i] = vma_clusters_for_size (options->sizes[i]);
  if (options->size == 0 || max > G_MAXUINT32)
    max = G_MAXUINT32;
  sink->slots = vma_slots_new (clusters, options->n_disks, (guint32) MAX (max, 1));
  if (open_file (sink, error) && (below == NULL || start_thread (sink, error)))
    return &sink->base;
  sink->below = NULL; /* still the caller's */
  scratch_free (&sink->base);
  return NULL;
}
