/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files whose text is made when they are opened: it is kept with the open file.  Any thread.
 */
#pragma once

#include "fuse/request.h"

/* Replies to an open with a file that holds `text`, which is taken.  FALSE where the request was
 * interrupted: then nothing is open. */
gboolean vma_text_reply_open (fuse_req_t req, struct fuse_file_info *file, GBytes *text);
void vma_text_release (const struct fuse_file_info *file);

/* Replies to a read from `text`; NULL: from that of the open file. */
void vma_text_reply_read (const VmaRequest *request, GBytes *text);

/* The content of a file beside an archive, if it is a regular file and not too large.  NULL and
 * errno. */
GBytes *vma_text_of_file (const char *path);

/* Its attributes.  FALSE: there is no such file. */
gboolean vma_text_stat_file (const char *path, struct stat *st);
