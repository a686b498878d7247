/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bad ranges that readers of a mount have met.
 *
 * Owns the list; a range is logged and listed once.  Bounded: after VMA_READ_ERRORS_MAX ranges only
 * the count goes on.  Any thread.
 */
#pragma once

#include <glib.h>

#define VMA_READ_ERRORS_MAX 10000

typedef struct VmaReadErrors VmaReadErrors;

VmaReadErrors *vma_read_errors_new (void);
void vma_read_errors_free (VmaReadErrors *errors);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaReadErrors, vma_read_errors_free)

/* Notes that a read failed; `error` names the place. */
void vma_read_errors_add (VmaReadErrors *errors, const GError *error);

/* All reads that failed. */
guint64 vma_read_errors_count (VmaReadErrors *errors);

/* Appends a line for each. */
void vma_read_errors_append (VmaReadErrors *errors, GString *text);
