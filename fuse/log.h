/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the driver's messages go: standard error, and after it has gone to the background the system
 * log.  One line each, "vmafs: " in front.
 *
 * Any thread.
 */
#pragma once

#include <glib.h>

/* Takes GLib's messages too.  Once, at the start. */
void vma_log_init (void);

void vma_log (const char *format, ...) G_GNUC_PRINTF (1, 2);

/* Logs an error of the library, with advice where there is some. */
void vma_log_error (const GError *error);

/* Advice to put behind the message of an error, or "". */
const char *vma_log_advice (const GError *error);

/* Connects to the system log, while that is allowed. */
void vma_log_prepare_syslog (void);

/* Forgets that connection, without a word: in a child that closes descriptors. */
void vma_log_forget_syslog (void);

/* From now on to the system log. */
void vma_log_to_syslog (void);
