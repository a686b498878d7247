#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# All shell scripts pass shellcheck.

NEEDS_PROGRAMS=no
. "$(dirname "$0")/lib/functions.sh"
requires shellcheck

cd "$tests/.."
scripts=()
while IFS= read -r file; do
    scripts+=("$file")
done < <(grep -lIE '^#!.*\b(ba)?sh\b' -r --exclude-dir='build*' --exclude-dir=.git . | sort)
[ ${#scripts[@]} -gt 5 ] || fail "only ${#scripts[@]} scripts were found"

shellcheck "${scripts[@]}"
