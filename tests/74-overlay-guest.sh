#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest's ext4 with a dirty journal, through a loop device on an overlay: the journal is replayed, fsck
# is content, files are written and trimmed, all of it is there in the next mount, and what the guest synced
# survives a vmafs that is killed.

. "$(dirname "$0")/lib/functions.sh"
requires_root
requires losetup mkfs.ext4 e2fsck fstrim dumpe2fs
requires_fuse

mnt=$TEST_TMP/mnt
disk=$mnt/disk-drive-scsi0.raw
mkdir "$mnt" guest

# Copied while it is mounted: as a backup of a running guest is.
truncate -s 96M guest.raw
mkfs.ext4 -q -O ^has_journal guest.raw
tune2fs -O has_journal -J size=8 guest.raw >/dev/null
loop=$(losetup -f --show guest.raw) || skip "no loop device"
cleanup_fn losetup -d "$loop"
mount -o commit=300 "$loop" guest
cleanup_fn umount -q "$TEST_TMP/guest"
head -c 3000000 /dev/urandom >random
for i in 1 2 3 4 5; do
    mkdir "guest/dir$i"
    cp random "guest/dir$i/random"
done
sync -f guest # to the journal, which is not emptied by that
cp --sparse=always guest.raw dirty.raw
umount guest
losetup -d "$loop"
cleanup_commands=("${cleanup_commands[@]:0:${#cleanup_commands[@]}-2}")
dumpe2fs -h dirty.raw 2>/dev/null | grep -q needs_recovery || fail "the journal is not dirty"
"$VMATOOL" create a.vma.zst drive-scsi0=dirty.raw
sum=$(sha256sum <a.vma.zst)

cleanup_fn stop_vmafs "$mnt"
open_guest()
{
    "$VMAFS" "$TEST_TMP/a.vma.zst" "$mnt" -o overlay="$TEST_TMP/overlay"
    loop=$(losetup -f --show ${direct_io:+--direct-io=on} "$disk")
    cleanup_fn losetup -d "$loop"
    [ -n "${1:-}" ] || mount "$loop" guest
    cleanup_fn umount -q "$TEST_TMP/guest"
}
close_guest()
{
    [ -n "${1:-}" ] || umount guest
    losetup -d "$loop"
    wait_until 10 detached || fail "the loop device stays"
    stop_vmafs "$mnt"
    cleanup_commands=("${cleanup_commands[@]:0:${#cleanup_commands[@]}-2}")
}
detached()
{
    ! losetup "$loop" >/dev/null 2>&1
}

open_guest
for i in 1 2 3 4 5; do
    same_bytes random "guest/dir$i/random"
done
rm -r guest/dir2
cp random guest/new
truncate -s 1000000 guest/dir1/random
fstrim guest
close_guest
open_guest no-mount
dumpe2fs -h "$loop" 2>/dev/null | grep -q needs_recovery && fail "the journal was not replayed"
e2fsck -fn "$loop" >log 2>&1 || fail "$(cat log)"
close_guest no-mount
direct_io=yes
open_guest
[ ! -e guest/dir2 ] || fail "what was deleted is there again"
same_bytes random guest/new
same_bytes <(head -c 1000000 random) guest/dir1/random

# Killed under the guest.
for i in 1 2 3; do
    cp random "guest/synced$i"
    sync "guest/synced$i"
    cp random "guest/not-synced$i"
    kill -KILL "$(vmafs_pid "$mnt")"
    umount guest || umount -l guest
    losetup -d "$loop"
    umount -l "$mnt"
    wait_until 20 detached || fail "the loop device stays"
    wait_until 10 gone "$mnt"
    cleanup_commands=("${cleanup_commands[@]:0:${#cleanup_commands[@]}-2}")
    open_guest
    same_bytes random "guest/synced$i"
    same_bytes random guest/new
done
close_guest
open_guest no-mount
e2fsck -fn "$loop" >log 2>&1 || fail "$(cat log)"

# Archive and changes as one new archive.
"$VMATOOL" create new.vma drive-scsi0="$disk"
"$VMATOOL" extract new.vma new
same_bytes "$disk" new/disk-drive-scsi0.raw
close_guest no-mount
same_text "$sum" "$(sha256sum <a.vma.zst)"
# Without the overlay nothing of this has happened.
start_vmafs "$TEST_TMP/a.vma.zst" "$mnt"
same_bytes dirty.raw "$disk"
