/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/point.h"

#include "index/lock.h"
#include "vma/error.h"
#include "vma/header.h"
#include "writer/bits.h"
#include "writer/blocks.h"

#include <stdatomic.h>
#include <string.h>

/* QEMU brings whole clusters, which only the kernel may split: so many at a time are never honest.
 */
#define MAX_INCOMPLETE 4096u

/* A cluster being put together. */
typedef struct {
  guint64 cluster; /* the key */
  guint n_have;    /* bytes, and */
  guint8 have[VMA_CLUSTER_SIZE / 8 + 1]; /* which */
  guint8 data[VMA_CLUSTER_SIZE];
} Incomplete;

typedef struct {
  guint64 size, clusters;
  char *name;

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  guint waiters;
  gboolean sealed;
  guint8 *taken, *collected, *zero;
  guint64 n_taken, n_collected;
  guint64 bytes, zero_bytes;
  GHashTable *incomplete; /* Incomplete, by their clusters */
} Disk;

struct VmaPoint {
  VmaTargetSink *sink;
  void (*on_failure) (gpointer data, const GError *error);
  gpointer data;
  guint n_disks;
  Disk *disks;

  atomic_bool has_failed;
  pthread_mutex_t failure_lock; /* of `failure` */
  GError *failure;
};

VmaPoint *
vma_point_new (const VmaPointOptions *options, GError **error)
{
  g_autoptr (VmaPoint) point = g_new0 (VmaPoint, 1);

  point->sink = options->sink;
  point->on_failure = options->failed;
  point->data = options->data;
  point->n_disks = options->n_disks;
  point->disks = g_new0 (Disk, MAX (options->n_disks, 1));
  pthread_mutex_init (&point->failure_lock, NULL);
  for (guint i = 0; i < point->n_disks; i++) {
    Disk *disk = &point->disks[i];

    pthread_mutex_init (&disk->lock, NULL);
    pthread_cond_init (&disk->changed, NULL);
    disk->name = g_strdup (options->names[i]);
    disk->size = options->sizes[i];
    disk->clusters = vma_clusters_for_size (disk->size);
    disk->taken = g_try_malloc0 (vma_bits_bytes (disk->clusters));
    disk->collected = g_try_malloc0 (vma_bits_bytes (disk->clusters));
    disk->zero = g_try_malloc0 (vma_bits_bytes (disk->clusters));
    disk->incomplete = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
    if (disk->taken == NULL || disk->collected == NULL || disk->zero == NULL) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                   "not enough memory to follow disk '%s' of %" G_GUINT64_FORMAT " bytes",
                   disk->name, disk->size);
      return NULL;
    }
  }
  return g_steal_pointer (&point);
}

void
vma_point_free (VmaPoint *point)
{
  for (guint i = 0; i < point->n_disks; i++) {
    Disk *disk = &point->disks[i];

    g_clear_pointer (&disk->incomplete, g_hash_table_unref);
    g_free (disk->taken);
    g_free (disk->collected);
    g_free (disk->zero);
    g_free (disk->name);
    pthread_cond_destroy (&disk->changed);
    pthread_mutex_destroy (&disk->lock);
  }
  g_free (point->disks);
  g_clear_error (&point->failure);
  pthread_mutex_destroy (&point->failure_lock);
  g_free (point);
}

/* --- failing ---------------------------------------------------------------------------------- */

gboolean
vma_point_fail (VmaPoint *point, const GError *error)
{
  {
    VMA_LOCK (&point->failure_lock);
    if (point->failure != NULL)
      return FALSE;
    point->failure = g_error_copy (error);
    atomic_store (&point->has_failed, TRUE);
  }
  for (guint i = 0; i < point->n_disks; i++) {
    VMA_LOCK (&point->disks[i].lock);
    pthread_cond_broadcast (&point->disks[i].changed);
  }
  if (point->on_failure != NULL)
    point->on_failure (point->data, error);
  return TRUE;
}

gboolean
vma_point_has_failed (VmaPoint *point, GError **error)
{
  if (!atomic_load (&point->has_failed))
    return FALSE;
  VMA_LOCK (&point->failure_lock);
  if (error != NULL)
    *error = g_error_copy (point->failure);
  return TRUE;
}

static void
fail_request (VmaPoint *point, guint disk, guint64 offset, guint64 size, const char *reason)
{
  g_autoptr (GError) error = g_error_new (VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                                          "disk '%s': QEMU wrote %" G_GUINT64_FORMAT
                                          " bytes at %" G_GUINT64_FORMAT ": %s",
                                          point->disks[disk].name, size, offset, reason);

  vma_point_fail (point, error);
}

/* --- to the sink ------------------------------------------------------------------------------ */

