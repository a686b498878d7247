/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The identity of a file's content, cheaply: size, mtime, and hashes of its first and last 64 KiB.
 *
 * Pure but for reading the descriptor; any thread.
 */
#pragma once

#include "source/source.h"

#define VMA_IDENTITY_HASHED 65536u

/* XXH3-128 for the hashes.  FALSE and VMA_ERROR_IO. */
gboolean vma_identity_of_fd (int fd, VmaSourceIdentity *identity, GError **error);
