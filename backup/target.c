/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/target.h"

#include "backup/base.h"
#include "backup/files.h"
#include "backup/point.h"
#include "backup/sink.h"
#include "backup/view.h"
#include "image/delta.h"
#include "vma/build.h"
#include "vma/error.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#define DEFAULT_TIMEOUT 20

struct VmaTarget {
  guint n_disks;
  guint64 *sizes;
  char **names;
  char **bitmaps; /* of the disks; NULL: none */
  guint8 uuid[VMA_UUID_SIZE];
  gboolean view_wanted;
  gboolean allow_other;
  uid_t owner;
  guint request_timeout;
  void (*failed) (gpointer data, const GError *error);
  gpointer data;
  atomic_bool quiet; /* the failure was the caller's own */

  VmaWriter *writer; /* NULL: no archive */
  guint8 *streams;   /* of the disks */
  guint8 vmstate;    /* its stream; 0: none */
  gboolean vmstate_done;
  VmaTargetSink *sink;
  VmaPoint *point;
  _Atomic (VmaFiles *) files; /* NULL: before serve() */
  VmaView *view;
  VmaBase *base;    /* NULL: a full backup */
  gboolean delta;
  VmaHeader *header; /* as the archive's: for the view */
};

/* --- making it -------------------------------------------------------------------------------- */

/*
 * The header that the archive will have, for the view: who reads there finds the same names.  Also
 * tells of names that an archive cannot have where there is none.
 */
static gboolean
make_header (VmaTarget *target, const VmaTargetOptions *options, GError **error)
{
  g_autoptr (VmaHeaderBuilder) builder
      = vma_header_builder_new (target->uuid, g_get_real_time () / G_USEC_PER_SEC);

  for (guint i = 0; i < options->n_configs; i++) {
    gsize size;
    const guint8 *data = g_bytes_get_data (options->configs[i].data, &size);
    if (!vma_header_builder_add_config (builder, options->configs[i].name, data, size, error))
      return FALSE;
  }
  for (guint i = 0; i < target->n_disks; i++)
    if (vma_header_builder_add_device (builder, target->names[i], target->sizes[i], error) == 0)
      return FALSE;
  g_autoptr (GBytes) bytes = vma_header_builder_finish (builder);
  target->header
      = vma_header_parse (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), error);
  return target->header != NULL;
}

/* A delta is worth nothing over another archive than its base: it says which one that is. */
static gboolean
add_base_uuid (VmaTarget *target, GError **error)
{
  g_autofree char *text = vma_delta_text (vma_base_uuid (target->base));

  return vma_writer_add_config (target->writer, VMA_DELTA_CONFIG, (const guint8 *) text,
                                strlen (text), error);
}

static gboolean
open_writer (VmaTarget *target, const VmaTargetOptions *options, GError **error)
{
  VmaWriterOptions writer = {
    .uuid = target->uuid,
    .ctime = -1,
    .compression = options->compression,
    .partial = options->delta,
    .readable = options->compression == VMA_COMPRESS_NONE,
    .maybe_readable = TRUE,
  };

  target->writer = vma_writer_open (options->output, &writer, error);
  if (target->writer == NULL)
    return FALSE;
  for (guint i = 0; i < options->n_configs; i++) {
    const VmaTargetConfig *config = &options->configs[i];
    gsize size;
    const guint8 *data = g_bytes_get_data (config->data, &size);
    if (!vma_writer_add_config (target->writer, config->name, data, size, error))
      return FALSE;
  }
  if (target->delta && !add_base_uuid (target, error))
    return FALSE;
  for (guint i = 0; i < target->n_disks; i++) {
    target->streams[i] = vma_writer_register_stream (target->writer, target->names[i],
                                                     target->sizes[i], error);
    if (target->streams[i] == 0)
      return FALSE;
  }
  if (options->vmstate) {
    target->vmstate
        = vma_writer_register_stream (target->writer, VMA_VMSTATE_NAME, VMA_CLUSTER_SIZE, error);
    if (target->vmstate == 0)
      return FALSE;
  }
  target->sink = vma_writer_sink_new (target->writer, target->streams, target->n_disks,
                                      vma_writer_is_readable (target->writer));
  return TRUE;
}

