/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From disks to an archive: several threads read, and the archive is the same every time.
 *
 * The order of the archive depends on the number and sizes of the disks only.  Up to four disks take
 * turns, with 1 MiB each; when one is finished, the fourth after it takes its place.  A thread takes the
 * next pieces of work (its ticket), reads, waits until it is the ticket's turn to get places in the
 * archive, and writes without waiting for anybody.
 */
#pragma once

#include "tool/input.h"
#include "tool/verbose.h"
#include "writer/writer.h"

#include <gio/gio.h>

typedef struct {
  char *name; /* in the archive */
  char *path; /* as given */
  ToolInput *input;
  guint8 stream;
} ToolDisk;

typedef struct {
  VmaWriter *writer;
  ToolDisk *disks;
  guint n_disks;
  guint64 speed; /* bytes a second that are read at most; 0: no limit */
  GCancellable *cancellable;
  ToolVerbose *verbose;
} ToolCreateCopy;

/* How many threads will read these disks. */
guint tool_create_threads (guint n_disks);

/* Dumps all disks.  FALSE with the first failure. */
gboolean tool_create_copy (const ToolCreateCopy *copy, GError **error);
