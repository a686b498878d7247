/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What we call things: jobs, our nodes in QEMU, sockets in the run-time folder.
 *
 * Whatever of ours is in a QEMU begins with VMA_NODE_PREFIX and tells of which job it is, so that
 * it can be found, and removed, by someone who knows nothing else.
 */
#pragma once

#include "base/json.h"

#include <sys/types.h>

#define VMA_NODE_PREFIX "vmabk-"
#define VMA_ID_MAX 64

/* Letters, digits, '-', '_', '.'; a letter or digit first; not "serve", which is the service. */
gboolean vma_id_is_valid (const char *id);
char *vma_id_random (void);

/* "vmabk-ID-"; of a long id its beginning and a hash.  With what follows at most 31 characters. */
char *vma_node_prefix (const char *id);
/* "vmabk-ID-cow0" */
char *vma_node_name (const char *prefix, const char *role, guint disk);

/* The node that is the child `role` of another one, from x-debug-query-block-graph; NULL: none. */
char *vma_names_child (JsonObject *graph, const char *parent, const char *role);
/* The other way round: the node over another one. */
char *vma_names_parent (JsonObject *graph, const char *child, const char *role);

/* Where sockets are, made if need be with mode 0700; NULL with an error. */
char *vma_run_dir (GError **error);
char *vma_run_socket (const char *dir, const char *id); /* DIR/ID.sock */
char *vma_run_nbd_socket (const char *dir, pid_t qemu); /* DIR/PID.nbd */

/* Whether somebody listens at a unix socket. */
gboolean vma_socket_answers (const char *path);
/* Removes a socket that nobody answers. */
void vma_socket_remove_stale (const char *path);
