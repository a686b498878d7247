/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the errors of the library's inside to those of its interface, and the message of a thread.
 */
#pragma once

#include "include/vma.h"

#include <glib.h>

/* Keeps the message for vma_message(), and returns what the error is.  Takes it; NULL is VMA_OK. */
VmaResult vma_result_take (GError *error);

/* The same for a mistake of the caller. */
VmaResult vma_result_invalid (const char *format, ...) G_GNUC_PRINTF (1, 2);
