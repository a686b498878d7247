/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/create-copy.h"

#include "index/lock.h"
#include "tool/progress.h"
#include "vma/error.h"
#include "vma/header.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Clusters of a unit, the least piece of work, and how a disk that has its turn is read. */
#define UNIT_CLUSTERS 16u
#define UNIT_SIZE     (UNIT_CLUSTERS * VMA_CLUSTER_SIZE)

/* Disks that are read at the same time. */
#define MAX_LANES 4u

/* Units without data that are done in one go, when several disks take turns. */
#define MAX_ZEROS 512u

/* How long a sleep of --speed may overlook that all is over. */
#define NAP_US 50000

/* A stretch of a disk without data. */
typedef struct {
  guint disk;
  guint64 cluster, n;
} Zeros;

/* What a thread does at its turn: stretches of zeros, then perhaps a unit of data. */
typedef struct {
  guint64 ticket;
  guint n_zeros;
  Zeros zeros[MAX_ZEROS];
  gboolean has_data;
  guint disk;
  guint64 cluster;
  guint n;
  guint16 present; /* bit i: cluster i of the unit is to be read; the others are zeros */
  gint64 not_before; /* --speed: when to begin */
} Work;

typedef struct {
  guint disk;   /* being read; n_disks: none left */
  guint64 next; /* its next cluster */
  guint64 data_start, data_end; /* the last answer of tool_input_next_data() */
} Lane;

typedef struct {
  const ToolCreateCopy *job;

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  Lane lanes[MAX_LANES];
  guint n_lanes, lane; /* whose turn it is */
  guint64 tickets;     /* given out */
  guint64 turn;        /* the ticket that may take places */
  gint64 next_read;    /* --speed: when the next read may begin */
  GError *failure;
} Copy;

guint
tool_create_threads (guint n_disks)
{
  return CLAMP (n_disks, 1, MAX_LANES) + 1;
}

static guint64
disk_clusters (const Copy *copy, guint disk)
{
  return vma_clusters_for_size (copy->job->disks[disk].input->size);
}

static void
fail (Copy *copy, GError *error)
{
  VMA_LOCK (&copy->lock);
  if (copy->failure == NULL)
    copy->failure = error;
  else
    g_error_free (error);
  pthread_cond_broadcast (&copy->changed);
}

static gboolean
has_failed (Copy *copy)
{
  VMA_LOCK (&copy->lock);
  return copy->failure != NULL;
}

/* --- what comes next; the caller holds the lock ------------------------------------------------ */

/* Whether [start, end) holds data; *known is up to where the answer holds. */
static gboolean
has_data (Copy *copy, Lane *lane, guint64 start, guint64 end, gboolean *data, guint64 *known,
          GError **error)
{
  ToolInput *input = copy->job->disks[lane->disk].input;

  if (lane->data_end <= start
      && !tool_input_next_data (input, start, &lane->data_start, &lane->data_end, error))
    return FALSE;
  *data = lane->data_start < MIN (end, input->size);
  *known = *data ? lane->data_end : lane->data_start;
  return TRUE;
}

/* Which clusters of a unit have to be read. */
static gboolean
find_present (Copy *copy, Lane *lane, guint64 cluster, guint n, guint16 *present, GError **error)
{
  *present = 0;
  for (guint i = 0; i < n;) {
    guint64 start = (cluster + i) * VMA_CLUSTER_SIZE, known;
    gboolean data;

    if (!has_data (copy, lane, start, start + VMA_CLUSTER_SIZE, &data, &known, error))
      return FALSE;
    guint64 until = data ? (known + VMA_CLUSTER_SIZE - 1) / VMA_CLUSTER_SIZE
                         : known / VMA_CLUSTER_SIZE;
    guint next = (guint) MIN (n, MAX (until, cluster + i + 1) - cluster);
    for (; i < next; i++)
      if (data)
        *present = (guint16) (*present | 1u << i);
  }
  return TRUE;
}

/* Goes to the next lane that has work left.  FALSE where none has. */
static gboolean
choose_lane (Copy *copy)
{
  for (guint i = 0; i < copy->n_lanes; i++) {
    Lane *lane = &copy->lanes[copy->lane];
    if (lane->disk < copy->job->n_disks)
      return TRUE;
    copy->lane = (copy->lane + 1) % copy->n_lanes;
  }
  return FALSE;
}

/* n more clusters of this lane's disk are given out. */
static void
advance (Copy *copy, guint64 n)
{
  Lane *lane = &copy->lanes[copy->lane];

  lane->next += n;
  if (lane->next == disk_clusters (copy, lane->disk))
    *lane = (Lane){ .disk = MIN (lane->disk + copy->n_lanes, copy->job->n_disks) };
  copy->lane = (copy->lane + 1) % copy->n_lanes;
}

static gboolean
is_only_lane (const Copy *copy)
{
  guint n = 0;

  for (guint i = 0; i < copy->n_lanes; i++)
    n += copy->lanes[i].disk < copy->job->n_disks;
  return n == 1;
}

