#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The edges of -o overlay: who may write what, files that do not fit, a full disk, a crash between syncs,
# partitions, and writes ahead of the scan.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/guestdisks.sh"
requires qemu-io jq sfdisk cmp
requires_fuse

mnt=$TEST_TMP/mnt
archive=$fixtures/multi-disk.vma
sum=$(sha256sum <"$archive")
disk=mnt/disk-drive-scsi0.raw

overlay() # JQ-PATH
{
    jq -r ".overlay.$1" "$mnt/.vmafs/status"
}

# Only the disks can be written, by who mounts; a disk keeps its size.
make_archive vmstate state.vma --disks true >/dev/null
start_vmafs "$TEST_TMP/state.vma" "$mnt" -o overlay
same_text 400 "$(stat -c %a mnt/vmstate.bin)"
same_text 500 "$(stat -c %a mnt)"
same_text "600 $(id -u)" "$(stat -c '%a %u' mnt/disk-*.raw | head -n 1)"
for file in mnt/vmstate.bin mnt/.vmafs/status; do
    if (: >>"$file") 2>/dev/null; then
        fail "$file can be written"
    fi
done
file=$(echo mnt/disk-*.raw | cut -d ' ' -f 1)
before=$(stat -c %s "$file")
for size in 0 $((before - 1)) $((before + 1)); do
    if truncate -s "$size" "$file" 2>err; then
        fail "a disk can be truncated to $size"
    fi
    grep -q 'Operation not permitted' err || fail "$(cat err)"
done
truncate -s "$before" "$file"
touch "$file"
if dd if=/dev/zero of="$file" bs=1 count=1 seek="$before" conv=notrunc status=none 2>err; then
    fail "a disk can be written behind its end"
fi
grep -q 'File too large' err || fail "$(cat err)"
same_bytes "true/${file#mnt/}" "$file"
stop_vmafs "$mnt"
expect_fail 2 'never written to \(-o overlay' "$VMAFS" "$archive" "$mnt" -o rw
expect_fail 2 'name of a file' "$VMAFS" "$archive" "$mnt" -o overlay=
expect_fail 2 'complete' "$VMAFS" "$archive" "$mnt" -o overlay=o,follow
start_vmafs "$archive" "$mnt" -o overlay,rw,mode=0644
same_text '644 444' "$(stat -c %a "$disk" mnt/qemu-server.conf | xargs)"
stop_vmafs "$mnt"

# The kernel asks nothing before each write (once it asked for security.capability).
"$VMAFS" -d "$archive" "$mnt" -o overlay >requests 2>&1 &
cleanup_fn stop_vmafs "$mnt"
wait_until 10 is_mounted "$mnt"
dd if=/dev/zero of="$disk" bs=4k count=200 conv=notrunc status=none
stop_vmafs "$mnt"
wait
same_text 200 "$(grep -c 'opcode: WRITE ' requests)"
[ "$(grep -c 'opcode: GET' requests)" -lt 20 ] || fail "the kernel asks before each write"

# What does not fit is refused, and left alone; a mount that fails leaves no new file.
start_vmafs "$archive" "$mnt" -o overlay="$TEST_TMP/o"
mkdir mnt2
expect_fail 1 "$TEST_TMP/o: the overlay is in use by another mount" "$VMAFS" "$archive" mnt2 -o overlay=o
qemu-io -f raw -c 'write -P 0x5a 3M 1M' "$disk" >/dev/null
same_text 256 "$(overlay blocks)"
stop_vmafs "$mnt"
cp --sparse=always o kept
expect_fail 1 'o: the overlay belongs to another archive' "$VMAFS" state.vma "$mnt" -o overlay=o
cp "$archive" grown.vma
printf x >>grown.vma
expect_fail 1 'o: the overlay was made for the same backup, but in another file' \
    "$VMAFS" grown.vma "$mnt" -o overlay=o,salvage
same_bytes kept o
cp "$archive" a.vma
expect_fail 1 'a.vma: this is no overlay file' "$VMAFS" "$archive" "$mnt" -o overlay=a.vma
same_text "$sum" "$(sha256sum <a.vma)"
head -c 2000000 "$archive" >short.vma
expect_fail 1 'short.vma: ' "$VMAFS" short.vma "$mnt" -o overlay=new,wait
expect_fail 1 'mount point' "$VMAFS" "$archive" nowhere -o overlay=new
[ ! -e new ] || fail "a mount that failed leaves an overlay"

# A copy of the archive is as good; time of change and place do not matter.
cp "$archive" copy.vma
start_vmafs "$TEST_TMP/copy.vma" "$mnt" -o overlay=o,parts
qemu-io -f raw -c 'read -P 0x5a 3M 1M' "$disk" >/dev/null
# A partition is the same bytes as that part of the disk.
part=$(find mnt -name "disk-drive-scsi0.p*.raw" | sort | head -n 1)
read -r _ offset size < <(partition_places "$disk" | head -n 1)
same_text "$size" "$(stat -c %s "$part")"
qemu-io -f raw -c 'write -P 0x77 100k 70k' -c 'write -P 0x78 0 512' "$part" >/dev/null
qemu-io -f raw -c "read -P 0x77 $((offset + 102400)) 70k" -c "read -P 0x78 $offset 512" \
    -c "write -P 0x79 $((offset + 512)) 1k" "$disk" >/dev/null