/* Bytes of clusters [cluster, cluster + n). */
static guint64
bytes_in (const Disk *disk, guint64 cluster, guint64 n)
{
  return MIN (n * VMA_CLUSTER_SIZE, disk->size - cluster * VMA_CLUSTER_SIZE);
}

static gboolean
is_zero (const guint8 *data, gsize size)
{
  /* Where data are not zero, the first block mostly shows it. */
  for (gsize at = 0; at < size; at += VMA_BLOCK_SIZE)
    if (vma_blocks_mask (data + at, MIN (VMA_BLOCK_SIZE, size - at)) != 0)
      return FALSE;
  return TRUE;
}

static void
set_collected (Disk *disk, guint64 cluster, guint64 n, gboolean zero)
{
  VMA_LOCK (&disk->lock);
  vma_bits_set (disk->collected, cluster, n);
  disk->n_collected += n;
  disk->bytes += bytes_in (disk, cluster, n);
  if (zero) {
    vma_bits_set (disk->zero, cluster, n);
    disk->zero_bytes += bytes_in (disk, cluster, n);
  }
  if (disk->waiters > 0)
    pthread_cond_broadcast (&disk->changed);
}

/* Brings clusters that are taken to the sink, zero ones apart from others. */
static gboolean
store (VmaPoint *point, guint id, gboolean hurry, guint64 cluster, guint64 n, const guint8 *data,
       GError **error)
{
  Disk *disk = &point->disks[id];

  for (guint64 done = 0; done < n;) {
    const guint8 *from = data != NULL ? data + done * VMA_CLUSTER_SIZE : NULL;
    guint64 run = data != NULL ? 1 : n;
    gboolean zero = from == NULL || is_zero (from, (gsize) bytes_in (disk, cluster + done, 1));
    while (done + run < n
           && is_zero (data + (done + run) * VMA_CLUSTER_SIZE,
                       (gsize) bytes_in (disk, cluster + done + run, 1))
                  == zero)
      run++;
    VmaTargetClusters clusters = {
      .disk = id,
      .cluster = cluster + done,
      .n = run,
      .data = zero ? NULL : from,
      .size = zero ? 0 : (gsize) bytes_in (disk, cluster + done, run),
      .hurry = hurry,
    };
    if (!point->sink->ops->write (point->sink, &clusters, error))
      return FALSE;
    set_collected (disk, cluster + done, run, zero);
    done += run;
  }
  return TRUE;
}

static void
store_or_fail (VmaPoint *point, guint id, gboolean hurry, guint64 cluster, guint64 n,
               const guint8 *data)
{
  g_autoptr (GError) error = NULL;

  if (!store (point, id, hurry, cluster, n, data, &error))
    vma_point_fail (point, error);
}

/* --- taking ----------------------------------------------------------------------------------- */

/* The first of [cluster, end) of which some pieces are there; `end` where there is none. */
static guint64
next_incomplete (Disk *disk, guint64 cluster, guint64 end)
{
  GHashTableIter iter;
  gpointer value;

  /* There are few, if any. */
  g_hash_table_iter_init (&iter, disk->incomplete);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    const Incomplete *incomplete = value;
    if (incomplete->cluster >= cluster && incomplete->cluster < end)
      end = incomplete->cluster;
  }
  return end;
}

/*
 * Takes the first clusters of [*cluster, end) that are open, and how many.  Stops at one that is incomplete:
 * its pieces came first.  The caller holds the lock.
 */
static guint64
take (Disk *disk, guint64 *cluster, guint64 end)
{
  if (g_hash_table_size (disk->incomplete) > 0)
    end = next_incomplete (disk, *cluster, end);
  *cluster += vma_bits_find (disk->taken, *cluster, end - *cluster, FALSE);
  guint64 n = vma_bits_find (disk->taken, *cluster, end - *cluster, TRUE);
  vma_bits_set (disk->taken, *cluster, n);
  disk->n_taken += n;
  return n;
}

/* Adds a piece's bytes where none are yet.  The caller holds the lock. */
static void
add_piece (Incomplete *incomplete, guint at, guint end, const guint8 *data)
{
  for (guint to = at; to < end;) {
    to += (guint) vma_bits_find (incomplete->have, to, end - to, FALSE);
    guint n = (guint) vma_bits_find (incomplete->have, to, end - to, TRUE);

    if (data != NULL)
      memcpy (incomplete->data + to, data + (to - at), n);
    else
      memset (incomplete->data + to, 0, n);
    vma_bits_set (incomplete->have, to, n);
    incomplete->n_have += n;
    to += n;
  }
}

/* Clusters that a request has taken, and that are still to be stored. */
typedef struct {
  guint64 cluster, n;
  const guint8 *data;     /* NULL: zeros */
  Incomplete *incomplete; /* the one cluster that its last piece made whole: it has the data; owned */
} Run;

