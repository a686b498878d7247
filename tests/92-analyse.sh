#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Static analysis finds nothing: gcc's analyzer and cppcheck everywhere, clang-tidy in vma and index,
# and with --long in all that parses what comes from outside.
# test: timeout=600

NEEDS_PROGRAMS=no
. "$(dirname "$0")/lib/functions.sh"
requires gcc clang-tidy cppcheck jq
analyse=$tests/../scripts/analyse

expect_fail 2 '^analyse: which build' "$analyse"
expect_fail 2 '^analyse: --tool needs a value' "$analyse" --tool
expect_fail 2 '^analyse: no such source files: nowhere' "$analyse" "$BUILDDIR" nowhere

# It sees what it is there for.
mkdir -p "$TEST_TMP/b"
cat >"$TEST_TMP/bad.c" <<'END'
int main (void)
{
  int a[2] = { 1, 2 };
  return a[2];
}
END
printf '[{"directory":"%s","file":"%s","command":"gcc %s -MD -MF x -c %s"}]' "$TEST_TMP/b" "$TEST_TMP/bad.c" \
    "-O1" "$TEST_TMP/bad.c" >"$TEST_TMP/b/compile_commands.json"
for tool in gcc cppcheck clang-tidy; do
    ! "$analyse" --tool "$tool" "$TEST_TMP/b" "$(realpath --relative-to="$tests/.." "$TEST_TMP")" \
        >"$TEST_TMP/out" || fail "$tool saw nothing: $(cat "$TEST_TMP/out")"
    grep -q 'bad.c:4:' "$TEST_TMP/out" || fail "$(cat "$TEST_TMP/out")"
done

"$analyse" --tool gcc --tool cppcheck "$BUILDDIR"
if [ -n "${TEST_LONG:-}" ]; then
    "$analyse" --tool clang-tidy --quick "$BUILDDIR"
else
    "$analyse" --tool clang-tidy "$BUILDDIR" vma index
fi
