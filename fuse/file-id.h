/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a file is the one it was, with the content it had.  Pure.
 */
#pragma once

#include <glib.h>
#include <sys/stat.h>

/* The same file, whatever it holds now. */
static inline gboolean
vma_file_is_same (const struct stat *a, const struct stat *b)
{
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The same file, and nobody wrote to it. */
static inline gboolean
vma_file_is_unchanged (const struct stat *a, const struct stat *b)
{
  return vma_file_is_same (a, b) && a->st_size == b->st_size
         && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}
