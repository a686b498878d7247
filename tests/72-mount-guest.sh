#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest's file system in one mount: each kind, on GPT, in a logical partition, bare, in a logical volume; chosen
# in each way; a journal that was never replayed; what cannot be mounted says what to do.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/mounthelper.sh"
. "$lib/guestdisks.sh"
requires sfdisk jq mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat mkntfs ntfscp mksquashfs lvm nsenter

mkdir -p tree/etc tree/data
echo 'NAME=Test' >tree/etc/os-release
head -c 700000 /dev/urandom >tree/data/random
ln -s random tree/data/link

fill() # DISK NUMBER COMMAND...: makes a file system and puts it into a partition
{
    local disk=$1 number=$2
    shift 2
    part_image "$disk" "$number" part.raw
    "$@" part.raw >/dev/null 2>&1 || fail "$*"
    put_part "$disk" "$number" part.raw
}

# The disk as it is while the guest runs: the last file is only in the journal.
freeze() # IMAGE [mount option...]
{
    mkdir -p live
    mount -o loop"${2:+,$2}" "$1" live
    [ -e live/data ] || { cp -a tree/. live/ && umount live && mount -o loop "$1" live; }
    cp tree/data/random live/data/late
    sync -f live
    cp --sparse=always "$1" "$1.frozen"
    umount live
    mv "$1.frozen" "$1"
}

make_dirty_ext4() # IMAGE
{
    mkfs.ext4 -q -L rootfs -d tree "$1"
    freeze "$1" commit=600
    dumpe2fs -h "$1" 2>/dev/null | grep -q needs_recovery || fail "the journal is clean"
}

make_dirty_xfs() # IMAGE
{
    mkfs.xfs -q -L xdata "$1"
    freeze "$1"
}

make_ntfs() # IMAGE
{
    mkntfs -q -F -L windows "$1"
    ntfscp "$1" tree/data/random random
}

make_squashfs() # IMAGE
{
    mksquashfs tree "$1" -noappend -quiet -no-progress
    truncate -s %4096 "$1"
}

# A volume group with a logical volume in one piece, and one in two.  No device mapper is needed: the place of
# the first one is computed, one extent behind the start of the data.
make_lvm() # IMAGE
{
    local device
    device=$(losetup -f --show "$1")
    lvm_on "$device"
    lvm_do pvcreate --dataalignment 1m "$device"
    lvm_do vgcreate -s 1m guestvg "$device"
    lvm_do lvcreate -an -Zn -Wn -l 1 -n first guestvg
    lvm_do lvcreate -an -Zn -Wn -l 20 -n root guestvg
    lvm_do lvextend -l +3 guestvg/first
    losetup -d "$device"
    truncate -s 20M lv.raw
    mkfs.ext4 -q -L lvroot -d tree lv.raw
    dd if=lv.raw of="$1" bs=1M seek=2 conv=notrunc,sparse
    # The one in two pieces: an extent, and behind the other volume the rest.
    truncate -s 4M lv.raw
    mkfs.ext4 -q -L pieces -d tree lv.raw
    dd if=lv.raw of="$1" bs=1M count=1 seek=1 conv=notrunc,sparse
    dd if=lv.raw of="$1" bs=1M skip=1 seek=22 conv=notrunc,sparse
}

# One over two disks: seven extents of a mebibyte on each.
make_lvm_over_two() # DISK DISK
{
    local one two
    truncate -s 8M "$1" "$2"
    one=$(losetup -f --show "$1") two=$(losetup -f --show "$2")
    lvm_on "$one|$two"
    lvm_do pvcreate --dataalignment 1m "$one" "$two"
    lvm_do vgcreate -s 1m widevg "$one" "$two"
    lvm_do lvcreate -an -Zn -Wn -l 14 -n wide widevg "$one" "$two"
    losetup -d "$one" "$two"
    truncate -s 14M lv.raw
    mkfs.ext4 -q -L wide -d tree lv.raw
    dd if=lv.raw of="$1" bs=1M count=7 seek=1 conv=notrunc,sparse
    dd if=lv.raw of="$2" bs=1M skip=7 seek=1 conv=notrunc,sparse
}

make_disk gpt.raw 640M <<END
label: gpt
size=40M, type=U, name="EFI"
size=60M, type=L, name="rootpart"
size=320M, type=L
size=120M, type=L
size=20M, type=L
size=8M, type=S
END
fill gpt.raw 1 mkfs.vfat -F 32 -n EFISYS
fill gpt.raw 2 make_dirty_ext4
fill gpt.raw 3 make_dirty_xfs
fill gpt.raw 4 mkfs.btrfs -q -L bdata -r tree
fill gpt.raw 5 make_ntfs
fill gpt.raw 6 mkswap -q
make_disk mbr.raw 130M <<END
label: dos
size=20M, type=7
size=100M, type=5
5: size=20M, type=83
6: size=40M, type=8e
7: size=20M, type=83
END
fill mbr.raw 5 mkfs.ext4 -q -L logical -d tree
fill mbr.raw 6 make_lvm
fill mbr.raw 7 make_squashfs
make_squashfs bare.raw >/dev/null
truncate -s 16M bare.raw
make_lvm_over_two pv1.raw pv2.raw >lvm.log 2>&1

