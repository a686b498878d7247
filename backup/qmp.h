/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of QEMU's monitor protocol, and of our own control sockets, which speak the same.
 *
 * Owns the connection, a thread that reads it, and the queue of events.  What comes in is bounded:
 * the length of a line, its depth, the number of events that nobody fetched (the oldest go; who
 * waits for something asks for the state as well).
 *
 * QEMU serves one client a socket: where another one has it, there is no greeting.
 *
 * Locking: any thread may execute; commands go out one at a time, each waiting for the reply of the
 * one before it.
 */
#pragma once

#include "base/json.h"

#include <gio/gio.h>

#define VMA_QMP_ERROR (vma_qmp_error_quark ())
GQuark vma_qmp_error_quark (void);

typedef enum {
  VMA_QMP_REFUSED,    /* the other side said no */
  VMA_QMP_NO_COMMAND, /* ... because it does not know the command */
  VMA_QMP_NOT_FOUND,  /* ... because there is no such device */
  VMA_QMP_CONNECT,    /* nobody listens */
  VMA_QMP_BUSY,       /* no greeting */
  VMA_QMP_CLOSED,     /* the connection has gone */
  VMA_QMP_TIMEOUT,    /* no reply */
} VmaQmpError;

typedef struct VmaQmp VmaQmp;

/* Seconds that a command may take, where there is no reason for more. */
#define VMA_QMP_SECONDS 30

/*
 * `address` is the path of a unix socket, or "fd:N", a connected one (which stays open).  Says
 * qmp_capabilities.  `who` is what messages call the other side: "QEMU".
 */
VmaQmp *vma_qmp_open (const char *address, const char *who, guint seconds, GError **error);
void vma_qmp_free (VmaQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaQmp, vma_qmp_free)

/* The pid and user of the process behind the socket; 0 and -1 where unknown. */
pid_t vma_qmp_peer (VmaQmp *qmp, uid_t *uid);

/* Major number of the version in the greeting; 0 where there was none. */
guint vma_qmp_major (VmaQmp *qmp);

/*
 * Runs a command, with `arguments` (which are taken; NULL: none), and waits for its reply.  Errors
 * read "COMMAND: reason".
 */
JsonNode *vma_qmp_execute (VmaQmp *qmp, const char *command, JsonNode *arguments, guint seconds,
                           GError **error);
/* The same where the reply does not matter. */
gboolean vma_qmp_run (VmaQmp *qmp, const char *command, JsonNode *arguments, GError **error);

/* Gives a descriptor the name by which commands of this connection know it. */
gboolean vma_qmp_pass_fd (VmaQmp *qmp, int fd, const char *name, GError **error);

/* Gives it into a new set of descriptors, "/dev/fdset/N": the reply of add-fd. */
JsonNode *vma_qmp_add_fd (VmaQmp *qmp, int fd, GError **error);

/* The next event, {"event": NAME, "data": {...}}, at once or after `ms`; NULL where none came. */
JsonObject *vma_qmp_next_event (VmaQmp *qmp, guint ms);

gboolean vma_qmp_is_closed (VmaQmp *qmp);