# As QEMU's cache=none and discard=unmap do it.
qemu-io -t none -d unmap -f raw -c 'write -P 0x66 9M 300k' -c 'discard 9M 100k' -c flush \
    -c 'read -P 0 9M 100k' -c "read -P 0x66 $((9 * 1024 + 100))k 200k" "$disk" >/dev/null
qemu-io -f raw -c 'read -P 0x79 512 1k' -c 'read -P 0x78 0 512' "$part" >/dev/null
if dd if=/dev/zero of="$part" bs=1 count=1 seek="$size" conv=notrunc status=none 2>/dev/null; then
    fail "a partition can be written behind its end"
fi
cmp "$part" <(tail -c +$((offset + 1)) "$disk" | head -c "$size")
stop_vmafs "$mnt"

# Killed: what was synced is there, what was not is the old or the new.
start_vmafs "$archive" "$mnt" -o overlay=killed
for round in 1 2 3; do
    qemu-io -f raw -c "write -P 0x1$round 1M 300k" -c "write -P 0x2$round $((5 * 1024 * 1024 + round)) 100" \
        -c flush -c "write -P 0x3$round 8M 64k" "$disk" >/dev/null
    kill -KILL "$(vmafs_pid "$mnt")"
    fusermount3 -u "$mnt" || umount -l "$mnt"
    wait_until 5 gone "$mnt"
    "$VMAFS" "$archive" "$mnt" -o overlay=killed
    qemu-io -f raw -c "read -P 0x1$round 1M 300k" \
        -c "read -P 0x2$round $((5 * 1024 * 1024 + round)) 100" "$disk" >/dev/null
    qemu-io -f raw -c "read -P 0x3$round 8M 64k" "$disk" >new || true
    qemu-io -f raw -c "read -P 0x3$((round - 1)) 8M 64k" "$disk" >old || true
    [ "$round" = 1 ] || ! grep -q 'verification failed' new || ! grep -q 'verification failed' old ||
        fail "what was not synced is neither old nor new"
done
same_text "$sum" "$(sha256sum <"$archive")"
stop_vmafs "$mnt"

# Writes wait for the scan only where a block must be filled up.
make_slow_archive 20
cleanup_fn stop_vmafs "$mnt"
slow_vmafs slow.vma "$mnt" --index-cache=none -o overlay
far=$(($(stat -c %s "$disk") - 1048576))
timeout 10 dd if=/dev/zero of="$disk" bs=64k count=1 seek="$far" oflag=seek_bytes conv=notrunc status=none ||
    fail "a write of whole blocks waits for the scan"
dd if=/dev/zero of="$disk" bs=100 count=1 seek=$((far + 500000)) oflag=seek_bytes conv=notrunc status=none &
writer=$!
waiting()
{
    [ "$(jq .reads.waiting "$mnt/.vmafs/status")" -ge 1 ]
}
wait_until 10 waiting || fail "a write of a part of a block does not wait for the scan"
timeout 10 ls "$mnt" >/dev/null || fail "a waiting write is in the way of others"
grep -q '"building"' "$mnt/.vmafs/status" || fail "the scan was over too soon"
kill -KILL "$writer"
stop_vmafs "$mnt"

# A full disk: the writer is told; what was there before stays, and works on when there is room.
requires_root
mkdir small
mount -t tmpfs -o size=3M tmpfs small
cleanup_fn umount "$TEST_TMP/small"
start_vmafs "$archive" "$mnt" -o overlay="$TEST_TMP/small/o"
qemu-io -f raw -c 'write -P 0x41 1M 1M' -c flush "$disk" >/dev/null
if dd if=/dev/zero of="$disk" bs=64k count=160 seek=128 conv=notrunc status=none 2>err; then
    fail "10 MiB fit into 3"
fi
grep -q 'No space left on device' err || fail "$(cat err)"
qemu-io -f raw -c 'read -P 0x41 1M 1M' -c 'write -P 0x42 1M 1M' -c flush -c 'read -P 0x42 1M 1M' "$disk" >/dev/null
grep -q '^read: overlay: .*No space left' mnt/.vmafs/errors || fail "$(cat mnt/.vmafs/errors)"
# What a guest discards is given back.
before=$(overlay allocated)
fallocate -p -o 1M -l 1M "$disk"
[ "$(overlay allocated)" -lt "$before" ] || fail "a discard gives nothing back"
mount -o remount,size=40M small
qemu-io -f raw -c 'read -P 0 1M 1M' -c 'write -P 0x43 20M 12M' -c flush "$disk" >/dev/null
stop_vmafs "$mnt"
start_vmafs "$archive" "$mnt" -o overlay="$TEST_TMP/small/o"
qemu-io -f raw -c 'read -P 0x43 20M 12M' -c 'read -P 0 1M 1M' "$disk" >/dev/null
stop_vmafs "$mnt"
same_text "$sum" "$(sha256sum <"$archive")"