/* Bytes [at, end) of a cluster that are not all of it.  The caller holds the lock.  FALSE: too many. */
static gboolean
take_piece (Disk *disk, guint64 cluster, guint at, guint end, const guint8 *data, GArray *runs)
{
  if (vma_bits_get (disk->taken, cluster))
    return TRUE;
  Incomplete *incomplete = g_hash_table_lookup (disk->incomplete, &cluster);
  if (incomplete == NULL) {
    if (g_hash_table_size (disk->incomplete) >= MAX_INCOMPLETE)
      return FALSE;
    incomplete = g_malloc (sizeof *incomplete);
    incomplete->cluster = cluster;
    incomplete->n_have = 0;
    memset (incomplete->have, 0, sizeof incomplete->have);
    g_hash_table_insert (disk->incomplete, &incomplete->cluster, incomplete);
  }
  add_piece (incomplete, at, end, data);
  if (incomplete->n_have == bytes_in (disk, cluster, 1)) {
    const Run run = { cluster, 1, incomplete->data, incomplete };
    g_hash_table_steal (disk->incomplete, &cluster);
    vma_bits_set (disk->taken, cluster, 1);
    disk->n_taken++;
    g_array_append_val (runs, run);
  }
  return TRUE;
}

/* Whole clusters [cluster, end).  The caller holds the lock.  FALSE: too many pieces. */
static gboolean
take_whole (Disk *disk, guint64 cluster, guint64 end, const guint8 *data, GArray *runs)
{
  for (guint64 at = cluster; at < end;) {
    guint64 n = take (disk, &at, end);
    const guint8 *from = data != NULL ? data + (at - cluster) * VMA_CLUSTER_SIZE : NULL;
    if (n > 0) {
      const Run run = { at, n, from, NULL };
      g_array_append_val (runs, run);
    } else if (at < end) {
      n = 1;
      if (!take_piece (disk, at, 0, (guint) bytes_in (disk, at, 1), from, runs))
        return FALSE;
    }
    at += n;
  }
  return TRUE;
}

/* [offset, end), wherever it is open.  The caller holds the lock.  FALSE: too many pieces. */
static gboolean
take_range (Disk *disk, guint64 offset, guint64 end, const guint8 *data, GArray *runs)
{
  for (guint64 at = offset; at < end;) {
    guint64 cluster = at / VMA_CLUSTER_SIZE, start = cluster * VMA_CLUSTER_SIZE;
    guint64 whole_end = end == disk->size ? disk->clusters : end / VMA_CLUSTER_SIZE;
    const guint8 *from = data != NULL ? data + (at - offset) : NULL;

    if (at == start && whole_end > cluster) {
      if (!take_whole (disk, cluster, whole_end, from, runs))
        return FALSE;
      at = MIN (whole_end * VMA_CLUSTER_SIZE, end);
    } else {
      guint64 stop = MIN (start + VMA_CLUSTER_SIZE, end);
      if (!take_piece (disk, cluster, (guint) (at - start), (guint) (stop - start), from, runs))
        return FALSE;
      at = stop;
    }
  }
  return TRUE;
}

void
vma_point_write (VmaPoint *point, guint id, gboolean hook, guint64 offset, const guint8 *data,
                 guint64 size, void (*taken) (gpointer data), gpointer taken_data)
{
  Disk *disk = &point->disks[id];
  gboolean too_many = FALSE;

  if (size == 0 || atomic_load (&point->has_failed))
    return;
  if (offset > disk->size || size > disk->size - offset) {
    fail_request (point, id, offset, size, "beyond the end of the disk");
    return;
  }
  g_autoptr (GArray) runs = g_array_new (FALSE, FALSE, sizeof (Run));
  {
    VMA_LOCK (&disk->lock);
    too_many = !disk->sealed && !take_range (disk, offset, offset + size, data, runs);
  }
  if (too_many)
    fail_request (point, id, offset, size, "too many clusters that are not complete");
  if (taken != NULL)
    taken (taken_data);
  for (guint i = 0; i < runs->len; i++) {
    const Run *run = &g_array_index (runs, Run, i);
    store_or_fail (point, id, hook, run->cluster, run->n, run->data);
    g_free (run->incomplete);
  }
}

/* --- the end ---------------------------------------------------------------------------------- */

void
vma_point_seal (VmaPoint *point)
{
  for (guint i = 0; i < point->n_disks; i++) {
    Disk *disk = &point->disks[i];

    VMA_LOCK (&disk->lock);
    disk->sealed = TRUE;
    g_hash_table_remove_all (disk->incomplete); /* nobody brings the rest */
    disk->waiters++;
    while (disk->n_collected < disk->n_taken && !atomic_load (&point->has_failed))
      pthread_cond_wait (&disk->changed, &disk->lock);
    disk->waiters--;
  }
}

