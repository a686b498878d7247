/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image/archive.h"

#include "base/thread.h"
#include "image/delta.h"
#include "image/image-impl.h"
#include "index/lock.h"
#include "index/saved.h"
#include "source/checked.h"
#include "source/nbd-uri.h"
#include "vma/error.h"

#include <stdatomic.h>
#include <string.h>

struct VmaArchive {
  char *path;
  VmaArchive *base; /* NULL: none */
  gboolean salvage;
  VmaReport report;
  gpointer report_data;

  VmaSource *source;
  VmaHeader *header;
  VmaNames *names;
  VmaImage images[VMA_MAX_DEVICES];

  VmaSums *sums; /* the source's; NULL: its data are not checked */
  VmaIndexKey key;
  char *index_path; /* NULL: not kept */
  gboolean loaded;

  _Atomic (VmaIndex *) index;
  pthread_mutex_t lock; /* of what follows */
  GPtrArray *replaced;  /* indexes that readers may still be looking into */
  GCancellable *cancel; /* of the thread */
  gboolean report_failure;
  gboolean running;
  pthread_t thread;
};

static void
report_error (VmaArchive *archive, const GError *error)
{
  g_autoptr (GError) named = g_error_copy (error);

  if (archive->report == NULL)
    return;
  vma_archive_prefix_error (archive, &named);
  archive->report (archive->report_data, named);
}

static void
report_note (VmaArchive *archive, const char *message, const char *consequence)
{
  g_autoptr (GError) note
      = g_error_new (VMA_ERROR, VMA_ERROR_NOTE, "%s; %s", message, consequence);

  report_error (archive, note);
}

void
vma_archive_prefix_error (VmaArchive *archive, GError **error)
{
  g_prefix_error (error, "%s: ", archive->path);
}

static VmaHeader *
read_header (VmaSource *source, GCancellable *cancellable, GError **error)
{
  g_autofree guint8 *fixed = g_malloc (VMA_HEADER_FIXED_SIZE);
  gssize got = vma_source_pread (source, fixed, VMA_HEADER_FIXED_SIZE, 0, VMA_READ_INDEX,
                                 cancellable, error);

  if (got < 0)
    return NULL;
  guint32 size = vma_header_peek_size (fixed, (gsize) got, error);
  if (size == 0)
    return NULL;

  /* Grown as it arrives: a short file may claim a large header. */
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  g_byte_array_append (bytes, fixed, VMA_HEADER_FIXED_SIZE);
  while (bytes->len < size) {
    guint at = bytes->len;
    gsize step = MIN (size - at, 1024 * 1024);
    g_byte_array_set_size (bytes, at + (guint) step);
    got = vma_source_pread (source, bytes->data + at, step, at, VMA_READ_INDEX, cancellable, error);
    if (got < 0)
      return NULL;
    if (got < (gssize) step) {
      g_byte_array_set_size (bytes, at + (guint) got);
      break;
    }
  }
  return vma_header_parse (bytes->data, bytes->len, error);
}

/* What is not listed of these disks is in the base. */
static void
allow_missing (VmaArchive *archive, VmaIndex *index)
{
  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    if (archive->images[id].base != NULL)
      vma_index_allow_missing (index, (guint8) id);
}

static VmaIndex *
new_index (VmaArchive *archive, GError **error)
{
  VmaIndex *index = vma_index_new (archive->header, error);

  if (index != NULL)
    allow_missing (archive, index);
  return index;
}

/* Lays the archive over its base. */
static gboolean
open_base (VmaArchive *archive, const VmaArchiveOptions *options, GError **error)
{
  VmaArchiveOptions base_options = *options;

  if (options->salvage) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "what was lost cannot be told from what did not change: no salvage with a base");
    return FALSE;
  }
  base_options.base = NULL;
  base_options.follow = FALSE;
  archive->base = vma_archive_open (options->base, &base_options, error);
  if (archive->base == NULL || !vma_delta_match (archive->header, archive->base, error))
    return FALSE;
  for (guint i = 0; i < archive->header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (archive->header->devices, i);
    const VmaDevice *other = vma_delta_device (archive->base, device);
    if (other != NULL)
      archive->images[device->id].base = vma_archive_image (archive->base, other->id);
  }
  return TRUE;
}

