#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# vmatool index: builds, shows, verifies and prunes saved indexes.  vmatool info and map.

. "$(dirname "$0")/lib/functions.sh"
requires jq
requires_fuse

make_archive interleaved a.vma >/dev/null
make_archive sparse b.vma >/dev/null
dir=$TEST_TMP/cache/vmafs

"$VMATOOL" index build a.vma >out
"$VMATOOL" index build b.vma >out
same_text 2 "$(find "$dir" -type f | wc -l)"
"$VMATOOL" index show a.vma >out
[ -s out ] || fail "index show shows nothing"
"$VMATOOL" index verify a.vma >out

# What it built, vmafs uses.
start_vmafs "$TEST_TMP/a.vma" "$TEST_TMP/mnt"
same_text true "$(jq .index.loaded "$TEST_TMP/mnt/.vmafs/status")"
stop_vmafs "$TEST_TMP/mnt"

for file in "$dir"/*; do
    cp "$file" saved
    printf '\xa7\xa7' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc status=none
done
status=0
"$VMATOOL" index verify a.vma >out 2>&1 || status=$?
[ "$status" = 1 ] || fail "a damaged index passes: $(cat out)"

"$VMATOOL" index prune --max-size=0 >out
same_text 0 "$(find "$dir" -type f | wc -l)"

"$VMATOOL" info a.vma >out
for disk in drive-scsi0 drive-scsi1 drive-scsi2 drive-scsi3; do
    grep -q "$disk" out || fail "info does not tell of $disk: $(cat out)"
done
"$VMATOOL" info --json a.vma >out.json
jq -e . out.json >/dev/null || fail "info --json is no JSON"
extents=$(python3 - "$lib" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import vmagen
print(sum(1 for _ in vmagen.make("interleaved").extents()))
END
)
grep -qw "$extents" out.json || fail "info --json does not count $extents extents: $(cat out.json)"
