/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backups of this user, by their control sockets.
 */
#pragma once

#include "backup/qmp.h"

/* What the service is called among the sockets. */
#define VMA_SERVICE_ID "serve"

/*
 * All that answer, JSON objects as docs/vmabackup-protocol.md has them, those of the service
 * included, each once.
 */
JsonNode *vma_running_list (GError **error);

/* Sends a command to the socket of one backup. */
JsonNode *vma_running_tell_own (const char *id, const char *command, JsonNode *arguments,
                                GError **error);

/* Sends a command that is about one backup to whoever has it; the reply.  `arguments` is taken. */
JsonNode *vma_running_tell (const char *id, const char *command, JsonNode *arguments,
                            GError **error);
