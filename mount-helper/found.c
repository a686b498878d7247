/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/found.h"

#include "image/find.h"
#include "mount-helper/mapper.h"
#include "mount-helper/message.h"
#include "tool/progress.h"

#include <libmount.h>
#include <uuid/uuid.h>

#define INTERVAL_MS 100

static void
piece_clear (FoundPiece *piece)
{
  g_free (piece->file);
  g_free (piece->pv_uuid);
}

void
found_clear (Found *found)
{
  g_free (found->volume.name);
  g_free (found->volume.fs_type);
  g_free (found->volume.fs_usage);
  g_clear_pointer (&found->pieces, g_array_unref);
}
static void
on_report (gpointer data G_GNUC_UNUSED, const GError *what)
{
  g_autoptr (GError) error = g_error_new_literal (HELPER_ERROR, 0, what->message);

  helper_fail (error);
}

static VmaArchive *
open_archive (const MountArguments *arguments, GError **error)
{
  VmaArchiveOptions options = vma_mount_options_archive (&arguments->driver);

  options.report = on_report;
  options.quiet_checksums = TRUE; /* the driver tells */
  if (g_file_test (arguments->archive, G_FILE_TEST_IS_DIR)) {
    g_set_error (error, HELPER_ERROR, MNT_EX_FAIL,
                 "%s: a directory holds no file system of a guest (name one archive in it)",
                 arguments->archive);
    return NULL;
  }
  g_autoptr (VmaArchive) archive = vma_archive_open (arguments->archive, &options, error);

  if (archive != NULL && vma_source_is_sequential (vma_archive_source (archive))) {
    g_set_error (error, HELPER_ERROR, MNT_EX_FAIL,
                 "%s: a pipe cannot be mounted (store the archive in a file first)",
                 arguments->archive);
    return NULL;
  }
  if (archive != NULL)
    vma_archive_start_index (archive);
  return g_steal_pointer (&archive);
}

static const VmaGuestVolume *
find_volume (const MountArguments *arguments, const VmaGuest *guest, GCancellable *cancellable,
             GError **error)
{
  const VmaGuestWanted wanted = {
    .part = arguments->lv != NULL ? arguments->lv : arguments->part,
    .label = arguments->label,
    .uuid = arguments->uuid,
    .accept_pieces = TRUE,
  };
  const char *rule = NULL;
  const VmaGuestVolume *volume = vma_guest_find (guest, &wanted, &rule, cancellable, error);

  if (volume != NULL && arguments->verbose)
    helper_say ("%s: %s at %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT " bytes, %s%s%s",
                vma_archive_path (guest->archive), volume->name, volume->offset, volume->length,
                volume->fs_type != NULL ? volume->fs_type : "nothing known",
                rule != NULL ? ": " : "", rule != NULL ? rule : "");
  return volume;
}

static char *
file_of (VmaArchive *archive, VmaImage *image)
{
  return g_strdup (vma_names_device (vma_archive_names (archive), vma_image_device (image)->id));
}

void
found_set_type (Found *found, const MountArguments *arguments, const char *type, const char *usage)
{
  const char *wish = arguments->fs_type;
  gboolean is_wish = wish != NULL && *wish != '\0';

  found->volume.fs_type = g_strdup (is_wish ? wish : type);
  found->volume.fs_usage = g_strdup (is_wish ? "filesystem" : usage);
}

static void
take_volume (const MountArguments *arguments, VmaArchive *archive, const VmaGuestVolume *volume,
             Found *found)
{
  found->volume = (VmaGuestVolume){
    .name = vma_name_escape (volume->name),
    .kind = volume->kind,
    .is_window = TRUE, /* at the latest when it is put together */
  };
  found_set_type (found, arguments, volume->fs_type, volume->fs_usage);
  uuid_unparse_lower (vma_archive_header (archive)->uuid, found->uuid);
  found->pieces = g_array_new (FALSE, FALSE, sizeof (FoundPiece));
  g_array_set_clear_func (found->pieces, (GDestroyNotify) piece_clear);
  if (volume->is_window) {
    FoundPiece all = { file_of (archive, volume->image), volume->offset, volume->length, NULL };
    g_array_append_val (found->pieces, all);
    return;
  }
  for (guint i = 0; i < volume->pieces->len; i++) {
    const VmaGuestPiece *from = &g_array_index (volume->pieces, VmaGuestPiece, i);
    FoundPiece piece
        = { file_of (archive, from->image), from->offset, from->length, g_strdup (from->pv_uuid) };
    g_array_append_val (found->pieces, piece);
  }
}

