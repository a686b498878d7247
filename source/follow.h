/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a file that is still being written has come to its end.
 *
 * It has when nobody can be writing it any more:
 *  - it was opened under a name that ends in ".dat" (so vzdump names what is not finished) and has
 *    another name now, or none;
 *  - or no process has it open for writing, which the kernel tells by granting a read lease (to the
 *    file's owner and to root, on local file systems);
 *  - or, where neither can be known, it has not grown for a minute.
 * The caller asks this first and then looks whether there are new bytes: in this order nothing is
 * missed.
 *
 * One thread.
 */
#pragma once

#include <glib.h>

typedef struct {
  int fd;
  gboolean was_dat;    /* its name ended so when we began */
  guint64 size;        /* when it was last seen to grow */
  gint64 grown;        /* and when that was, monotonic us */
} VmaFollow;

void vma_follow_init (VmaFollow *follow, int fd);
gboolean vma_follow_has_ended (VmaFollow *follow);
