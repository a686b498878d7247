/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which files of a directory are archives, and what they are shown as.  Pure.
 *
 * An archive is a file named *.vma, or *.vma.zst, .gz, .lzo, .lz4; and, while vzdump writes it,
 * *.vma.dat, or vzdump-qemu-*.dat.  It is shown under the part before these endings; if several
 * archives share that, all of these under their whole names.  Names are escaped as in vma/names.h,
 * and what is taken then gets ~2, ~3, ...
 */
#pragma once

#include <glib.h>

/* The length of a name without the ending of an archive; 0 where it has none. */
gsize vma_archive_name_stem (const char *file, gboolean *growing);

/* What archives with these file names (sorted) are shown as: an array of the same length. */
GPtrArray *vma_archive_names_assign (const GPtrArray *files);
