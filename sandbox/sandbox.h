/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Confines the calling process to what it needs, before it looks at bytes that nobody vouches for.
 *
 * A plan says what will be needed; vma_sandbox_enter() gives up all the rest, for good, for this
 * process and all threads it will have: supplementary groups and capabilities, new privileges
 * (no_new_privs), the file system but for what the plan names (Landlock), and all system calls but
 * those on a list (seccomp).  What is open already stays open.
 *
 * Any program may use it, once, while it has a single thread.  A kernel that lacks a part is no
 * error; the report says what was put into force.  Builds with sanitizers, or that count lines,
 * need files and system calls of their own: there it is off.
 */
#pragma once

#include <glib.h>

typedef struct VmaSandbox VmaSandbox; /* a plan */

typedef enum {
  VMA_SANDBOX_READ = 1 << 0,
  VMA_SANDBOX_WRITE = 1 << 1,  /* files that are there */
  VMA_SANDBOX_CREATE = 1 << 2, /* in a directory: make, rename and delete files */
} VmaSandboxAccess;

typedef struct {
  gboolean off;            /* not entered; `reason` says why */
  const char *reason;      /* static; NULL: none */
  gint landlock;           /* version of its interface that is in force; 0: none */
  gboolean seccomp;        /* a filter is in force */
  gboolean no_new_privileges;
  guint64 capabilities;    /* that are left, as bits */
} VmaSandboxReport;

VmaSandbox *vma_sandbox_new (void);
void vma_sandbox_free (VmaSandbox *sandbox);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaSandbox, vma_sandbox_free)

/*
 * Allows `access` to a file, or to all that is in a directory.  What is not there (yet) cannot be
 * allowed, and is passed over.  Where only a capability of ours opens it, that one is kept.
 */
void vma_sandbox_allow (VmaSandbox *sandbox, const char *path, VmaSandboxAccess access);

/*
 * `path` is in a directory that was allowed.  If only a capability of ours opens it, that one is
 * kept; vma_sandbox_allow() sees to that itself.
 */
void vma_sandbox_need (VmaSandbox *sandbox, const char *path, VmaSandboxAccess access);

/* The capability `number` is kept, if we have it. */
void vma_sandbox_keep_capability (VmaSandbox *sandbox, int number);

/* Connections to servers are made, and what that takes is read: names, certificates, libraries. */
void vma_sandbox_allow_network (VmaSandbox *sandbox);

/*
 * Puts it into force.  FALSE and an error where the kernel has a part and yet refuses it; then part
 * of the sandbox may be in force.
 */
gboolean vma_sandbox_enter (VmaSandbox *sandbox, VmaSandboxReport *report, GError **error);

/* What a whole sandbox has, and this one has not, in words; NULL: nothing. */
const char *vma_sandbox_missing (const VmaSandboxReport *report);