"$VMATOOL" create a.vma drive-t72a=gpt.raw drive-t72b=mbr.raw drive-t72c=bare.raw \
    drive-t72d=pv1.raw drive-t72e=pv2.raw
zstd -q -1 a.vma -o a.vma.zst

holds() # TYPE FILE: what is mounted
{
    [ "$(findmnt -n -r -o FSTYPE --mountpoint "$dir")" = "$1" ] || fail "not $1: $(at "$dir")"
    findmnt -n -r -o OPTIONS --mountpoint "$dir" | grep -q '^ro,.*nosuid,nodev' ||
        fail "mounted $(at "$dir")"
    same_bytes tree/data/random "$dir/$2"
}

down()
{
    umount "$dir"
    same_text "" "$(leftovers drive-t72)$(utab)"
}

guest() # ARCHIVE OPTIONS TYPE FILE
{
    mount -t vmafs "$1" "$dir" -o "$2"
    holds "$3" "$4"
    down
}

for archive in a.vma a.vma.zst; do
    guest $archive disk=t72a,part=2 ext4 data/random
    guest $archive part=root ext4 data/random
    guest $archive disk=drive-t72a,part=p3 xfs data/random
    guest $archive label=bdata btrfs data/random
    guest $archive "disk=disk-drive-t72b.raw,part=5,noexec,noatime" ext4 data/random
    guest $archive disk=t72b,label=logical,fs=auto ext4 data/random
    guest $archive disk=t72b,lv=guestvg/root ext4 data/random
    guest $archive disk=t72b,part=7 squashfs data/random
    guest $archive disk=t72c,fs=squashfs squashfs data/random
done
"$VMATOOL" parts --json a.vma >parts.json
guest a.vma "uuid=$(jq -r '.disks[0].volumes[1].uuid' parts.json)" ext4 data/random
guest a.vma label=rootpart,salvage,index_cache=none ext4 data/random

# NTFS through the kernel or through ntfs-3g, which is another program that holds the loop device.
mount -t vmafs a.vma "$dir" -o disk=t72a,part=5
same_bytes tree/data/random "$dir/random"
umount "$dir"
check_nothing_left drive-t72 "below ntfs"

# Where the kernel lacks the file system, the message says so.
if ! grep -qw vfat /proc/filesystems && ! modprobe -q vfat 2>/dev/null; then
    expect_fail 32 'p1 holds vfat, which this kernel cannot mount .*modprobe vfat' \
        mount -t vmafs a.vma "$dir" -o disk=t72a,part=1
else
    mount -t vmafs a.vma "$dir" -o disk=t72a,part=1
    down
fi

# What is not there, or is no file system: what there is.
expect_fail 32 "no disk 'scsi9'.*t72a.*t72b" "$helper" a.vma "$dir" -o disk=scsi9
expect_fail 32 "no partition '9'.*p2 ext4.*p3 xfs" "$helper" a.vma "$dir" -o disk=t72a,part=9
expect_fail 32 "no label 'nolabel'" "$helper" a.vma "$dir" -o label=nolabel
expect_fail 32 "more than one partition '5'" "$helper" a.vma "$dir" -o part=5
expect_fail 32 'p6 .*swap.*no file system' "$helper" a.vma "$dir" -o disk=t72a,part=6
expect_fail 32 'LVM2_member.*no file system' "$helper" a.vma "$dir" -o disk=t72b,part=6
expect_fail 32 "no partition 'othervg/x'" "$helper" a.vma "$dir" -o lv=othervg/x
expect_fail 1 'lv=vg/root' "$helper" a.vma "$dir" -o lv=root
expect_fail 1 'exclude each other' "$helper" a.vma "$dir" -o lv=a/b,part=1
expect_fail 32 'cannot mount p2 .*as xfs: .*dmesg' "$helper" a.vma "$dir" -o part=root,fs=xfs
expect_fail 32 'holds nosuchfs, which this kernel cannot mount' \
    "$helper" a.vma "$dir" -o part=root,fs=nosuchfs
expect_fail 32 'cannot mount p2 .*as ext4' "$helper" a.vma "$dir" -o part=root,nosuchoption
expect_fail 32 'mount point does not exist' "$helper" a.vma none -o part=root
check_nothing_left drive-t72 "by failures"

