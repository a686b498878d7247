#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
# 0 is ok, 1 failed, 2 a wrong command line; errors are one line each and name the file.

. "$(dirname "$0")/lib/functions.sh"

for args in "" "nosuch" "list" "list a b" "list --nosuch x" "extract x" "extract" "config" \
    "config x -c" "verify" "map" "info"; do
    status=0
    # shellcheck disable=SC2086  # several arguments
    "$VMATOOL" $args >stdout 2>stderr </dev/null || status=$?
    [ "$status" = 2 ] || fail "vmatool $args: status $status: $(cat stderr)"
    [ -s stderr ] && [ ! -s stdout ] || fail "vmatool $args: a mistake belongs on stderr"
done
for args in "" "a" "a b c" "$fixtures/tiny.vma" "--nosuch a b" "-o nosuch $fixtures/tiny.vma $TEST_TMP" \
    "-o uid=x $fixtures/tiny.vma $TEST_TMP" "-o mode=9 $fixtures/tiny.vma $TEST_TMP"; do
    status=0
    # shellcheck disable=SC2086
    "$VMAFS" $args >stdout 2>stderr </dev/null || status=$?
    [ "$status" = 2 ] || fail "vmafs $args: status $status: $(cat stderr)"
    [ -s stderr ] && [ ! -s stdout ] || fail "vmafs $args: a mistake belongs on stderr"
done

for program in "$VMATOOL" "$VMAFS"; do
    "$program" --help >help
    [ "$(wc -l <help)" -gt 5 ] || fail "--help of $program is short"
    "$program" --version | grep -qE '[0-9]+\.[0-9]+' || fail "--version of $program"
done
for command in list config verify extract map info index; do
    "$VMATOOL" "$command" --help >help
    [ "$(wc -l <help)" -gt 2 ] || fail "--help of $command is short"
done

# Files that are no archives.
mkdir mnt dir
: >empty.vma
head -c 100000 /dev/urandom >noise.vma
printf 'VMA\0' >magic.vma
for what in /nonexistent/x.vma dir empty.vma noise.vma magic.vma; do
    name=${what##*/}
    for command in list config verify; do
        expect_fail 1 "^vmatool: .*$name: " "$VMATOOL" "$command" "$what"
    done
    expect_fail 1 "^vmatool: .*$name: " "$VMATOOL" extract "$what" out
    [ ! -e out ] || fail "extract of $what left something"
    # A directory of archives can be mounted.
    [ "$what" = dir ] || expect_fail 1 "^vmafs: .*$name: " "$VMAFS" "$what" mnt
done

# Nothing that goes to a full disk counts as done.
if [ -w /dev/full ]; then
    status=0
    "$VMATOOL" list "$fixtures/tiny.vma" >/dev/full 2>stderr || status=$?
    [ "$status" = 1 ] || fail "list to a full disk: status $status"
fi

# Under its other name it is the same program.
ln -s "$VMATOOL" vma
./vma list "$fixtures/tiny.vma" >a
"$VMATOOL" list "$fixtures/tiny.vma" >b
same_bytes a b
expect_fail 1 '^vma: .*empty\.vma: ' ./vma verify empty.vma