/* When the reading of so many bytes may begin. */
static gint64
schedule (Copy *copy, guint64 bytes)
{
  if (copy->job->speed == 0)
    return 0;
  gint64 start = MAX (copy->next_read, g_get_monotonic_time ());
  copy->next_read = start + (gint64) ((double) bytes * G_USEC_PER_SEC / (double) copy->job->speed);
  return start;
}

static void
add_zeros (Work *work, guint disk, guint64 cluster, guint64 n)
{
  Zeros *last = work->n_zeros > 0 ? &work->zeros[work->n_zeros - 1] : NULL;

  if (last != NULL && last->disk == disk && last->cluster + last->n == cluster)
    last->n += n;
  else
    work->zeros[work->n_zeros++] = (Zeros){ disk, cluster, n };
}

/* The next unit, or, where nobody takes turns, all up to the next data.  Into `work`. */
static gboolean
next_unit (Copy *copy, Work *work, GError **error)
{
  Lane *lane = &copy->lanes[copy->lane];
  guint64 left = disk_clusters (copy, lane->disk) - lane->next, known;
  guint n = (guint) MIN (left, UNIT_CLUSTERS);
  guint64 start = lane->next * VMA_CLUSTER_SIZE;
  guint16 present;
  gboolean data;

  if (is_only_lane (copy)) {
    if (!has_data (copy, lane, start, start + UNIT_SIZE, &data, &known, error))
      return FALSE;
    if (!data) {
      guint64 hole = known >= copy->job->disks[lane->disk].input->size
                         ? left
                         : known / VMA_CLUSTER_SIZE - lane->next;
      add_zeros (work, lane->disk, lane->next, hole);
      advance (copy, hole);
      return TRUE;
    }
  }
  if (!find_present (copy, lane, lane->next, n, &present, error))
    return FALSE;
  if (present == 0)
    add_zeros (work, lane->disk, lane->next, n);
  else {
    work->has_data = TRUE;
    work->disk = lane->disk;
    work->cluster = lane->next;
    work->n = n;
    work->present = present;
    work->not_before
        = schedule (copy, (guint64) __builtin_popcount (present) * VMA_CLUSTER_SIZE);
  }
  advance (copy, n);
  return TRUE;
}

/* --- a thread ---------------------------------------------------------------------------------- */

/* 1; 0 where all is given out or has failed; -1 on an error. */
static int
take_work (Copy *copy, Work *work, GError **error)
{
  VMA_LOCK (&copy->lock);

  work->n_zeros = 0;
  work->has_data = FALSE;
  work->not_before = 0;
  if (g_cancellable_is_cancelled (copy->job->cancellable)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
    return -1;
  }
  if (copy->failure != NULL)
    return 0;
  while (!work->has_data && work->n_zeros < MAX_ZEROS && choose_lane (copy))
    if (!next_unit (copy, work, error))
      return -1;
  if (!work->has_data && work->n_zeros == 0)
    return 0;
  work->ticket = copy->tickets++;
  return 1;
}

/* Bytes of a disk in clusters [cluster, cluster + n). */
static gsize
bytes_in (const ToolInput *input, guint64 cluster, guint n)
{
  return (gsize) MIN ((guint64) n * VMA_CLUSTER_SIZE, input->size - cluster * VMA_CLUSTER_SIZE);
}

static gboolean
wait_for_speed (Copy *copy, gint64 until)
{
  gint64 now;

  while ((now = g_get_monotonic_time ()) < until) {
    if (has_failed (copy) || g_cancellable_is_cancelled (copy->job->cancellable))
      return FALSE;
    g_usleep ((gulong) MIN (until - now, NAP_US));
  }
  return TRUE;
}

/* Reads what is present of a unit; the rest becomes zeros. */
static gboolean
read_unit (Copy *copy, const Work *work, guint8 *buffer, GError **error)
{
  ToolInput *input = copy->job->disks[work->disk].input;

  for (guint i = 0; i < work->n;) {
    guint run = i;
    gboolean present = (work->present >> i & 1) != 0;

    while (run < work->n && (work->present >> run & 1) == present)
      run++;
    guint8 *at = buffer + (gsize) i * VMA_CLUSTER_SIZE;
    gsize size = bytes_in (input, work->cluster + i, run - i);
    if (!present)
      memset (at, 0, (gsize) (run - i) * VMA_CLUSTER_SIZE);
    else if (!tool_input_read (input, at, size, (work->cluster + i) * VMA_CLUSTER_SIZE, error))
      return FALSE;
    else /* vmstate is stored in whole clusters */
      memset (at + size, 0, (gsize) (run - i) * VMA_CLUSTER_SIZE - size);
    i = run;
  }
  return TRUE;
}

static gboolean
wait_for_turn (Copy *copy, guint64 ticket)
{
  VMA_LOCK (&copy->lock);
  while (copy->turn != ticket && copy->failure == NULL)
    pthread_cond_wait (&copy->changed, &copy->lock);
  return copy->failure == NULL;
}

