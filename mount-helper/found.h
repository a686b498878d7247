/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which volume of an archive the user means, and where it stands.
 *
 * Looked for with an archive and an index of our own, which are gone again when it is found.
 *
 * Main thread.
 */
#pragma once

#include "guest/guest.h"
#include "mount-helper/arguments.h"
#include "mount-helper/loop.h"

#include <gio/gio.h>

typedef struct {
  char *file;             /* the image's name in the mount */
  guint64 offset, length; /* bytes of it */
  char *pv_uuid;          /* NULL: the piece is all there is */
} FoundPiece;

/* What was found, without the archive that it was found in. */
typedef struct {
  VmaGuestVolume volume; /* its `image` and `pieces` are not set; strings are ours */
  GArray *pieces;        /* FoundPiece, in order: one, or those of a logical volume */
  char uuid[37];         /* of the archive */
  LoopTag tag;
} Found;

void found_clear (Found *found);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Found, found_clear)

/* Finds the volume.  Its type is known and one that can be mounted, unless it is in pieces. */
gboolean found_search (Found *found, const MountArguments *arguments, GCancellable *cancellable,
                       GError **error);

static inline const FoundPiece *
found_piece (const Found *found, guint i)
{
  return &g_array_index (found->pieces, FoundPiece, i);
}

static inline gboolean
found_is_in_pieces (const Found *found)
{
  return found_piece (found, 0)->pv_uuid != NULL;
}

/* Sets what stands in the volume; the user's `fs=` knows better. */
void found_set_type (Found *found, const MountArguments *arguments, const char *type,
                     const char *usage);

/* Whether it can be mounted at all. */
gboolean found_check_type (const Found *found, const MountArguments *arguments, GError **error);
