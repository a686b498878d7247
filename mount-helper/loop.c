/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/loop.h"

#include "mount-helper/message.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Another program may take the free device that we were shown. */
#define MAX_TRIES 100

/* What stands in a device's field for a file's name, which nobody needs: sysfs knows the name. */
#define NAME_FORMAT "vmafs %d %s"

static gboolean
configure (int device, int file, guint64 offset, guint64 length, gboolean writable,
           const LoopTag *tag)
{
  struct loop_config config = {
    .fd = (guint32) file,
    .info = {
      .lo_offset = offset,
      .lo_sizelimit = length,
      .lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO | (writable ? 0 : LO_FLAGS_READ_ONLY),
    },
  };

  snprintf ((char *) config.info.lo_file_name, sizeof config.info.lo_file_name, NAME_FORMAT,
            (int) tag->pid, tag->key);
  if (ioctl (device, LOOP_CONFIGURE, &config) == 0)
    return TRUE;
  if (errno != EINVAL)
    return FALSE;
  config.info.lo_flags &= ~(guint32) LO_FLAGS_DIRECT_IO; /* slower, and with two page caches */
  return ioctl (device, LOOP_CONFIGURE, &config) == 0;
}

static void
set_no_device (GError **error, int errnum, const char *path)
{
  helper_set_errno (error, MNT_EX_SYSERR, errnum,
                    "%s: no loop device (try: modprobe loop; in a container, "
                    "its host must allow them)",
                    path);
}

int
loop_attach (int file, guint64 offset, guint64 length, gboolean writable, const LoopTag *tag,
             char **path, GError **error)
{
  int control = open ("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1, errnum = EBUSY;

  if (control < 0) {
    set_no_device (error, errno, "/dev/loop-control");
    return -1;
  }
  for (guint i = 0; i < MAX_TRIES && errnum == EBUSY; i++) {
    int number = ioctl (control, LOOP_CTL_GET_FREE);
    if (number < 0) {
      set_no_device (error, errno, "/dev/loop-control");
      break;
    }
    g_autofree char *name = g_strdup_printf ("/dev/loop%d", number);
    device = open (name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (device < 0) {
      set_no_device (error, errno, name);
      break;
    }
    if (configure (device, file, offset, length, writable, tag)) {
      *path = g_steal_pointer (&name);
      break;
    }
    errnum = errno;
    if (errnum != EBUSY || i + 1 == MAX_TRIES)
      helper_set_errno (error, MNT_EX_SYSERR, errnum, "cannot set up %s", name);
    close (device);
    device = -1;
  }
  close (control);
  return device;
}

gboolean
loop_get_tag (const char *path, LoopTag *tag)
{
  struct loop_info64 info = { 0 };
  int pid = 0, device = -1;

  if (g_str_has_prefix (path, "/dev/loop"))
    device = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  *tag = (LoopTag){ 0 };
  if (device < 0)
    return FALSE;
  gboolean ok = ioctl (device, LOOP_GET_STATUS64, &info) == 0;
  close (device);
  info.lo_file_name[sizeof info.lo_file_name - 1] = '\0';
  ok = ok && sscanf ((const char *) info.lo_file_name, "vmafs %d %16[0-9a-f]", &pid, tag->key) == 2;
  tag->pid = pid;
  return ok;
}
