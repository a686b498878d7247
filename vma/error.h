/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The meanings an error can have inside the library.
 *
 * Messages say what and where (an offset in the archive), and neither name the archive nor give
 * advice: the archive's name is put in front by image/archive, advice is added by the program that
 * prints the line.  errno appears only in fuse/.
 */
#pragma once

#include <glib.h>

typedef enum {
  VMA_ERROR_IO,          /* the system refused to read or write */
  VMA_ERROR_NOT_VMA,     /* this is no VMA archive at all */
  VMA_ERROR_DAMAGED,     /* the archive is broken here; salvage may help with the rest */
  VMA_ERROR_HEADER,      /* the archive's header is broken: nothing can be read */
  VMA_ERROR_MISSING,     /* clusters that the archive should hold are not in it */
  VMA_ERROR_UNSUPPORTED, /* valid, but beyond what this program can do */
  VMA_ERROR_INVALID,     /* the caller's (user's) arguments do not fit */
  VMA_ERROR_CANCELLED,   /* stopped on request */
  VMA_ERROR_NO_SPACE,    /* a file that we write cannot grow */
  VMA_ERROR_NOTE,        /* no error: something worth telling */
  VMA_ERROR_CONNECTION,  /* a server cannot be reached: nothing is known about the archive itself */
} VmaError;

#define VMA_ERROR (vma_error_quark ())
GQuark vma_error_quark (void);

/* Sets a VMA_ERROR_IO from errno value `errnum`: "what: reason". */
void vma_set_errno_error (GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* Sets an error and is FALSE: `return vma_fail (error, VMA_ERROR_INVALID, "...")`. */
#define vma_fail(error, code, ...) (g_set_error ((error), VMA_ERROR, (code), __VA_ARGS__), FALSE)