/* The scratch file passed something on, or failed to. */
static void
scratch_failed (gpointer data, const GError *error)
{
  VmaTarget *target = data;

  vma_point_fail (target->point, error);
}

static gboolean
open_sinks (VmaTarget *target, const VmaTargetOptions *options, GError **error)
{
  if (options->output != NULL && !open_writer (target, options, error))
    return FALSE;
  gboolean readable = target->sink != NULL && target->sink->ops->read != NULL;
  if (options->scratch != NULL) {
    VmaScratchOptions scratch = {
      .path = options->scratch,
      .size = options->scratch_size,
      .sizes = target->sizes,
      .n_disks = target->n_disks,
      .fail_full = options->on_full == VMA_SCRATCH_FAIL,
      .keep = options->view && !readable,
      .failed = scratch_failed,
      .data = target,
    };
    VmaTargetSink *sink = vma_scratch_sink_new (&scratch, target->sink, error);
    if (sink == NULL)
      return FALSE;
    target->sink = sink;
  }
  if (target->sink == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "a view without an archive needs a scratch file");
    return FALSE;
  }
  if (options->view && target->sink->ops->read == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: what goes through a pipe or a compressor cannot be read back: a view of it "
                 "needs a scratch file",
                 options->output);
    return FALSE;
  }
  return TRUE;
}

/* The point has failed: frees all who wait, and tells the caller. */
static void
on_failure (gpointer data, const GError *error)
{
  VmaTarget *target = data;

  target->sink->ops->abort (target->sink);
  VmaFiles *files = atomic_load (&target->files);
  if (files != NULL)
    vma_files_release (files);
  if (!atomic_load (&target->quiet) && target->failed != NULL)
    target->failed (target->data, error);
}

VmaTarget *
vma_target_new (const VmaTargetOptions *options, GError **error)
{
  g_autoptr (VmaTarget) target = g_new0 (VmaTarget, 1);

  target->n_disks = options->n_disks;
  target->sizes = g_new0 (guint64, options->n_disks + 1);
  target->names = g_new0 (char *, options->n_disks + 1);
  target->bitmaps = g_new0 (char *, options->n_disks + 1);
  target->streams = g_new0 (guint8, options->n_disks + 1);
  for (guint i = 0; i < options->n_disks; i++) {
    target->names[i] = g_strdup (options->disks[i].name);
    target->sizes[i] = options->disks[i].size;
  }
  if (options->uuid != NULL)
    memcpy (target->uuid, options->uuid, VMA_UUID_SIZE);
  else
    uuid_generate (target->uuid);
  target->view_wanted = options->view;
  target->delta = options->delta;
  target->allow_other = options->allow_other;
  target->owner = options->owner;
  target->request_timeout
      = options->request_timeout > 0 ? options->request_timeout : DEFAULT_TIMEOUT;
  target->failed = options->failed;
  target->data = options->data;

  if (options->base != NULL) {
    target->base = vma_base_new (options->base, (const char *const *) target->names, target->sizes,
                                 options->changed_only, target->n_disks, error);
    if (target->base == NULL)
      return NULL;
  }
  if (!make_header (target, options, error) || !open_sinks (target, options, error))
    return NULL;

  VmaPointOptions point = {
    .sizes = target->sizes,
    .names = (const char *const *)target->names,
    .n_disks = target->n_disks,
    .sink = target->sink,
    .failed = on_failure,
    .data = target,
  };
  target->point = vma_point_new (&point, error);
  if (target->point == NULL)
    return NULL;
  return g_steal_pointer (&target);
}

