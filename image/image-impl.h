/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What archive.c and image.c share.  For this folder only. */
#pragma once

#include "image/image.h"

struct VmaImage {
  VmaArchive *archive;
  const VmaDevice *device;
};
