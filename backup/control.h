/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's side of a control socket: QMP's wire form, as docs/vmabackup-protocol.md describes
 * it.
 *
 * Owns the socket, a thread for each client, and the descriptors that clients passed (getfd).
 *
 * Locking: the handler runs in the client's thread, several at a time; all functions may be called
 * by any thread.
 */
#pragma once

#include "base/json.h"

typedef struct VmaControl VmaControl;
typedef struct VmaClient VmaClient;

/*
 * Does one command; `arguments` may be NULL.  NULL with an error: its message goes to the client;
 * VMA_CONTROL_NO_COMMAND where there is no such command.
 */
typedef JsonNode *(*VmaControlHandler) (gpointer data, VmaClient *client, const char *command,
                                        JsonObject *arguments, GError **error);

#define VMA_CONTROL_ERROR (vma_control_error_quark ())
GQuark vma_control_error_quark (void);
typedef enum {
  VMA_CONTROL_NO_COMMAND,
  VMA_CONTROL_NO_JOB, /* DeviceNotFound */
  VMA_CONTROL_REFUSED,
} VmaControlError;

/* Sets an error and is NULL: `return vma_control_refuse (error, VMA_CONTROL_REFUSED, "...")`. */
#define vma_control_refuse(error, code, ...)                                                       \
  (g_set_error ((error), VMA_CONTROL_ERROR, (code), __VA_ARGS__), NULL)

/*
 * Listens at `path`, mode 0600.  A socket that nobody answers is replaced; one that somebody does
 * is an error.
 */
VmaControl *vma_control_start (const char *path, VmaControlHandler handler, gpointer data,
                               GError **error);
/* Waits for the handlers under way.  Removes the socket. */
void vma_control_stop (VmaControl *control);

/* To all clients; `data` is taken. */
void vma_control_emit (VmaControl *control, const char *event, JsonNode *data);

/* The event as a line, without the end. */
char *vma_control_event_line (const char *event, JsonNode *data);

/* The descriptor that the client passed under this name, which is the caller's then; -1. */
int vma_client_take_fd (VmaClient *client, const char *name);

/*
 * The answer to one line, without the end.  `passed` is a descriptor that came with it, or -1; it
 * is taken.  For the client's thread, and tests.
 */
char *vma_client_answer (VmaClient *client, const char *line, gsize size, int passed);
VmaClient *vma_client_new (VmaControlHandler handler, gpointer data);
void vma_client_free (VmaClient *client);
