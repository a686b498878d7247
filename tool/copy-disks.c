/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying by disk, several at once.
 */
#include "tool/copy.h"

#include "image/image.h"
#include "index/lock.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "vma/error.h"

/* As in copy-extents.c. */
#define PIECE (256u * 1024u)

typedef struct {
  ToolCopy *copy;
  pthread_mutex_t lock; /* of what follows */
  guint next;           /* device in the header's list */
  GError *failure;      /* the first */
} Work;

static void
count_zeros (ToolCopy *copy, guint64 start, guint64 end)
{
  guint64 first = vma_clusters_for_size (start) * VMA_CLUSTER_SIZE;
  guint64 last = end - end % VMA_CLUSTER_SIZE;
  guint64 sparse = last > first ? last - first : 0;

  tool_verbose_count (&copy->verbose, end - start, sparse, end - start - sparse);
  tool_progress_add (end - start);
}

/* Up to where data go on from `at`, not further than a piece. */
static gboolean
data_end (VmaImage *image, guint64 at, guint64 size, guint64 *end, GError **error)
{
  VmaSpan span;

  for (*end = at; *end < size && *end - at < PIECE; *end = span.end) {
    if (!vma_image_span (image, *end, &span, tool_cancellable (), error))
      return FALSE;
    if (span.kind != VMA_SPAN_DATA)
      break;
  }
  *end = MIN (*end, at + PIECE);
  return TRUE;
}

static gboolean
copy_disk (ToolCopy *copy, const VmaDevice *device, guint8 *buffer, GError **error)
{
  VmaImage *image = vma_archive_image (copy->archive, device->id);
  ToolTarget *target = copy->targets[device->id];
  guint64 size;

  if (!vma_image_size (image, &size, tool_cancellable (), error))
    return FALSE;
  for (guint64 at = 0, end; at < size; at = end) {
    VmaSpan span;
    if (g_cancellable_is_cancelled (tool_cancellable ())) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    if (!vma_image_span (image, at, &span, tool_cancellable (), error))
      return FALSE;
    if (span.kind == VMA_SPAN_ZERO) {
      end = span.end;
      if (!tool_target_zero (target, at, end - at, error))
        return FALSE;
      count_zeros (copy, at, end);
      continue;
    }
    if (!data_end (image, at, size, &end, error))
      return FALSE;
    /* What is missing becomes an error in the read. */
    end = MAX (end, at + 1);
    if (vma_image_pread (image, buffer, (gsize) (end - at), at, tool_cancellable (), error) < 0
        || !tool_target_write (target, buffer, (gsize) (end - at), at, error))
      return FALSE;
    tool_verbose_count (&copy->verbose, end - at, 0, 0);
    tool_progress_add (end - at);
  }
  return TRUE;
}

/* The next disk that is wanted; NULL when there is no more to do. */
static const VmaDevice *
take_disk (Work *work)
{
  const GPtrArray *devices = vma_archive_header (work->copy->archive)->devices;

  VMA_LOCK (&work->lock);
  while (work->failure == NULL && work->next < devices->len) {
    const VmaDevice *device = g_ptr_array_index (devices, work->next++);
    if (work->copy->targets[device->id] != NULL)
      return device;
  }
  return NULL;
}

static void *
copying_thread (void *data)
{
  Work *work = data;
  g_autofree guint8 *buffer = g_malloc (PIECE);
  const VmaDevice *device;

  while ((device = take_disk (work)) != NULL) {
    GError *error = NULL;
    if (copy_disk (work->copy, device, buffer, &error))
      continue;
    VMA_LOCK (&work->lock);
    if (work->failure == NULL)
      work->failure = error;
    else
      g_error_free (error);
  }
  return NULL;
}

static guint64
wanted_bytes (ToolCopy *copy)
{
  const GPtrArray *devices = vma_archive_header (copy->archive)->devices;
  guint64 sum = 0;

  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    guint64 size;
    if (copy->targets[device->id] != NULL
        && vma_image_size (vma_archive_image (copy->archive, device->id), &size, NULL, NULL))
      sum += size;
  }
  return sum;
}

gboolean
tool_copy_by_disk (ToolCopy *copy, guint jobs, GError **error)
{
  Work work = { .copy = copy, .lock = PTHREAD_MUTEX_INITIALIZER };
  g_autofree pthread_t *threads = g_new0 (pthread_t, jobs);
  guint started = 0;

  tool_progress_start ("extracting", wanted_bytes (copy));
  jobs = MIN (jobs, vma_archive_header (copy->archive)->devices->len);
  while (started + 1 < jobs
         && pthread_create (&threads[started], NULL, copying_thread, &work) == 0)
    started++;
  copying_thread (&work);
  for (guint i = 0; i < started; i++)
    pthread_join (threads[i], NULL);
  if (work.failure == NULL)
    return TRUE;
  g_propagate_error (error, work.failure);
  return FALSE;
}
