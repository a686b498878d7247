/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/target.h"

#include "fuse/option-list.h"
#include "mount-helper/message.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* What umount(8) takes for "call umount.vmafs". */
#define UMOUNT_HELPER "helper=vmafs"

static gboolean
enter_namespace (const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  gboolean ok = fd >= 0 && setns (fd, CLONE_NEWNS) == 0;
  if (!ok)
    helper_set_errno (error, MNT_EX_SYSERR, errno, "-N %s: cannot enter this mount name space",
                      path);
  if (fd >= 0)
    close (fd);
  return ok;
}

gboolean
target_attach (const MountArguments *arguments, int mount_fd, GError **error)
{
  if (arguments->namespace != NULL && !enter_namespace (arguments->namespace, error))
    return FALSE;
  if (move_mount (mount_fd, "", AT_FDCWD, arguments->dir, MOVE_MOUNT_F_EMPTY_PATH) == 0)
    return TRUE;
  helper_set_errno (error, MNT_EX_FAIL, errno, "%s: cannot mount there", arguments->dir);
  return FALSE;
}

char *
target_source (const MountArguments *arguments)
{
  struct libmnt_context *context = mnt_new_context ();
  struct libmnt_fs *fs = NULL;
  char *source = NULL;

  if (context != NULL && mnt_context_find_umount_fs (context, arguments->dir, &fs) == 0)
    source = g_strdup (mnt_fs_get_source (fs));
  mnt_free_context (context);
  return source;
}

gboolean
target_note (const MountArguments *arguments, GError **error)
{
  struct libmnt_update *update = mnt_new_update ();
  struct libmnt_fs *fs = mnt_new_fs ();

  int result = update == NULL || fs == NULL ? -ENOMEM : 0;
  if (result == 0)
    result = mnt_fs_set_source (fs, arguments->archive);
  if (result == 0)
    result = mnt_fs_set_target (fs, arguments->dir);
  if (result == 0)
    result = mnt_fs_set_options (fs, UMOUNT_HELPER);
  if (result == 0)
    result = mnt_update_set_fs (update, 0, NULL, fs); /* 1: nothing is to be noted here */
  if (result == 0)
    result = mnt_update_table (update, NULL);
  if (result < 0)
    helper_set_errno (error, MNT_EX_FILEIO, -result,
                      "%s is mounted, but this cannot be noted in /run/mount/utab", arguments->dir);
  mnt_unref_fs (fs);
  mnt_free_update (update);
  return result >= 0;
}

/* --- a block device ------------------------------------------------------------------------- */

/*
 * What to call the file system when it is mounted, in the order in which it is tried.  NTFS has a
 * driver in newer kernels, and one in user space.
 */
typedef struct {
  const char *names[2]; /* the second may be NULL */
} Types;

static Types
types_of (const char *fs_type)
{
  return strcmp (fs_type, "ntfs") == 0 ? (Types){ { "ntfs3", "ntfs-3g" } }
                                       : (Types){ { fs_type, NULL } };
}

/* A snapshot is never written to; with an overlay it may be, and then its journal is replayed as
 * ever. */
static char *
options_for (const MountArguments *arguments, const VmaGuestVolume *volume)
{
  g_autoptr (GString) list = g_string_new (NULL);
  const char *frozen = vma_guest_mount_options (volume);

  if (!arguments->writable)
    g_string_append (list, frozen != NULL ? frozen : "ro");
  else /* the guest itself may be mounted on this machine */
    g_string_append (list, strcmp (volume->fs_type, "xfs") == 0 ? "rw,nouuid" : "rw");
  if (!arguments->suid)
    g_string_append (list, ",nosuid");
  if (!arguments->dev)
    g_string_append (list, ",nodev");
  if (*arguments->guest_list != '\0')
    g_string_append_printf (list, ",%s", arguments->guest_list);
  g_string_append (list, "," UMOUNT_HELPER);
  return g_string_free (g_steal_pointer (&list), FALSE);
}

static struct libmnt_context *
new_context (const MountArguments *arguments, const char *device, const char *type,
             const char *options)
{
  struct libmnt_context *context = mnt_new_context ();

  if (context == NULL)
    g_error ("out of memory");
  mnt_context_set_source (context, device);
  mnt_context_set_target (context, arguments->dir);
  mnt_context_set_fstype (context, type);
  mnt_context_set_options (context, options);
  mnt_context_disable_mtab (context, arguments->no_mtab);
  mnt_context_enable_sloppy (context, arguments->sloppy);
  mnt_context_enable_verbose (context, arguments->verbose);
  mnt_context_enable_fake (context, arguments->fake);
  mnt_context_set_mflags (context, 0);
  if (arguments->namespace != NULL)
    mnt_context_set_target_ns (context, arguments->namespace);
  return context;
}

static const char *
advice_for (int errnum)
{
  switch (errnum) {
  case EEXIST:
    return " (it has the same UUID as one that is mounted: umount that one first)";
  case EUCLEAN:
  case EINVAL:
  case EIO:
  case EROFS:
    return " (the kernel's log says why: dmesg | tail; with -o overlay a journal is replayed)";
  default:
    return "";
  }
}

static gboolean
mount_as (const MountArguments *arguments, const VmaGuestVolume *volume, const char *device,
          const char *type, gboolean *unknown, GError **error)
{
  g_autofree char *options = options_for (arguments, volume);
  struct libmnt_context *context = new_context (arguments, device, type, options);
  char message[BUFSIZ] = "";

  int result = mnt_context_mount (context);
  int status = mnt_context_get_excode (context, result, message, sizeof message);
  int errnum = mnt_context_syscall_called (context) ? mnt_context_get_syscall_errno (context) : 0;
  *unknown = status != 0 && errnum == ENODEV;
  if (status != 0 && mnt_context_helper_executed (context))
    g_set_error_literal (error, HELPER_ERROR, status, ""); /* it has said why */
  else if (status != 0 && errnum != 0)
    g_set_error (error, HELPER_ERROR, status, "%s: cannot mount %s on %s as %s: %s%s",
                 arguments->archive, volume->name, arguments->dir, type, g_strerror (errnum),
                 advice_for (errnum));
  else if (status != 0)
    g_set_error (error, HELPER_ERROR, status, "%s: cannot mount %s on %s as %s: %s",
                 arguments->archive, volume->name, arguments->dir, type,
                 *message != '\0' ? g_strchomp (message) : "libmount does not say why");
  else if (arguments->verbose)
    helper_say ("%s mounted on %s as %s (%s)", device, arguments->dir, type, options);
  mnt_free_context (context);
  return status == 0;
}

gboolean
target_mount_volume (const MountArguments *arguments, const VmaGuestVolume *volume,
                     const char *device, GError **error)
{
  const Types types = types_of (volume->fs_type);
  gboolean unknown = FALSE;

  for (guint i = 0; i < G_N_ELEMENTS (types.names) && types.names[i] != NULL; i++) {
    g_clear_error (error);
    if (mount_as (arguments, volume, device, types.names[i], &unknown, error))
      return TRUE;
    if (!unknown)
      return FALSE;
  }
  g_clear_error (error);
  g_set_error (
      error, HELPER_ERROR, MNT_EX_FAIL,
      "%s: %s holds %s, which this kernel cannot mount (try: modprobe %s%s; vmafs -o parts shows "
      "it as a file for other programs)",
      arguments->archive, volume->name, volume->fs_type, types.names[0],
      types.names[1] != NULL ? ", or install ntfs-3g" : "");
  return FALSE;
}