/* An index as the cache has it, finished or to be gone on with; NULL where there is none to be used. */
static VmaIndex *
load_index (VmaArchive *archive)
{
  g_autoptr (GError) error = NULL;
  gboolean partial = FALSE;

  if (archive->index_path == NULL)
    return NULL;
  g_autoptr (VmaIndex) index = vma_saved_index_load (archive->index_path, &archive->key,
                                                     archive->header, &partial, &error);
  if (index == NULL) {
    if (error != NULL)
      report_note (archive, error->message, "scanning the archive again");
    return NULL;
  }
  /* A compressed file without all its checkpoints needs a pass anyway, which brings the index too. */
  if (!partial && vma_source_size (archive->source) == VMA_SIZE_UNKNOWN)
    return NULL;

  allow_missing (archive, index);
  g_autoptr (GPtrArray) damage = vma_index_dup_damage (index);
  archive->loaded = !partial;
  if (damage->len > 0 && !archive->salvage) {
    const VmaDamage *first = g_ptr_array_index (damage, 0);
    g_autoptr (GError) failure
        = g_error_new_literal (VMA_ERROR, VMA_ERROR_DAMAGED, first->reason);
    vma_index_fail (index, failure);
  } else if (!partial)
    vma_index_complete (index, !archive->salvage, NULL);
  return g_steal_pointer (&index);
}

char *
vma_archive_checksums_path (VmaArchive *archive, const char *dir, VmaSumsKey *key)
{
  VmaSourceIdentity identity;

  /* A compressed file has hashes of its content beside its checkpoints. */
  if (dir == NULL || (archive->sums == NULL && vma_source_checks_data (archive->source))
      || !vma_source_identity (archive->source, &identity, NULL))
    return NULL;
  *key = (VmaSumsKey){ .size = identity.size, .mtime_ns = identity.mtime_ns };
  memcpy (key->uuid, archive->header->uuid, sizeof key->uuid);
  return vma_sums_path (dir, key);
}

/* VmaSumsNote */
static void
report_sums (gpointer data, const char *message)
{
  report_note (data, message, "some of its data are not checked");
}

/* From here on what is read of the data is checked, where there are sums. */
static void
attach_sums (VmaArchive *archive, const char *dir, gboolean quiet)
{
  g_autoptr (GError) error = NULL;
  VmaSumsKey key;
  g_autofree char *path = vma_archive_checksums_path (archive, dir, &key);

  if (path == NULL)
    return;
  archive->sums = vma_sums_open (path, &key, report_sums, archive, &error);
  if (archive->sums != NULL)
    archive->source = vma_checked_source_new (archive->source, archive->sums);
  else if (error != NULL && !quiet)
    report_note (archive, error->message, "its data are not checked");
}

VmaArchive *
vma_archive_open (const char *path, const VmaArchiveOptions *options, GError **error)
{
  g_autoptr (VmaArchive) archive = g_new0 (VmaArchive, 1);

  archive->path = vma_nbd_display (path);
  archive->cancel = g_cancellable_new ();
  archive->replaced = g_ptr_array_new_with_free_func ((GDestroyNotify) vma_index_free);
  pthread_mutex_init (&archive->lock, NULL);
  if (options != NULL) {
    archive->salvage = options->salvage;
    archive->report = options->report;
    archive->report_data = options->report_data;
  }

  VmaSourceOptions source_options = { 0 };
  if (options != NULL)
    source_options = (VmaSourceOptions){
      .cache_dir = options->cache_dir,
      .cache_size = options->cache_size,
      .memory_limit = options->memory_limit,
      .follow = options->follow,
    };
  archive->source = vma_source_open (path, &source_options, error);
  if (archive->source != NULL)
    archive->header = read_header (archive->source, options != NULL ? options->cancellable : NULL,
                                   error);
  if (archive->header == NULL) {
    vma_archive_prefix_error (archive, error);
    return NULL;
  }
  archive->names = vma_names_new (archive->header);
  for (guint i = 0; i < archive->header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (archive->header->devices, i);
    archive->images[device->id] = (VmaImage){ .archive = archive, .device = device };
  }

  if (options != NULL && options->base != NULL && !open_base (archive, options, error)) {
    vma_archive_prefix_error (archive, error);
    return NULL;
  }

  if (options != NULL && options->cache_dir != NULL && !options->follow
      && vma_source_identity (archive->source, &archive->key.source, NULL)) {
    memcpy (archive->key.uuid, archive->header->uuid, VMA_UUID_SIZE);
    archive->index_path = vma_saved_index_path (options->cache_dir, &archive->key);
  }
  if (options != NULL && !options->follow)
    attach_sums (archive, options->checksums_dir, options->quiet_checksums);
  VmaIndex *index = load_index (archive);
  if (index == NULL)
    index = new_index (archive, error);
  if (index == NULL) {
    vma_archive_prefix_error (archive, error);
    return NULL;
  }
  atomic_init (&archive->index, index);
  return g_steal_pointer (&archive);
}

