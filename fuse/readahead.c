/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/readahead.h"

#include <fcntl.h>
#include <stdio.h>

int
vma_readahead_open (const char *mountpoint)
{
  g_autofree char *mounts = NULL;

  if (!g_file_get_contents ("/proc/self/mountinfo", &mounts, NULL, NULL))
    return -1;

  /* "ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ...": the last one is on top. */
  g_auto (GStrv) lines = g_strsplit (mounts, "\n", -1);
  g_autofree char *device = NULL;
  for (guint i = 0; lines[i] != NULL; i++) {
    g_auto (GStrv) fields = g_strsplit (lines[i], " ", 6);
    if (g_strv_length (fields) < 6)
      continue;
    g_autofree char *path = g_strcompress (fields[4]); /* spaces stand there as \040 */
    if (g_strcmp0 (path, mountpoint) == 0) {
      g_free (device);
      device = g_strdup (fields[2]);
    }
  }
  if (device == NULL)
    return -1;
  g_autofree char *setting = g_strdup_printf ("/sys/class/bdi/%s/read_ahead_kb", device);
  return open (setting, O_WRONLY | O_CLOEXEC);
}
