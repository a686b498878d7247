/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The seccomp filter: which system calls there are.  For this folder only. */
#pragma once

#include <glib.h>

/* TRUE where the kernel and this build can have one. */
gboolean vma_filter_is_available (void);

/* Puts it into force for this thread and its children; no_new_privs is set.  FALSE and errno. */
gboolean vma_filter_enter (gboolean network);
