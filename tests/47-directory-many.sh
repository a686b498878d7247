#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A mount of a directory with many archives: a bounded number is open at once, and none when idle.

. "$(dirname "$0")/lib/functions.sh"
requires jq
requires_fuse

mnt=$TEST_TMP/mnt
disk="disk-drive-scsi0.raw"
count=120
limit=4
mkdir dump
for ((i = 1; i <= count; i++)); do
    cp "$fixtures/tiny.vma.zst" "dump/vm$i.vma.zst"
done
"$VMATOOL" extract "$fixtures/tiny.vma" true >/dev/null

status() # JQ-FILTER
{
    jq -r "$1" "$mnt/.vmafs/status"
}

descriptors()
{
    find "/proc/$pid/fd" -mindepth 1 | wc -l
}

threads()
{
    awk '/^Threads:/ { print $2 }' "/proc/$pid/status"
}

nothing_is_open()
{
    [ "$(status .open)" = 0 ]
}

start_vmafs dump "$mnt" -o "idle=1,max_open=$limit"
pid=$(vmafs_pid "$mnt")
same_text "$count" "$(find "$mnt" -mindepth 1 -maxdepth 1 -type d | wc -l)"
stat "$mnt"/* >/dev/null
same_text 0 "$(status .open)"
descriptors_before=$(descriptors)

# All of them, one after the other; then several readers at once.
for ((i = 1; i <= count; i++)); do
    same_bytes true/qemu-server.conf "$mnt/vm$i/qemu-server.conf"
done
[ "$(status .open)" -le $limit ] || fail "too many are open: $(status .open)"
readers=()
for first in 1 2 3; do
    for ((i = first; i <= count; i += 6)); do
        same_bytes "true/$disk" "$mnt/vm$i/$disk"
    done &
    readers+=($!)
done
for reader in "${readers[@]}"; do
    wait "$reader" || fail "a reader failed"
done
[ "$(status .open)" -le $limit ] || fail "too many are open: $(status .open)"
[ "$(descriptors)" -le $((descriptors_before + 4 * limit)) ] || fail "$(descriptors) descriptors"
# Of libfuse 12, four that open, and what an open archive has.
[ "$(threads)" -le $((20 + 14 * limit)) ] || fail "$(threads) threads"

wait_until 20 nothing_is_open || fail "they are not closed: $(status .open)"
same_text "$descriptors_before" "$(descriptors)"
[ "$(threads)" -le 20 ] || fail "$(threads) threads when idle"

# As many as may be open are held open: one more is refused, and opened when there is room again.
exec 5<"$mnt/vm1/$disk" 6<"$mnt/vm2/$disk" 7<"$mnt/vm3/$disk" 8<"$mnt/vm4/$disk"
if cat "$mnt/vm5/$disk" >/dev/null 2>stderr; then
    fail "more than $limit are open"
fi
grep -q 'Too many open files' stderr || fail "$(cat stderr)"
exec 8<&-
same_bytes "true/$disk" "$mnt/vm5/$disk"
same_bytes "true/$disk" - <&5
exec 5<&- 6<&- 7<&-
