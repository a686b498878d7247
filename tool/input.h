/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk to be read: a raw file or block device, an image in another format, an NBD export.
 *
 * Raw ones are read as they are; other formats through a qemu-nbd of our own (input-qemu.c), which
 * speaks NBD to us as a foreign server does (input-nbd.c).
 *
 * Any thread may read and ask, several at a time.  Errors name the disk, and the offset.
 */
#pragma once

#include <glib.h>

typedef struct ToolInput ToolInput;

typedef struct {
  gboolean (*read) (ToolInput *input, void *buffer, gsize size, guint64 offset, GError **error);
  gboolean (*next_data) (ToolInput *input, guint64 offset, guint64 *start, guint64 *end,
                         GError **error);
  void (*free) (ToolInput *input);
} ToolInputOps;

/* What all kinds begin with. */
struct ToolInput {
  const ToolInputOps *ops;
  char *shown;        /* "disk 'drive-scsi0' (PATH)", for messages */
  const char *format; /* "raw", "qcow2", ..., "nbd" */
  guint64 size;
};

/*
 * Opens the disk `name`.  `format` NULL: found out, see input-probe.h.  `threads` is how many will
 * read at once.
 */
ToolInput *tool_input_open (const char *path, const char *format, const char *name, guint threads,
                            GError **error);
void tool_input_free (ToolInput *input);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ToolInput, tool_input_free)

/* Reads all of [offset, offset + size), which lies inside the disk. */
gboolean tool_input_read (ToolInput *input, void *buffer, gsize size, guint64 offset,
                          GError **error);

/*
 * The first stretch at or behind `offset` that may hold anything but zeros: [*start, *end).  It may go on
 * behind *end.  Both are the size where there is none.
 */
gboolean tool_input_next_data (ToolInput *input, guint64 offset, guint64 *start, guint64 *end,
                               GError **error);

/* The kinds.  `shown` is taken over in any case. */
ToolInput *tool_input_raw (int fd, char *shown, GError **error);
ToolInput *tool_input_nbd_uri (const char *uri, char *shown, guint connections, GError **error);
ToolInput *tool_input_qemu (const char *path, const char *format, char *shown, guint connections,
                            GError **error);
