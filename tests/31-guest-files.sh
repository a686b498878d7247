#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest's ext4, inside a partition of a disk inside the archive, mounts through a loop device, and
# every file in it is the true one.

. "$(dirname "$0")/lib/functions.sh"
requires_root
requires losetup sha256sum blkid
requires_fuse

start_vmafs "$fixtures/multi-disk.vma" "$TEST_TMP/mnt"
disk=mnt/disk-drive-scsi0.raw

# The partition's place, from the GPT itself: udev may not be there to make a device for it.
start=$(od -An -t u8 --endian=little -j $((1024 + 32)) -N 8 "$disk" | tr -d ' ')
end=$(od -An -t u8 --endian=little -j $((1024 + 40)) -N 8 "$disk" | tr -d ' ')
same_text refroot "$(blkid -p -O $((start * 512)) -o value -s LABEL "$disk")"

check_guest() # LOSETUP-OPTION...
{
    local loop
    loop=$(losetup -f --show -r -o $((start * 512)) --sizelimit $(((end - start + 1) * 512)) \
        "$@" "$disk") || skip "no loop device"
    cleanup_fn losetup -d "$loop"
    mkdir -p guest
    mount -t ext4 -o ro,noload "$loop" guest
    cleanup_fn umount "$TEST_TMP/guest"
    (cd guest && sha256sum --quiet -c "$fixtures/multi-disk.files.sha256")
    # And there is no file that the list does not know.
    (cd guest && find . -type f | LC_ALL=C sort) >found
    sed 's/^[0-9a-f]*  //' "$fixtures/multi-disk.files.sha256" | LC_ALL=C sort >listed
    same_bytes listed found
    umount guest
    cleanup_commands=("${cleanup_commands[@]:0:${#cleanup_commands[@]}-2}")
    losetup -d "$loop"
}

check_guest
check_guest --direct-io=on