static void
stop_thread (VmaArchive *archive)
{
  gboolean running;

  g_cancellable_cancel (archive->cancel);
  {
    VMA_LOCK (&archive->lock);
    running = archive->running;
    archive->running = FALSE;
  }
  if (running)
    pthread_join (archive->thread, NULL);
}

void
vma_archive_free (VmaArchive *archive)
{
  stop_thread (archive);
  VmaIndex *index = atomic_load (&archive->index);
  g_clear_pointer (&index, vma_index_free);
  g_ptr_array_unref (archive->replaced);
  g_clear_pointer (&archive->names, vma_names_free);
  g_clear_pointer (&archive->header, vma_header_free);
  g_clear_pointer (&archive->source, vma_source_unref);
  g_clear_pointer (&archive->base, vma_archive_free);
  g_object_unref (archive->cancel);
  pthread_mutex_destroy (&archive->lock);
  g_free (archive->index_path);
  g_free (archive->path);
  g_free (archive);
}

/* An interrupted scan's maps are kept up to this size: somebody waits for us to end. */
#define PARTIAL_MAX (64u * 1024u * 1024u)

static void
store_index (VmaArchive *archive, VmaIndex *index)
{
  g_autoptr (GError) error = NULL;

  if (archive->index_path == NULL || !vma_index_may_be_saved (index)
      || (vma_index_state (index) != VMA_INDEX_COMPLETE && vma_index_memory (index) > PARTIAL_MAX))
    return;
  if (!vma_saved_index_store (archive->index_path, &archive->key, archive->header, index, NULL,
                              &error)
      && !g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED))
    report_note (archive, error->message, "the next use will scan again (see --index-cache)");
}

/* Tells of a failed scan, once, if it was asked to.  The caller holds the lock. */
static void
report_failure (VmaArchive *archive)
{
  g_autoptr (GError) failure = vma_index_dup_failure (vma_archive_index (archive));

  if (!archive->report_failure || failure == NULL
      || g_error_matches (failure, VMA_ERROR, VMA_ERROR_CANCELLED))
    return;
  archive->report_failure = FALSE;
  report_error (archive, failure);
}

void
vma_archive_report_index_failure (VmaArchive *archive)
{
  if (archive->base != NULL)
    vma_archive_report_index_failure (archive->base);
  VMA_LOCK (&archive->lock);
  archive->report_failure = TRUE;
  report_failure (archive);
}

static void *
scan_thread (void *data)
{
  VmaArchive *archive = data;
  VmaIndex *index = vma_archive_index (archive);
  g_autoptr (VmaScanner) scanner = vma_archive_scanner_new (archive);

  g_autoptr (GError) failure = NULL;
  gboolean complete = vma_scanner_run (scanner, archive->cancel, &failure);
  if (complete || g_error_matches (failure, VMA_ERROR, VMA_ERROR_CANCELLED))
    store_index (archive, index);
  if (!complete) {
    VMA_LOCK (&archive->lock);
    report_failure (archive);
  }
  return NULL;
}

