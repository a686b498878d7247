/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/mapper.h"

#include "mount-helper/message.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONTROL "/dev/mapper/control"
#define DMSETUP "/sbin/dmsetup"
#define PREFIX "/dev/mapper/vmafs-"
#define SECTOR 512

gboolean
mapper_check (GError **error)
{
  int control = open (CONTROL, O_RDWR | O_CLOEXEC);

  if (control < 0) {
    helper_set_errno (error, MNT_EX_SYSERR, errno,
                      "%s: a logical volume in pieces needs the device mapper "
                      "(try: modprobe dm-mod)",
                      CONTROL);
    return FALSE;
  }
  close (control);
  if (access (DMSETUP, X_OK) == 0)
    return TRUE;
  helper_set_errno (error, MNT_EX_SYSERR, errno,
                    "%s: a logical volume in pieces needs it (install the package dmsetup)",
                    DMSETUP);
  return FALSE;
}

/* Runs dmsetup, with this standard input. */
static gboolean
dmsetup (const char *const *argv, const char *input, GError **error)
{
  g_autoptr (GError) why = NULL;
  g_autofree char *output = NULL;
  g_autoptr (GSubprocess) process
      = g_subprocess_newv (argv,
                           G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE
                               | G_SUBPROCESS_FLAGS_STDERR_MERGE,
                           &why);

  if (process != NULL && g_subprocess_communicate_utf8 (process, input, NULL, &output, NULL, &why)
      && g_subprocess_get_if_exited (process) && g_subprocess_get_exit_status (process) == 0)
    return TRUE;
  g_set_error (error, HELPER_ERROR, MNT_EX_SYSERR, "%s %s: %s", DMSETUP, argv[1],
               why != NULL                         ? why->message
               : output != NULL && *output != '\0' ? g_strstrip (output)
                                                   : "failed");
  return FALSE;
}

/* Lines of "START SECTORS linear DEVICE START". */
static char *
make_table (const MapperPiece *pieces, guint n)
{
  g_autoptr (GString) table = g_string_new (NULL);
  guint64 at = 0;

  for (guint i = 0; i < n; i++) {
    g_string_append_printf (
        table, "%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " linear %s %" G_GUINT64_FORMAT "\n",
        at / SECTOR, pieces[i].length / SECTOR, pieces[i].device, pieces[i].offset / SECTOR);
    at += pieces[i].length;
  }
  return g_string_free (g_steal_pointer (&table), FALSE);
}

int
mapper_create (const MapperPiece *pieces, guint n, gboolean writable, const LoopTag *tag,
               char **path, GError **error)
{
  g_autofree char *table = make_table (pieces, n);
  g_autofree char *node = g_strdup_printf (PREFIX "%d-%s", (int) tag->pid, tag->key);
  const char *name = node + strlen ("/dev/mapper/");
  const char *const create[] = { DMSETUP, "create", name, writable ? NULL : "--readonly", NULL };
  const char *const end[] = { DMSETUP, "remove", "--deferred", name, NULL };

  if (!dmsetup (create, table, error))
    return -1;
  int fd = open (node, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0)
    helper_set_errno (error, MNT_EX_SYSERR, errno, "%s", node);
  /* While we hold it, this only means that it goes with its last user. */
  if (!dmsetup (end, "", fd >= 0 ? error : NULL) && fd >= 0) {
    close (fd);
    fd = -1;
  }
  if (fd >= 0)
    *path = g_steal_pointer (&node);
  return fd;
}

gboolean
mapper_get_tag (const char *path, LoopTag *tag)
{
  int pid = 0;

  *tag = (LoopTag){ 0 };
  if (sscanf (path, PREFIX "%d-%16[0-9a-f]", &pid, tag->key) != 2)
    return FALSE;
  tag->pid = pid;
  return TRUE;
}
