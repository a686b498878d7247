/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes files of a guest into directories of the host.
 *
 * Every name is one component below a directory's descriptor, and no symlink is followed on the way: what a
 * guest put there cannot lead out of the target.  A file appears under its name when it is
 * complete.  Errors name the target; `shown` is its path for these.
 */
#pragma once

#include "guest/ext-files.h"

typedef struct {
  gboolean attributes; /* mode, owner and times are kept; otherwise the mode as the umask lets it */
  gboolean xattrs;
  gboolean replace;    /* what is there already, but directories */

  guint refused;       /* xattrs that the host did not take */
  char *first_refused; /* the first: "PATH: NAME: reason"; freed by the owner */
} ToolGuestKeep;

gboolean tool_guest_put_file (VmaExt *ext, const VmaExtStat *st, const char *source, int dir,
                              const char *name, const char *shown, ToolGuestKeep *keep,
                              GError **error);

gboolean tool_guest_put_symlink (const char *to, const VmaExtStat *st, int dir, const char *name,
                                 const char *shown, const ToolGuestKeep *keep, GError **error);

/* A FIFO, socket or device. */
gboolean tool_guest_put_special (const VmaExtStat *st, int dir, const char *name, const char *shown,
                                 const ToolGuestKeep *keep, GError **error);

/* Another name for `there`, a path below `root`. */
gboolean tool_guest_put_hard_link (int root, const char *there, int dir, const char *name,
                                   const char *shown, const ToolGuestKeep *keep, GError **error);

/* Makes a directory that only we may use so far, or takes one that is there.  -1 and an error. */
int tool_guest_make_dir (int dir, const char *name, const char *shown, gboolean *is_new,
                         GError **error);

/* Gives it its attributes, when all is in it. */
gboolean tool_guest_finish_dir (VmaExt *ext, const VmaExtStat *st, const char *source, int fd,
                                gboolean is_new, const char *shown, ToolGuestKeep *keep,
                                GError **error);