/* The caller holds the lock. */
static void
start_thread (VmaArchive *archive)
{
  int failed = vma_thread_start (&archive->thread, scan_thread, archive);
  archive->running = failed == 0;
  if (failed != 0) {
    g_autoptr (GError) error = NULL;
    vma_set_errno_error (&error, failed, "cannot start the scan");
    vma_index_fail (vma_archive_index (archive), error);
  }
}

void
vma_archive_start_index (VmaArchive *archive)
{
  if (archive->base != NULL)
    vma_archive_start_index (archive->base);
  VMA_LOCK (&archive->lock);
  if (!archive->running && vma_index_state (vma_archive_index (archive)) == VMA_INDEX_BUILDING)
    start_thread (archive);
}

gboolean
vma_archive_wait_index (VmaArchive *archive, gint64 timeout_ms, GCancellable *cancellable,
                        GError **error)
{
  VmaIndex *index = vma_archive_index (archive);
  gint64 until = g_get_monotonic_time () + timeout_ms * 1000;
  guint64 seen = 0;

  for (;;) {
    gint64 left = timeout_ms < 0 ? 100 : (until - g_get_monotonic_time ()) / 1000;
    if (vma_index_wait (index, &seen, (guint) CLAMP (left, 0, 100)))
      break;
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
    if (left <= 0)
      return FALSE;
  }
  if (vma_index_wait_finished (index, NULL, error)) {
    gint64 left = MAX (until - g_get_monotonic_time (), 0) / 1000;
    return archive->base == NULL
           || vma_archive_wait_index (archive->base, timeout_ms < 0 ? -1 : left, cancellable, error);
  }
  vma_archive_prefix_error (archive, error);
  return FALSE;
}

VmaScanner *
vma_archive_scanner_new (VmaArchive *archive)
{
  return vma_scanner_new (archive->source, archive->header, vma_archive_index (archive),
                          archive->salvage);
}

/* Puts a new index in the place of a loaded one; FALSE where that was done already. */
static gboolean
replace_index (VmaArchive *archive, VmaIndex *index)
{
  VMA_LOCK (&archive->lock);
  if (index != vma_archive_index (archive) || g_cancellable_is_cancelled (archive->cancel))
    return FALSE;
  VmaIndex *fresh = new_index (archive, NULL);
  g_assert (fresh != NULL); /* one of the same size was there */
  g_ptr_array_add (archive->replaced, index);
  atomic_store_explicit (&archive->index, fresh, memory_order_release);
  start_thread (archive); /* the first use of the thread: the index was loaded, not scanned */
  return TRUE;
}

void
vma_archive_replace_index (VmaArchive *archive, VmaIndex *index)
{
  if (replace_index (archive, index))
    report_note (archive, "the saved index is damaged", "scanning the archive again");
}

const char *
vma_archive_path (VmaArchive *archive)
{
  return archive->path;
}

const VmaHeader *
vma_archive_header (VmaArchive *archive)
{
  return archive->header;
}

const VmaNames *
vma_archive_names (VmaArchive *archive)
{
  return archive->names;
}

VmaArchive *
vma_archive_base (VmaArchive *archive)
{
  return archive->base;
}

VmaSource *
vma_archive_source (VmaArchive *archive)
{
  return archive->source;
}

VmaSums *
vma_archive_checksums (VmaArchive *archive)
{
  return archive->sums;
}

gboolean
vma_archive_is_salvaging (VmaArchive *archive)
{
  return archive->salvage;
}

VmaIndex *
vma_archive_index (VmaArchive *archive)
{
  return atomic_load_explicit (&archive->index, memory_order_acquire);
}

gboolean
vma_archive_index_was_loaded (VmaArchive *archive)
{
  return archive->loaded;
}

const char *
vma_archive_index_path (VmaArchive *archive)
{
  return archive->index_path;
}

VmaImage *
vma_archive_image (VmaArchive *archive, guint8 device)
{
  return archive->images[device].device != NULL ? &archive->images[device] : NULL;
}
