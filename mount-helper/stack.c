/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/stack.h"

#include "mount-helper/driver.h"
#include "mount-helper/found.h"
#include "mount-helper/mapper.h"
#include "mount-helper/message.h"
#include "mount-helper/pieces.h"
#include "mount-helper/target.h"

#include <libmount.h>
#include <string.h>
#include <unistd.h>

/*
 * Whether it is mounted there already.  mount(8) cannot see that, since it looks for the archive
 * and finds a loop device; and a second `mount -a` must do nothing.
 */
static gboolean
is_mounted (const MountArguments *arguments, const Found *found, GError **error)
{
  g_autofree char *source = target_source (arguments);
  LoopTag there;

  if (source == NULL || (!mapper_get_tag (source, &there) && !loop_get_tag (source, &there))
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

/* A descriptor of the block device, which keeps everything below it. */
static int
attach (const MountArguments *arguments, Found *found, GCancellable *cancellable, char **device,
        GError **error)
{
  const FoundPiece *first = found_piece (found, 0);
  int mount_fd = driver_mount_detached (arguments->archive, arguments->driver_list,
                                        arguments->writable, cancellable, error);
  if (mount_fd < 0)
    return -1;

  g_autofree char *uuid = NULL;
  int fd = -1;
  found->tag.pid = driver_pid (mount_fd, &uuid);
  if (g_strcmp0 (uuid, found->uuid) != 0) /* of another archive, the place means nothing */
    g_set_error (error, HELPER_ERROR, MNT_EX_FAIL, "%s: it was replaced meanwhile (try again)",
                 arguments->archive);
  else if (found_is_in_pieces (found))
    fd = pieces_attach (arguments, found, mount_fd, device, error);
  else
    fd = pieces_attach_range (arguments, &found->tag, mount_fd, first->file, first->offset,
                              first->length, device, error);
  close (mount_fd);
  return fd;
}

gboolean
stack_mount (const MountArguments *arguments, GCancellable *cancellable, GError **error)
{
  g_auto (Found) found = { 0 };
  g_autofree char *device = NULL;
  g_autoptr (GError) dead = NULL;

  if (!found_search (&found, arguments, cancellable, error))
    return FALSE;
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
