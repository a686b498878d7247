#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
# list and config print what scripts around the reference tool expect, also from a pipe.

. "$(dirname "$0")/lib/functions.sh"

wanted='CFG: size: 230 name: qemu-server.conf
DEV: dev_id=1 size: 6291968 devname: drive-scsi0'
"$VMATOOL" list "$fixtures/tiny.vma" >list
same_text "$wanted" "$(grep -v '^CTIME: ' list)"
# The last line is what ctime() of the C library says, here in UTC.
seconds=$(od -An -t u8 --endian=big -j 24 -N 8 "$fixtures/tiny.vma" | tr -d ' ')
same_text "CTIME: $(LC_ALL=C TZ=UTC date -d "@$seconds" '+%a %b %e %H:%M:%S %Y')" "$(tail -n 1 list)"

make_archive vmstate state.vma >/dev/null
"$VMATOOL" list state.vma >list
grep -qx 'VMSTATE: dev_id=2 memory: 360448' list || fail "$(cat list)"
grep -qx 'DEV: dev_id=1 size: 3145728 devname: drive-scsi0' list || fail "$(cat list)"

# From a pipe, which cannot seek, and whose writer is not read to its end.
"$VMATOOL" list - <"$fixtures/tiny.vma" >file-stdin
{ cat "$fixtures/tiny.vma" || true; } | "$VMATOOL" list - >pipe-stdin
"$VMATOOL" list "$fixtures/tiny.vma" >list
same_bytes list file-stdin
same_bytes list pipe-stdin

# config prints the bytes as they are: the only one, or the one that is named.
"$VMATOOL" config "$fixtures/tiny.vma" >config
python3 "$lib/vmaread.py" extract "$fixtures/tiny.vma" true
same_bytes true/qemu-server.conf config
"$VMATOOL" config "$fixtures/tiny.vma" -c qemu-server.conf >config
same_bytes true/qemu-server.conf config
{ cat "$fixtures/tiny.vma" || true; } | "$VMATOOL" config - >config
same_bytes true/qemu-server.conf config

make_archive many-configs many.vma --disks many >/dev/null
for name in config-003.conf largest.bin config-252.conf; do
    "$VMATOOL" config many.vma -c "$name" >config
    same_bytes "many/$name" config
done
expect_fail 1 'many\.vma.*nosuch' "$VMATOOL" config many.vma -c nosuch.conf
[ ! -s stdout ] || fail "output in spite of an error"

"$VMATOOL" list --json "$fixtures/multi-disk.vma" >list.json
jq -e . list.json >/dev/null || fail "list --json is no JSON"
grep -q drive-efidisk0 list.json || fail "list --json misses a disk"
grep -q 50331648 list.json || fail "list --json misses a size"
