/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which volume the guest has as its root file system.  A guess, by rules that are told.
 */
#pragma once

#include "guest/guest.h"

/* NULL without an error where nothing fits.  `rule` may be NULL. */
const VmaGuestVolume *vma_guest_root (const VmaGuest *guest, const char **rule,
                                      GCancellable *cancellable, GError **error);
