#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# All fuzz targets, briefly: built by clang without a warning, their seeds, the finds of former times,
# and a number of inputs made from them.
# test: timeout=400

NEEDS_PROGRAMS=no
. "$(dirname "$0")/lib/functions.sh"
requires clang meson ninja

# Beside the other builds, so that the next run finds it.
build=$(dirname "$BUILDDIR")/fuzz
run=$tests/../fuzz/run

expect_fail 2 '^run: --runs needs a value$' "$run" --runs
expect_fail 2 '^run: no target other' "$run" other
mapfile -t targets < <("$run" --list)
[ ${#targets[@]} -gt 20 ] || fail "only ${#targets[@]} targets"
for target in "${targets[@]}"; do
    [ -d "$tests/../fuzz/corpus/$target" ] || fail "$target has no seeds"
done
# Every folder of seeds and finds belongs to a target.
for folder in "$tests"/../fuzz/{corpus,regressions}/*; do
    [ -e "$tests/../fuzz/fuzz-${folder##*/}.c" ] || fail "$folder belongs to no target"
done

# The build, and all seeds.
"$run" --build "$build" --werror --runs 0

# Half of the targets at a time.
half=$((${#targets[@]} / 2))
status=0
"$run" --build "$build" --runs "${RUNS:-300}" "${targets[@]::half}" &
"$run" --build "$build" --runs "${RUNS:-300}" "${targets[@]:half}" || status=1
wait $! || status=1
exit $status
