#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# No leak and no read of what was never written, by valgrind: unit tests of the parsers.
# test: timeout=300 long

. "$(dirname "$0")/lib/functions.sh"
requires valgrind
[ "${TEST_VARIANT:-plain}" = plain ] || skip "sanitizers and valgrind do not go together"

# What GLib and others keep until the end is reachable, and no leak.
run()
{
    valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
        --errors-for-leak-kinds=definite,indirect --log-file="$TEST_TMP/log" "$@" \
        >"$TEST_TMP/out" 2>&1 || { cat "$TEST_TMP/out" "$TEST_TMP/log" && fail "$*"; }
}

# It sees a leak.
echo '#include <stdlib.h>
int main (void) { void *volatile p = malloc (10); p = NULL; return p != NULL; }' >leak.c
gcc -O0 -o leak leak.c
! (run ./leak) >/dev/null || fail "a leak was not seen"

export FIXTURES=$fixtures ARCHIVES=$BUILDDIR/tests/unit/archives
for test in bytes extent header names format page sidecar damage archive-name mount-arguments; do
    run "$BUILDDIR/tests/unit/test-$test"
done
