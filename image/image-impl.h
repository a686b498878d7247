/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What archive.c and image.c share.  For this folder only. */
#pragma once

#include "image/image.h"

struct VmaImage {
  VmaArchive *archive;
  const VmaDevice *device;
  VmaImage *base; /* has what is not listed in a delta; NULL: nothing has */
  gboolean is_window;
  guint64 start, length; /* of a window; start is 0 for others */
};