void
vma_target_free (VmaTarget *target)
{
  gboolean free_all = TRUE;

  if (target->sink != NULL)
    target->sink->ops->abort (target->sink); /* without effect on a complete archive */
  if (target->view != NULL)
    free_all = vma_view_free (target->view);
  if (target->files != NULL)
    free_all = vma_files_free (target->files) && free_all;
  /* A thread that hangs in the medium would come back to memory that is not there. */
  if (!free_all || (target->sink != NULL && !target->sink->ops->free (target->sink)))
    return;
  g_clear_pointer (&target->point, vma_point_free);
  g_clear_pointer (&target->base, vma_base_free);
  g_clear_pointer (&target->header, vma_header_free);
  g_clear_pointer (&target->writer, vma_writer_free);
  for (guint i = 0; i < target->n_disks; i++)
    g_free (target->bitmaps[i]);
  g_free (target->bitmaps);
  g_strfreev (target->names);
  g_free (target->sizes);
  g_free (target->streams);
  g_free (target);
}

/* --- for the job ------------------------------------------------------------------------------ */

gboolean
vma_target_serve (VmaTarget *target, GError **error)
{
  VmaFilesOptions options = {
    .point = target->point,
    .sink = target->sink,
    .names = (const char *const *)target->names,
    .sizes = target->sizes,
    .n_disks = target->n_disks,
    .allow_other = target->allow_other,
    .owner = target->owner,
    .request_timeout = target->request_timeout,
  };

  VmaFiles *files = vma_files_new (&options, error);
  atomic_store (&target->files, files);
  return files != NULL;
}

const char *
vma_target_cow_path (VmaTarget *target, guint disk)
{
  return vma_files_path (target->files, disk, TRUE);
}

const char *
vma_target_raw_path (VmaTarget *target, guint disk)
{
  return vma_files_path (target->files, disk, FALSE);
}

const char *
vma_target_mountpoint (VmaTarget *target)
{
  return vma_files_mountpoint (target->files);
}

gboolean
vma_target_show (VmaTarget *target, const char *mountpoint, GError **error)
{
  g_return_val_if_fail (target->view_wanted && target->view == NULL, FALSE);
  target->view = vma_view_new (target->point, target->header, mountpoint, error);
  return target->view != NULL;
}

void
vma_target_set_bitmap (VmaTarget *target, guint disk, const char *bitmap)
{
  g_free (target->bitmaps[disk]);
  target->bitmaps[disk] = g_strdup (bitmap);
}

void
vma_target_begin (VmaTarget *target, const char *const *uris)
{
  g_autofree const char **wanted = g_new0 (const char *, target->n_disks + 1);

  /* What did not change is in the base, and QEMU's filter would not let it be read: without a bitmap
   * such a disk is shown as it is collected. */
  for (guint i = 0; i < target->n_disks; i++)
    if (uris != NULL && (target->bitmaps[i] != NULL || !vma_base_has (target->base, i)))
      wanted[i] = uris[i];
  if (target->view != NULL)
    vma_view_begin (target->view, wanted, (const char *const *) target->bitmaps, target->base);
}

void
vma_target_end_read_through (VmaTarget *target, guint disk)
{
  if (target->view != NULL)
    vma_view_end_read_through (target->view, disk);
}

void
vma_target_fail (VmaTarget *target, const GError *error)
{
  /* The caller knows, and may hold locks that its callback wants. */
  if (!vma_point_has_failed (target->point, NULL))
    atomic_store (&target->quiet, TRUE);
  vma_point_fail (target->point, error);
}

gboolean
vma_target_has_failed (VmaTarget *target, GError **error)
{
  return vma_point_has_failed (target->point, error);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* All of a cluster, or what is left before the end of the stream; -1 on an error. */
static gssize
read_full (int fd, guint8 *buffer, GCancellable *cancellable, GError **error)
{
  gsize done = 0;

  while (done < VMA_CLUSTER_SIZE) {
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "cancelled");
      return -1;
    }
    gssize n = read (fd, buffer + done, VMA_CLUSTER_SIZE - done);
    if (n == 0)
      break;
    if (n < 0 && errno != EINTR) {
      vma_set_errno_error (error, errno, "cannot read the guest's state");
      return -1;
    }
    if (n > 0)
      done += (gsize) n;
  }
  return (gssize) done;
}

