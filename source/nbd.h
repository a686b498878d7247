/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An archive, compressed or not, in an NBD export.
 *
 * Usable by any number of threads, as all sources.  Reads may take as long as a server likes to
 * take.
 */
#pragma once

#include "source/source.h"

/* The export's bytes as they are, with one reference.  Errors without the URI. */
VmaSource *vma_nbd_source_new (const char *uri, GError **error);
