/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the helpers say, and with which exit status they end.
 *
 * Errors are GErrors; their exit status is the code of a HELPER_ERROR (a MNT_EX_… of libmount.h,
 * which are mount(8)'s), and MNT_EX_FAIL for any other domain.  An empty message: the program that
 * failed has said it already.
 *
 * Main thread.
 */
#pragma once

#include <glib.h>

#define HELPER_ERROR (helper_error_quark ())
GQuark helper_error_quark (void);

/* The name in front of each message: "mount.vmafs". */
void helper_set_name (const char *name);

/* One line on standard output, for -v. */
void helper_say (const char *format, ...) G_GNUC_PRINTF (1, 2);

/* Prints the error on standard error, and returns the exit status. */
int helper_fail (const GError *error);

/* An error with the system's reason: "what: reason". */
void helper_set_errno (GError **error, int status, int errnum, const char *format, ...)
    G_GNUC_PRINTF (4, 5);

/* That the user broke it off. */
void helper_set_interrupted (GError **error);