static void
next_turn (Copy *copy)
{
  VMA_LOCK (&copy->lock);
  copy->turn++;
  pthread_cond_broadcast (&copy->changed);
}

static void
count_zeros (Copy *copy, guint64 clusters)
{
  tool_progress_add (clusters * VMA_CLUSTER_SIZE);
  tool_verbose_count (copy->job->verbose, clusters * VMA_CLUSTER_SIZE, clusters * VMA_CLUSTER_SIZE,
                      0);
}

static void
count_data (Copy *copy, const VmaDump *dump)
{
  guint64 zeros = 0, blocks = 0;

  tool_progress_add ((guint64) dump->n * VMA_CLUSTER_SIZE);
  for (guint i = 0; i < dump->n; i++) {
    guint stored = (guint) __builtin_popcount (dump->masks[i]);
    zeros += stored == 0;
    blocks += stored > 0 ? VMA_BLOCKS_PER_CLUSTER - stored : 0;
  }
  tool_verbose_count (copy->job->verbose, (guint64) dump->n * VMA_CLUSTER_SIZE,
                      zeros * VMA_CLUSTER_SIZE, blocks * VMA_BLOCK_SIZE);
}

/* A huge hole is dumped in parts, so that a signal need not wait. */
#define ZEROS_AT_ONCE (1u << 20)

static gboolean
dump_zeros (Copy *copy, const Zeros *zeros, GError **error)
{
  for (guint64 done = 0; done < zeros->n;) {
    guint64 n = MIN (zeros->n - done, ZEROS_AT_ONCE);

    if (g_cancellable_is_cancelled (copy->job->cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    if (!vma_writer_dump (copy->job->writer, copy->job->disks[zeros->disk].stream,
                          zeros->cluster + done, n, NULL, error))
      return FALSE;
    count_zeros (copy, n);
    done += n;
  }
  return TRUE;
}

/* TRUE also where it is over because another thread has failed. */
static gboolean
do_work (Copy *copy, const Work *work, guint8 *buffer, GError **error)
{
  VmaWriter *writer = copy->job->writer;
  VmaDump dump;

  if (work->has_data) {
    if (!wait_for_speed (copy, work->not_before))
      return TRUE; /* take_work() will tell */
    if (!read_unit (copy, work, buffer, error)
        || !vma_writer_look (writer, &dump, copy->job->disks[work->disk].stream, work->cluster,
                             work->n, buffer, error))
      return FALSE;
  }
  if (!wait_for_turn (copy, work->ticket))
    return TRUE;
  for (guint i = 0; i < work->n_zeros; i++)
    if (!dump_zeros (copy, &work->zeros[i], error))
      return FALSE;
  if (work->has_data && !vma_writer_place (writer, &dump, error))
    return FALSE;
  next_turn (copy);
  if (!work->has_data)
    return TRUE;
  if (!vma_writer_put (writer, &dump, error))
    return FALSE;
  count_data (copy, &dump);
  return TRUE;
}

typedef struct {
  Copy *copy;
  guint8 *buffer;
  pthread_t thread;
} Worker;

static void *
worker_thread (void *data)
{
  Worker *worker = data;
  g_autofree Work *work = g_new (Work, 1);
  GError *error = NULL;
  int more;

  while ((more = take_work (worker->copy, work, &error)) > 0)
    if (!do_work (worker->copy, work, worker->buffer, &error))
      break;
  if (error != NULL)
    fail (worker->copy, error);
  return NULL;
}

/* Runs all threads, the caller's being one of them. */
static void
run (Copy *copy, guint n)
{
  g_autofree Worker *workers = g_new0 (Worker, n);
  guint started = 0;

  for (guint i = 0; i < n; i++)
    workers[i] = (Worker){ .copy = copy, .buffer = g_malloc (UNIT_SIZE) };
  /* With fewer threads it only takes longer. */
  while (started + 1 < n
         && pthread_create (&workers[started + 1].thread, NULL, worker_thread,
                            &workers[started + 1]) == 0)
    started++;
  worker_thread (&workers[0]);
  for (guint i = 1; i <= started; i++)
    pthread_join (workers[i].thread, NULL);
  for (guint i = 0; i < n; i++)
    g_free (workers[i].buffer);
}

gboolean
tool_create_copy (const ToolCreateCopy *job, GError **error)
{
  Copy copy = { .job = job, .n_lanes = CLAMP (job->n_disks, 1, MAX_LANES) };

  pthread_mutex_init (&copy.lock, NULL);
  pthread_cond_init (&copy.changed, NULL);
  for (guint i = 0; i < copy.n_lanes; i++)
    copy.lanes[i].disk = i;
  run (&copy, tool_create_threads (job->n_disks));
  pthread_cond_destroy (&copy.changed);
  pthread_mutex_destroy (&copy.lock);
  if (copy.failure == NULL)
    return TRUE;
  g_propagate_error (error, copy.failure);
  return FALSE;
}