gboolean
found_check_type (const Found *found, const MountArguments *arguments, GError **error)
{
  if (found->volume.fs_type != NULL && vma_guest_mount_options (&found->volume) != NULL)
    return TRUE;
  g_set_error (error, HELPER_ERROR, MNT_EX_FAIL,
               "%s: %s of %s holds %s, no file system (vmatool parts %s shows what there is)",
               arguments->archive, found->volume.name, found_piece (found, 0)->file,
               found->volume.fs_type != NULL ? found->volume.fs_type : "nothing that is known",
               arguments->archive);
  return FALSE;
}

/* The same archive, disk and place give the same key. */
static void
set_key (const MountArguments *arguments, Found *found)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);

  g_checksum_update (sum, (const guint8 *) arguments->archive, -1);
  for (guint i = 0; i < found->pieces->len; i++) {
    const FoundPiece *piece = found_piece (found, i);
    g_autofree char *text = g_strdup_printf ("/%s/%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT,
                                             piece->file, piece->offset, piece->length);
    g_checksum_update (sum, (const guint8 *) text, -1);
  }
  g_strlcpy (found->tag.key, g_checksum_get_string (sum), sizeof found->tag.key);
}

/* All of the index, so that it is saved.  A bar shows how far it is, on a terminal. */
static gboolean
wait_for_index (VmaArchive *archive, GCancellable *cancellable, GError **error)
{
  guint64 size = vma_source_size (vma_archive_source (archive));
  g_autoptr (GError) failure = NULL;
  gboolean ok;

  tool_progress_start ("indexing", size != VMA_SIZE_UNKNOWN ? size : 0);
  while (!(ok = vma_archive_wait_index (archive, INTERVAL_MS, cancellable, &failure))
         && failure == NULL)
    tool_progress_set (vma_index_position (vma_archive_index (archive)));
  tool_progress_end ();
  if (failure != NULL)
    g_propagate_error (error, g_steal_pointer (&failure));
  return ok;
}

/*
 * With an index of our own.  Whoever looks at both ends of a disk waits for most of a scan; so it
 * is finished and saved before vmafs is started, which then needs none.
 */
gboolean
found_search (Found *found, const MountArguments *arguments, GCancellable *cancellable,
              GError **error)
{
  g_autoptr (VmaArchive) archive = open_archive (arguments, error);
  const VmaMountOptions *driver = &arguments->driver;
  const VmaDevice *disk = NULL;

  if (archive == NULL)
    return FALSE;
  if (driver->cache_dir != NULL && !driver->follow && !wait_for_index (archive, cancellable, error))
    return FALSE;
  if (arguments->disk != NULL
      && (disk = vma_archive_find_disk (archive, arguments->disk, error)) == NULL)
    return FALSE;
  VmaImage *only = disk != NULL ? vma_archive_image (archive, disk->id) : NULL;
  g_autoptr (VmaGuest) guest = vma_guest_probe (archive, only, cancellable, error);
  if (guest == NULL)
    return FALSE;
  const VmaGuestVolume *volume = find_volume (arguments, guest, cancellable, error);
  if (volume == NULL)
    return FALSE;
  take_volume (arguments, archive, volume, found);
  set_key (arguments, found);
  if (found_is_in_pieces (found) ? !mapper_check (error)
                                 : !found_check_type (found, arguments, error))
    return FALSE;
  return TRUE;
}
