/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk over NBD, by several connections (each takes one reader at a time, who has several requests
 * under way).
 */
#pragma once

#include "tool/input.h"

/* Takes over the connected sockets.  `format` is a constant; `shown` stays the caller's. */
ToolInput *tool_input_nbd_sockets (const int *sockets, guint n, const char *format,
                                   const char *shown, GError **error);
