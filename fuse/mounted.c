/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/mounted.h"

#include "fuse/file-id.h"
#include "fuse/log.h"
#include "fuse/parked.h"
#include "image/delta.h"
#include "source/nbd-uri.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <uuid/uuid.h>

/* Many archives may be open in a mount of a directory: the part of the cache that each gets. */
#define CACHE_SHARE 8
#define DEFAULT_CACHE ((guint64) 256 << 20)
#define LEAST_CACHE ((guint64) 32 << 20)

static void
on_report (gpointer data G_GNUC_UNUSED, const GError *what)
{
  vma_log_error (what);
}

static void
set_owner (VmaMounted *mounted, const char *path)
{
  struct stat st = { .st_uid = geteuid (), .st_gid = getegid (), .st_mode = 0400 };

  if (mounted->options->overlay) /* who mounts writes, not who made the backup */
    st.st_mode = 0600;
  else
    stat (path, &st);
  mounted->owner = vma_owner_of (&st, mounted->options);
  mounted->mtime = st.st_mtim;
}

/* Takes `archive`, which may be NULL. */
static VmaMounted *
mounted_new (const char *path, VmaArchive *archive, const VmaMountOptions *options,
             const VmaMountedPlace *place)
{
  VmaMounted *mounted = g_new0 (VmaMounted, 1);
  VmaTreePlace tree_place = { 0 };

  mounted->options = options;
  g_autofree char *display = vma_nbd_display (path);
  mounted->source = vma_nbd_absolute (display);
  mounted->archive = archive;
  mounted->errors = vma_read_errors_new ();
  mounted->parked = vma_parked_new (archive);
  mounted->cancellable = g_cancellable_new ();
  mounted->growing = options->follow || (place != NULL && place->growing);
  mounted->watched_fd = -1;
  atomic_init (&mounted->last_used, g_get_monotonic_time ());
  if (place != NULL) {
    mounted->in_directory = TRUE;
    mounted->failure = g_strdup (place->failure);
    mounted->notes = g_strdup (place->notes);
    mounted->log = g_strdup (place->log);
    tree_place = (VmaTreePlace){ place->first, mounted->notes, mounted->log };
  }
  mounted->tree = vma_tree_new (archive, place != NULL ? &tree_place : NULL);
  if (archive != NULL && options->parts)
    mounted->parts = vma_parts_new (archive, mounted->tree);
  set_owner (mounted, path);
  return mounted;
}

/* A delta by itself has gaps, which would come up as damage. */
static gboolean
is_delta (VmaArchive *archive, GError **error)
{
  guint8 uuid[VMA_UUID_SIZE];
  char text[UUID_STR_LEN];

  if (!vma_delta_base_uuid (vma_archive_header (archive), uuid))
    return FALSE;
  uuid_unparse_lower (uuid, text);
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "%s: has only what changed since the archive with the uuid %s (mount with "
               "-o base=ARCHIVE)",
               vma_archive_path (archive), text);
  return TRUE;
}

static VmaArchive *
open_archive (const char *path, const VmaMountOptions *options, const VmaMountedPlace *place,
              GError **error)
{
  VmaArchiveOptions archive_options = vma_mount_options_archive (options);

  archive_options.report = on_report;
  if (place != NULL) {
    guint64 cache = options->cache_size != 0 ? options->cache_size : DEFAULT_CACHE;
    archive_options.cache_size = MAX (cache / CACHE_SHARE, LEAST_CACHE);
    archive_options.follow |= place->growing;
    archive_options.cancellable = place->cancellable;
  }
  g_autoptr (VmaArchive) archive = vma_archive_open (path, &archive_options, error);
  if (archive == NULL)
    return NULL;
  if (options->base == NULL && !options->salvage && is_delta (archive, error))
    return NULL;
  if (vma_source_is_sequential (vma_archive_source (archive))) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: a pipe cannot be mounted (store the archive in a file first)", path);
    return NULL;
  }
  return g_steal_pointer (&archive);
}

/* Opens the file to be watched, and sees to it that it is the one that is wanted.  -1 and an error.
 */
static int
open_watched (const char *path, const VmaMountedPlace *place, struct stat *st, GError **error)
{
  int fd = open (path, O_PATH | O_CLOEXEC);

  if (fd < 0 || fstat (fd, st) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot open", path);
    if (fd >= 0)
      close (fd);
    return -1;
  }
  if (place->growing ? vma_file_is_same (st, place->file) : vma_file_is_unchanged (st, place->file))
    return fd;
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: the file was replaced", path);
  close (fd);
  return -1;
}

