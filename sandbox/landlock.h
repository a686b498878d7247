/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Landlock: which files a process may open.  All of it in terms of the kernel's own bits, of which
 * those that it does not know yet are left out.  For this folder only.
 */
#pragma once

#include "sandbox/sandbox.h"

typedef struct VmaLandlock VmaLandlock;

/* An empty set of rules; NULL with errno 0 where the kernel has no Landlock. */
VmaLandlock *vma_landlock_new (gboolean network);
void vma_landlock_free (VmaLandlock *landlock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaLandlock, vma_landlock_free)

/* Adds a rule.  FALSE and errno; what is not there is no failure. */
gboolean vma_landlock_allow (VmaLandlock *landlock, const char *path, VmaSandboxAccess access);

/* Puts it into force for this thread and its children; no_new_privs is set.  FALSE and errno. */
gboolean vma_landlock_enter (VmaLandlock *landlock);

/* The version of the kernel's interface. */
gint vma_landlock_version (const VmaLandlock *landlock);
