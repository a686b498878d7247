/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of mount.vmafs: what mount(8) gives to a helper, and the options sorted by who
 * is meant.
 *
 * mount(8) calls `mount.vmafs ARCHIVE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`.  Options
 * that are only for mount(8), fstab(5) or systemd are dropped; "rw", which mount(8) always adds, is
 * too.
 *
 * Main thread.
 */
#pragma once

#include "fuse/options.h"

typedef struct {
  gboolean show_help, show_version;
  gboolean fake;       /* -f: all but the mount itself */
  gboolean sloppy;     /* -s: unknown options are dropped */
  gboolean no_mtab;    /* -n */
  gboolean verbose;    /* -v */
  char *namespace;     /* -N: a path; NULL: our own */
  char *archive, *dir; /* absolute */

  /* Which file system inside the archive is wanted.  All NULL: none, the images are mounted on DIR.
   */
  char *disk, *part, *label, *uuid, *lv;
  char *fs_type; /* fs=: what it is mounted as; NULL: what it is recognised as */

  char *driver_list;      /* for "vmafs -o", escaped; may be empty */
  VmaMountOptions driver; /* what vmafs will make of it */
  char *guest_list;       /* for the mount of a guest's file system, likewise */
  gboolean writable;      /* an overlay takes what is written */
  gboolean suid, dev;     /* were asked for: a guest's file system is mounted without */
} MountArguments;

/* FALSE and an error where the call is wrong. */
gboolean mount_arguments_parse (MountArguments *arguments, int argc, char **argv, GError **error);
void mount_arguments_clear (MountArguments *arguments);

/* Whether a guest's file system is wanted. */
gboolean mount_arguments_want_guest (const MountArguments *arguments);

extern const char mount_arguments_help[];