VmaMounted *
vma_mounted_open (const char *path, const VmaMountOptions *options, const VmaMountedPlace *place,
                  GError **error)
{
  struct stat before = { 0 }, after;
  int fd = -1;

  if (place != NULL && (fd = open_watched (path, place, &before, error)) < 0)
    return NULL;
  g_autoptr (VmaArchive) archive = open_archive (path, options, place, error);
  /* The path was opened twice. */
  if (archive != NULL && fd >= 0
      && (stat (path, &after) != 0 || !vma_file_is_same (&before, &after))) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: the file was replaced", path);
    g_clear_pointer (&archive, vma_archive_free);
  }
  if (archive == NULL) {
    if (fd >= 0)
      close (fd);
    return NULL;
  }
  g_autoptr (VmaOverlay) overlay = NULL;
  if (options->overlay) {
    overlay = vma_overlay_open_prepared (options->overlay_file, &options->scratch, archive, error);
    if (overlay == NULL)
      return NULL;
  }
  VmaMounted *mounted = mounted_new (path, g_steal_pointer (&archive), options, place);
  mounted->overlay = g_steal_pointer (&overlay);
  mounted->watched_fd = fd;
  mounted->watched = before;
  if (fd >= 0 && mounted->growing) {
    close (fd); /* of a file that grows nobody can tell */
    mounted->watched_fd = -1;
  }
  return mounted;
}

VmaMounted *
vma_mounted_broken (const char *path, const VmaMountOptions *options, const VmaMountedPlace *place,
                    const GError *failure)
{
  VmaMounted *mounted = mounted_new (path, NULL, options, place);

  g_free (mounted->failure);
  mounted->failure = g_strdup (failure->message);
  return mounted;
}

void
vma_mounted_stop (VmaMounted *mounted)
{
  g_cancellable_cancel (mounted->cancellable);
  vma_parked_stop (mounted->parked);
}

void
vma_mounted_free (VmaMounted *mounted)
{
  g_autoptr (GError) error = NULL;

  vma_mounted_stop (mounted);
  vma_parked_free (mounted->parked);
  g_object_unref (mounted->cancellable);
  if (mounted->overlay != NULL && !vma_overlay_close (mounted->overlay, &error))
    vma_log_error (error);
  g_clear_pointer (&mounted->overlay, vma_overlay_free);
  vma_read_errors_free (mounted->errors);
  g_clear_pointer (&mounted->parts, vma_parts_free);
  vma_tree_free (mounted->tree);
  g_clear_pointer (&mounted->archive, vma_archive_free);
  if (mounted->watched_fd >= 0)
    close (mounted->watched_fd);
  g_free (mounted->source);
  g_free (mounted->failure);
  g_free (mounted->notes);
  g_free (mounted->log);
  g_free (mounted);
}

void
vma_mounted_hold (VmaMounted *mounted)
{
  atomic_fetch_add (&mounted->users, 1);
}

void
vma_mounted_release (VmaMounted *mounted)
{
  if (mounted->in_directory)
    atomic_store (&mounted->last_used, g_get_monotonic_time ());
  /* From here on it may be gone. */
  atomic_fetch_sub (&mounted->users, 1);
}

gboolean
vma_mounted_check_unchanged (VmaMounted *mounted, GError **error)
{
  struct stat st;

  if (mounted->watched_fd < 0
      || (fstat (mounted->watched_fd, &st) == 0 && vma_file_is_unchanged (&st, &mounted->watched)))
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO,
               "%s: the archive was changed while it was in use (open the file again)",
               mounted->source);
  return FALSE;
}

char *
vma_mounted_dup_failure (VmaMounted *mounted)
{
  if (mounted->archive == NULL)
    return g_strdup (mounted->failure);

  VmaIndex *index = vma_archive_index (mounted->archive);
  VmaIndexState state = vma_index_state (index);
  if (state == VMA_INDEX_COMPLETE)
    return NULL;
  g_autoptr (GError) failure = vma_index_dup_failure (index);
  if (state == VMA_INDEX_BUILDING || failure == NULL
      || g_error_matches (failure, VMA_ERROR, VMA_ERROR_CANCELLED))
    return g_strdup (mounted->failure);
  return g_strdup_printf ("%s: %s%s", mounted->source, failure->message, vma_log_advice (failure));
}
