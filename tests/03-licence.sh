#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: optional
# Each of our files says under which licence it is.

NEEDS_PROGRAMS=no
. "$(dirname "$0")/lib/functions.sh"
requires git
cd "$tests/.."
git rev-parse --git-dir >/dev/null 2>&1 || skip "this is no git checkout"

# Fixtures are data, and the licence itself needs no licence; prose shows none. Of the packages' files
# debian/copyright speaks.
git ls-files -- . ':!tests/fixtures' ':!fuzz/regressions' \
    ':!fuzz/corpus' ':!LICENSE' ':!.gitignore' ':!*.md' ':!*.cast' ':!debian' >"$TEST_TMP/files"
[ "$(wc -l <"$TEST_TMP/files")" -gt 20 ] || fail "too few files are tracked"
without=$(xargs -d '\n' grep -L 'SPDX-License-Identifier: GPL-2.0-or-later' <"$TEST_TMP/files" || true)
[ -z "$without" ] || fail "no SPDX line in: $without"