gboolean
vma_target_add_vmstate (VmaTarget *target, int fd, GCancellable *cancellable, GError **error)
{
  g_autofree guint8 *buffer = g_malloc (VMA_CLUSTER_SIZE);

  g_return_val_if_fail (target->vmstate != 0 && !target->vmstate_done, FALSE);
  for (guint64 cluster = 0;; cluster++) {
    gssize n = read_full (fd, buffer, cancellable, error);
    if (n < 0 || vma_point_has_failed (target->point, n < 0 ? NULL : error))
      return FALSE;
    if (n == 0)
      break;
    memset (buffer + n, 0, VMA_CLUSTER_SIZE - (gsize) n);
    if (!vma_writer_dump (target->writer, target->vmstate, cluster, 1, buffer, error))
      return FALSE;
    if (n < (gssize) VMA_CLUSTER_SIZE)
      break;
  }
  target->vmstate_done = TRUE;
  return vma_writer_close_stream (target->writer, target->vmstate, error);
}

static gboolean
check_complete (VmaTarget *target, GError **error)
{
  for (guint i = 0; i < target->n_disks; i++) {
    guint64 missing = vma_point_missing (target->point, i);

    if (missing == 0 || (target->delta && vma_base_has (target->base, i)))
      continue;
    g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING,
                 "disk '%s': QEMU did not deliver %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                 " clusters",
                 target->names[i], missing,
                 target->sizes[i] / VMA_CLUSTER_SIZE + (target->sizes[i] % VMA_CLUSTER_SIZE != 0));
    return FALSE;
  }
  if (target->vmstate != 0 && !target->vmstate_done) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING, "the guest's state was never added");
    return FALSE;
  }
  return TRUE;
}

/* Whoever waits for the medium is freed. */
static void
on_cancel (GCancellable *cancellable G_GNUC_UNUSED, gpointer data)
{
  VmaTarget *target = data;

  target->sink->ops->abort (target->sink);
}

static gboolean
complete (VmaTarget *target, GCancellable *cancellable, GError **error)
{
  vma_point_seal (target->point);
  if (vma_point_has_failed (target->point, error))
    return FALSE;
  if (target->base != NULL && !target->delta
      && !vma_base_fill (target->base, target->point, cancellable, error))
    return FALSE;
  if (!check_complete (target, error)
      || !target->sink->ops->finish (target->sink, cancellable, error))
    return FALSE;
  if (g_cancellable_set_error_if_cancelled (cancellable, error))
    return FALSE;
  return target->writer == NULL || vma_writer_complete (target->writer, error);
}

gboolean
vma_target_complete (VmaTarget *target, GCancellable *cancellable, GError **error)
{
  GError *local = NULL;
  gulong id = cancellable != NULL
                  ? g_cancellable_connect (cancellable, G_CALLBACK (on_cancel), target, NULL)
                  : 0;
  gboolean ok = complete (target, cancellable, &local);

  g_cancellable_disconnect (cancellable, id);
  if (ok)
    return TRUE;
  vma_target_fail (target, local);
  g_propagate_error (error, local);
  return FALSE;
}

void
vma_target_get_progress (VmaTarget *target, guint disk, VmaTargetProgress *progress)
{
  *progress = (VmaTargetProgress){ .total = target->sizes[disk] };
  vma_point_get_progress (target->point, disk, &progress->transferred, &progress->zero);
  if (target->writer != NULL) {
    VmaStreamProgress stream;

    /* Knows of single blocks, but may be behind. */
    vma_writer_get_progress (target->writer, target->streams[disk], &stream);
    progress->zero = MAX (progress->zero, stream.zero);
  }
  if (target->view != NULL)
    progress->read_through_bytes = vma_view_read_through_bytes (target->view, disk);
  if (target->files != NULL) {
    VmaFilesCounts counts;

    vma_files_get_counts (target->files, disk, &counts);
    progress->cow_bytes = counts.bytes;
    progress->cow_requests = counts.requests;
    progress->cow_ns = counts.ns;
    progress->cow_max_ns = counts.max_ns;
  }
}

guint64
vma_target_scratch_bytes (VmaTarget *target)
{
  return target->sink->ops->waiting (target->sink);
}
