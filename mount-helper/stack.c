/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/stack.h"

#include "guest/guest.h"
#include "image/find.h"
#include "mount-helper/driver.h"
#include "mount-helper/loop.h"
#include "mount-helper/message.h"
#include "mount-helper/target.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <string.h>
#include <unistd.h>

/* What was found, without the archive that it was found in. */
typedef struct {
  VmaGuestVolume volume; /* its `image` is not set; strings are ours */
  char *file;            /* the image's name in the mount */
  LoopTag tag;
} Found;

static void
found_clear (Found *found)
{
  g_free (found->volume.name);
  g_free (found->volume.fs_type);
  g_free (found->volume.fs_usage);
  g_free (found->file);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Found, found_clear)

static void
on_report (gpointer data G_GNUC_UNUSED, const GError *what)
{
  g_autoptr (GError) error = g_error_new_literal (HELPER_ERROR, 0, what->message);

  helper_fail (error);
}

static VmaArchive *
open_archive (const MountArguments *arguments, GError **error)
{
  const VmaMountOptions *driver = &arguments->driver;
  const VmaArchiveOptions options = {
    .salvage = driver->salvage,
    .cache_dir = driver->cache_dir,
    .cache_size = driver->cache_size,
    .memory_limit = driver->memory_limit,
    .follow = driver->follow,
    .report = on_report,
  };
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
  };
  const char *rule = NULL;
  const VmaGuestVolume *volume = vma_guest_find (guest, &wanted, &rule, cancellable, error);

  if (volume != NULL && arguments->verbose)
    helper_say ("%s: %s at %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT " bytes, %s%s%s",
                vma_archive_path (guest->archive), volume->name, volume->offset, volume->length,
                volume->fs_type != NULL ? volume->fs_type : "nothing known", rule != NULL ? ": " : "",
                rule != NULL ? rule : "");
  return volume;
}

/* Whether it can be mounted at all, and as what. */
static gboolean
take_volume (const MountArguments *arguments, VmaArchive *archive, const VmaGuestVolume *volume,
             Found *found, GError **error)
{
  const char *wish = arguments->fs_type;
  gboolean is_wish = wish != NULL && *wish != '\0';

  found->volume = (VmaGuestVolume){
    .name = vma_name_escape (volume->name),
    .kind = volume->kind,
    .offset = volume->offset,
    .length = volume->length,
    .is_window = volume->is_window,
    .fs_type = g_strdup (is_wish ? wish : volume->fs_type),
    .fs_usage = g_strdup (is_wish ? "filesystem" : volume->fs_usage),
  };
  found->file = g_strdup (
      vma_names_device (vma_archive_names (archive), vma_image_device (volume->image)->id));
  if (found->volume.fs_type == NULL || vma_guest_mount_options (&found->volume) == NULL) {
    g_set_error (error, HELPER_ERROR, MNT_EX_FAIL, "%s: %s of %s holds %s, no file system (vmatool parts %s "
                 "shows what there is)",
                 arguments->archive, found->volume.name, found->file,
                 found->volume.fs_type != NULL ? found->volume.fs_type : "nothing that is known",
                 arguments->archive);
    return FALSE;
  }
  return TRUE;
}

/*
 * Looks for the volume, with an index of our own.  Whoever looks at a whole disk waits for most of a
 * scan; so it is finished and saved before vmafs is started, which then needs none.
 */
static gboolean
find (const MountArguments *arguments, Found *found, GCancellable *cancellable, GError **error)
{
  g_autoptr (VmaArchive) archive = open_archive (arguments, error);
  const VmaDevice *disk = NULL;

  if (archive == NULL)
    return FALSE;
  if (arguments->disk != NULL
      && (disk = vma_archive_find_disk (archive, arguments->disk, error)) == NULL)
    return FALSE;
  VmaImage *only = disk != NULL ? vma_archive_image (archive, disk->id) : NULL;
  g_autoptr (VmaGuest) guest = vma_guest_probe (archive, only, cancellable, error);
  if (guest == NULL)
    return FALSE;
  const VmaGuestVolume *volume = find_volume (arguments, guest, cancellable, error);
  if (volume == NULL || !take_volume (arguments, archive, volume, found, error))
    return FALSE;
  return arguments->driver.cache_dir == NULL || arguments->driver.follow
         || vma_archive_wait_index (archive, -1, cancellable, error);
}

/* The same archive, disk and place give the same key. */
static void
set_key (const MountArguments *arguments, Found *found)
{
  g_autofree char *text = g_strdup_printf (
      "%s/%s/%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT, arguments->archive, found->file,
      found->volume.offset, found->volume.length);
  g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, text, -1);

  g_strlcpy (found->tag.key, sum, sizeof found->tag.key);
}

/*
 * Whether it is mounted there already.  mount(8) cannot see that, since it looks for the archive and finds
 * a loop device; and a second `mount -a` must do nothing.
 */
static gboolean
is_mounted (const MountArguments *arguments, const Found *found, GError **error)
{
  g_autofree char *source = target_source (arguments);
  LoopTag there;

  if (source == NULL || !g_str_has_prefix (source, "/dev/loop") || !loop_get_tag (source, &there)
      || strcmp (there.key, found->tag.key) != 0)
    return FALSE;
  int pidfd = driver_pidfd (there.pid);
  if (pidfd >= 0) {
    close (pidfd);
    if (arguments->verbose)
      helper_say ("%s: already mounted on %s", arguments->archive, arguments->dir);
    return TRUE;
  }
  g_set_error (error, HELPER_ERROR, MNT_EX_FAIL,
               "%s: a dead mount is in the way (remove it with: umount -l %s)", arguments->dir,
               arguments->dir);
  return FALSE;
}

/* A descriptor of the loop device, which keeps everything below it. */
static int
attach (const MountArguments *arguments, Found *found, GCancellable *cancellable, char **device,
        GError **error)
{
  int mount_fd = driver_mount_detached (arguments->archive, arguments->driver_list,
                                        arguments->writable, cancellable, error);
  if (mount_fd < 0)
    return -1;

  int loop = -1, mode = arguments->writable ? O_RDWR : O_RDONLY;
  int file = openat (mount_fd, found->file, mode | O_CLOEXEC | O_NOFOLLOW);
  if (file >= 0) {
    found->tag.pid = driver_pid (mount_fd);
    loop = loop_attach (file, found->volume.offset, found->volume.length, arguments->writable,
                        &found->tag, device, error);
    close (file);
  } else
    helper_set_errno (error, MNT_EX_FAIL, errno, "%s: cannot open %s", arguments->archive, found->file);
  close (mount_fd);
  return loop;
}

gboolean
stack_mount (const MountArguments *arguments, GCancellable *cancellable, GError **error)
{
  g_auto (Found) found = { 0 };
  g_autofree char *device = NULL;
  g_autoptr (GError) dead = NULL;

  if (!find (arguments, &found, cancellable, error))
    return FALSE;
  set_key (arguments, &found);
  if (arguments->namespace == NULL && is_mounted (arguments, &found, &dead))
    return TRUE;
  if (dead != NULL) {
    g_propagate_error (error, g_steal_pointer (&dead));
    return FALSE;
  }
  if (arguments->fake)
    return TRUE;
  int loop = attach (arguments, &found, cancellable, &device, error);
  if (loop < 0)
    return FALSE;
  gboolean ok = !g_cancellable_is_cancelled (cancellable);
  if (!ok)
    helper_set_interrupted (error);
  else
    ok = target_mount_volume (arguments, &found.volume, device, error);
  close (loop);
  return ok;
}