# A logical volume in pieces is put together by the device mapper.  Not every kernel has it; so a dmsetup of
# ours does what a table of it says, with a file, and removes the device when it is asked to.
mount -t tmpfs tmpfs /dev/mapper
expect_fail 2 'control: .*pieces.*modprobe dm-mod' "$helper" a.vma "$dir" -o lv=guestvg/first
touch /dev/mapper/control
rm -f "$TEST_TMP/sbin/dmsetup"
expect_fail 2 'install the package dmsetup' "$helper" a.vma "$dir" -o lv=guestvg/first
cat >"$TEST_TMP/sbin/dmsetup" <<END
#!/bin/bash
set -e
echo "\$@" >>'$TEST_TMP/dmsetup.log'
case \$1 in
create)
    cat >'$TEST_TMP/table'
    rm -f '$TEST_TMP/mapped'
    while read -r start sectors target device from; do
        [ "\$target" = linear ]
        dd if="\$device" of='$TEST_TMP/mapped' bs=512 skip="\$from" count="\$sectors" seek="\$start" \
            conv=notrunc status=none
    done <'$TEST_TMP/table'
    device=\$(losetup -r -f --show '$TEST_TMP/mapped')
    mknod "/dev/mapper/\$2" b 7 "\${device#/dev/loop}"
    ;;
remove)
    [ "\$2" = --deferred ] && losetup -d "/dev/mapper/\$3" && [ "\$(<'$TEST_TMP/fail')" = no ]
    ;;
esac
END
chmod +x "$TEST_TMP/sbin/dmsetup"
echo no >fail
for volume in widevg/wide guestvg/first; do
    mount -t vmafs a.vma "$dir" -o lv=$volume
    holds ext4 data/random
    findmnt -n -o SOURCE --mountpoint "$dir" | grep -q '^/dev/mapper/vmafs-' ||
        fail "$(findmnt "$dir")"
    same_text 2 "$(wc -l <table)"
    umount "$dir"
    # The loop device in the place of the device mapper's lets go of the others at once, and so they are gone.
    check_nothing_left drive-t72 "below a logical volume in pieces"
    same_text "" "$(losetup -n -O NAME -j "$TEST_TMP/mapped")"
done
expect_fail 32 'widevg/wide: .*only LVM' "$helper" a.vma "$dir" -o disk=t72d,lv=widevg/wide
grep -qE '^create vmafs-[0-9]+-[0-9a-f]{16} --readonly$' dmsetup.log
echo yes >fail
expect_fail 2 'dmsetup remove' "$helper" a.vma "$dir" -o lv=guestvg/first
check_nothing_left drive-t72 "by a dmsetup that fails"
umount /dev/mapper
rm "$TEST_TMP/sbin/dmsetup"

# fstab; a second mount -a does nothing; umount by what mount noted.
echo "$TEST_TMP/a.vma $dir vmafs part=root,nofail,x-systemd.automount,_netdev 0 0" >fstab
mount -a -T fstab
mount -a -T fstab
holds ext4 data/random
same_text 1 "$(findmnt -n -r -o TARGET | grep -cxF "$dir")"
umount -a -O helper=vmafs
same_text "" "$(leftovers drive-t72)$(utab)"

# -f looks for the volume, and mounts nothing.
mount -f -t vmafs a.vma "$dir" -o part=root
"$helper" -f a.vma "$dir" -o part=root
expect_fail 32 "no partition '9'" "$helper" -f a.vma "$dir" -o part=9
same_text "" "$(leftovers drive-t72)$(utab)"

# In another name space.
unshare --mount --propagation private bash -c 'echo ready; exec sleep 60' >ready &
other=$!
cleanup_fn kill "$other"
wait_until 10 test -s ready
mount -N "$other" -t vmafs "$TEST_TMP/a.vma" "$dir" -o part=root
! at "$dir" || fail "mounted in our own name space"
nsenter -t "$other" -m cmp "$TEST_TMP/tree/data/random" "$dir/data/random"
umount -N "$other" "$dir"
check_nothing_left drive-t72 "in another name space"

# With an overlay it is mounted as ever: the journal is replayed, and what is written goes beside the archive.
sha256sum a.vma >sums
for type in 2:ext4 3:xfs; do
    mount -t vmafs a.vma "$dir" -o "disk=t72a,part=${type%:*},overlay=$TEST_TMP/over.$type"
    at "$dir" | grep -q "^${type#*:} rw,nosuid,nodev" || fail "mounted $(at "$dir")"
    same_bytes tree/data/random "$dir/data/late"
    echo mine >"$dir/data/new"
    down
    mount -t vmafs a.vma "$dir" -o "disk=t72a,part=${type%:*},overlay=$TEST_TMP/over.$type,ro"
    at "$dir" | grep -q "^${type#*:} ro," || fail "mounted $(at "$dir")"
    same_text mine "$(cat "$dir/data/new")"
    down
done
mount -t vmafs a.vma.zst "$dir" -o part=root,overlay
same_bytes tree/data/random "$dir/data/late"
rm "$dir/data/random"
down
sha256sum --quiet -c sums

# Helper and driver both look for checksums, and one of them tells of those that are stale.
cp a.vma stale.vma
"$VMATOOL" index --checksums stale.vma
touch stale.vma
mount -t vmafs stale.vma "$dir" -o part=root 2>told
same_text 1 "$(grep -c 'the checksums are stale' told)"
down
