/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount.vmafs: what mount(8) calls for `mount -t vmafs` and `mount -t fuse.vmafs`.
 */
#include "fuse/mountpoint.h"
#include "mount-helper/arguments.h"
#include "mount-helper/driver.h"
#include "mount-helper/interrupt.h"
#include "mount-helper/message.h"
#include "mount-helper/stack.h"
#include "mount-helper/target.h"

#include <errno.h>
#include <libmount.h>
#include <locale.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

/* The images themselves. */
static gboolean
mount_images (const MountArguments *arguments, GCancellable *cancellable, GError **error)
{
  if (arguments->fake)
    return TRUE;
  if (arguments->namespace == NULL)
    return driver_mount (arguments->archive, arguments->dir, arguments->driver_list, cancellable,
                         error)
           && (arguments->no_mtab || geteuid () != 0 || target_note (arguments, error));

  /* The archive is one of our name space, the directory one of the other. */
  int fd = driver_mount_detached (arguments->archive, arguments->driver_list, arguments->writable,
                                  cancellable, error);
  gboolean ok = fd >= 0 && target_attach (arguments, fd, error);
  if (fd >= 0)
    close (fd);
  return ok;
}

static gboolean
check (const MountArguments *arguments, GError **error)
{
  g_autoptr (GError) why = NULL;
  const char *needs_root = arguments->namespace != NULL             ? "-N"
                           : mount_arguments_want_guest (arguments) ? "a guest's file system"
                                                                    : NULL;

  if (needs_root != NULL && geteuid () != 0) {
    g_set_error (error, HELPER_ERROR, MNT_EX_USAGE,
                 "%s: only root can mount with %s (vmatool cp copies files without a mount)",
                 arguments->archive, needs_root);
    return FALSE;
  }
  if (arguments->namespace != NULL || vma_mountpoint_check (arguments->dir, &why))
    return TRUE;
  g_set_error_literal (error, HELPER_ERROR, MNT_EX_FAIL, why->message);
  return FALSE;
}

static gboolean
run (const MountArguments *arguments, GError **error)
{
  GCancellable *cancellable = helper_interrupt_start ();

  if (!check (arguments, error))
    return FALSE;
  /* A thread that shares its root with others cannot enter a mount name space. */
  if (arguments->namespace != NULL && unshare (CLONE_FS) != 0) {
    helper_set_errno (error, MNT_EX_SYSERR, errno, "-N %s", arguments->namespace);
    return FALSE;
  }
  return mount_arguments_want_guest (arguments) ? stack_mount (arguments, cancellable, error)
                                                : mount_images (arguments, cancellable, error);
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  MountArguments arguments;
  int status = MNT_EX_SUCCESS;

  setlocale (LC_ALL, "");
  helper_set_name ("mount.vmafs");
  if (!mount_arguments_parse (&arguments, argc, argv, &error))
    status = helper_fail (error);
  else if (arguments.show_help)
    fputs (mount_arguments_help, stdout);
  else if (arguments.show_version)
    printf ("mount.vmafs %s\n", VMAFS_VERSION);
  else if (!run (&arguments, &error))
    status = helper_fail (error);
  mount_arguments_clear (&arguments);
  return status;
}