gboolean
vma_point_fill (VmaPoint *point, guint id, guint64 cluster, guint64 n, const guint8 *data,
                gsize size, GError **error)
{
  Disk *disk = &point->disks[id];

  if (vma_point_has_failed (point, error))
    return FALSE;
  g_return_val_if_fail (disk->sealed && cluster + n <= disk->clusters, FALSE);
  g_return_val_if_fail (data == NULL || size >= bytes_in (disk, cluster, n), FALSE);
  {
    VMA_LOCK (&disk->lock);
    guint64 first = cluster;
    guint64 taken = take (disk, &first, cluster + n);
    g_return_val_if_fail (first == cluster && taken == n, FALSE);
  }
  return store (point, id, FALSE, cluster, n, data, error);
}

gboolean
vma_point_next_open (VmaPoint *point, guint id, guint64 *cluster, guint64 *n)
{
  Disk *disk = &point->disks[id];

  VMA_LOCK (&disk->lock);
  *cluster += vma_bits_find (disk->taken, *cluster, disk->clusters - *cluster, FALSE);
  *n = vma_bits_find (disk->taken, *cluster, disk->clusters - *cluster, TRUE);
  return *n > 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

gboolean
vma_point_covers (VmaPoint *point, guint id, guint64 offset, guint64 size)
{
  Disk *disk = &point->disks[id];

  if (offset >= disk->size || size == 0)
    return TRUE;
  guint64 first = offset / VMA_CLUSTER_SIZE;
  guint64 last = (offset + MIN (size, disk->size - offset) - 1) / VMA_CLUSTER_SIZE;
  VMA_LOCK (&disk->lock);
  return vma_bits_find (disk->collected, first, last - first + 1, FALSE) == last - first + 1;
}

int
vma_point_read (VmaPoint *point, guint id, guint64 cluster, void *buffer, GError **error)
{
  Disk *disk = &point->disks[id];
  gboolean collected, taken, zero;

  {
    VMA_LOCK (&disk->lock);
    taken = vma_bits_get (disk->taken, cluster);
    disk->waiters++;
    while (taken && !vma_bits_get (disk->collected, cluster) && !atomic_load (&point->has_failed))
      pthread_cond_wait (&disk->changed, &disk->lock);
    disk->waiters--;
    collected = vma_bits_get (disk->collected, cluster);
    zero = vma_bits_get (disk->zero, cluster);
  }
  if (!collected) {
    if (vma_point_has_failed (point, error))
      return -1;
    return 0;
  }
  if (zero) {
    memset (buffer, 0, VMA_CLUSTER_SIZE);
    return 1;
  }
  if (point->sink->ops->read == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "disk '%s': what was sent cannot be read back", disk->name);
    return -1;
  }
  return point->sink->ops->read (point->sink, id, cluster, buffer, error) ? 1 : -1;
}

void
vma_point_overlay (VmaPoint *point, guint id, guint64 cluster, guint8 *buffer)
{
  Disk *disk = &point->disks[id];

  VMA_LOCK (&disk->lock);
  const Incomplete *incomplete = g_hash_table_lookup (disk->incomplete, &cluster);
  for (guint at = 0; incomplete != NULL && at < VMA_CLUSTER_SIZE;) {
    at += (guint) vma_bits_find (incomplete->have, at, VMA_CLUSTER_SIZE - at, TRUE);
    guint n = (guint) vma_bits_find (incomplete->have, at, VMA_CLUSTER_SIZE - at, FALSE);
    memcpy (buffer + at, incomplete->data + at, n);
    at += n;
  }
}

guint64
vma_point_seek (VmaPoint *point, guint id, guint64 offset, gboolean data)
{
  Disk *disk = &point->disks[id];
  guint64 cluster = offset / VMA_CLUSTER_SIZE;

  if (offset >= disk->size)
    return disk->size;
  VMA_LOCK (&disk->lock);
  cluster += vma_bits_find (disk->zero, cluster, disk->clusters - cluster, !data);
  return MIN (MAX (offset, cluster * VMA_CLUSTER_SIZE), disk->size);
}

void
vma_point_get_progress (VmaPoint *point, guint id, guint64 *collected, guint64 *zero)
{
  Disk *disk = &point->disks[id];

  VMA_LOCK (&disk->lock);
  *collected = disk->bytes;
  *zero = disk->zero_bytes;
}

guint64
vma_point_missing (VmaPoint *point, guint id)
{
  Disk *disk = &point->disks[id];

  VMA_LOCK (&disk->lock);
  return disk->clusters - disk->n_collected;
}
