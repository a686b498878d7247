#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: optional
# The compressed forms of the reference archives list and mount like the plain ones.  A format that
# this build says it does not support is left out.

. "$(dirname "$0")/lib/functions.sh"
requires_fuse

compare() # COMPRESSED PLAIN
{
    local status=0
    "$VMATOOL" list "$fixtures/$1" >got 2>err || status=$?
    if [ "$status" != 0 ]; then
        grep -qiE 'support|compress' err || fail "list $1: $(cat err)"
        return 0
    fi
    "$VMATOOL" list "$fixtures/$2" >wanted
    same_bytes wanted got
    start_vmafs "$fixtures/$1" "$TEST_TMP/packed"
    start_vmafs "$fixtures/$2" "$TEST_TMP/plain"
    diff -r packed plain || fail "the mount of $1 is not that of $2"
    stop_vmafs "$TEST_TMP/packed"
    stop_vmafs "$TEST_TMP/plain"
    compared+=("$1")
}

compared=()
for suffix in zst gz lzo lz4; do
    compare "tiny.vma.$suffix" tiny.vma
done
compare multi-disk.vma.zst multi-disk.vma
[ ${#compared[@]} -gt 0 ] || skip "this build reads no compressed archives"
