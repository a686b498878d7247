#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mount -t vmafs: arguments, options, exit status and fstab lines are those of mount(8); the images are
# mounted, and umount takes everything away.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/mounthelper.sh"

head -c 3000000 /dev/urandom >disk.raw
"$VMATOOL" create a.vma drive-t71=disk.raw
zstd -q a.vma -o a.vma.zst

check_images() # DIR
{
    same_bytes disk.raw "$1/disk-drive-t71.raw"
}

down() # [umount option...]
{
    umount "$@" "$dir"
    # The helper waits, so that the archive's own file system can go next.
    same_text "" "$(vmafs_processes)$(utab)"
    ! at "$dir" || fail "still mounted"
}

# Both types, compressed and not; what mount(8) adds or keeps to itself is no trouble.
for type in vmafs fuse.vmafs; do
    for archive in a.vma a.vma.zst; do
        mount -t "$type" "$archive" "$dir"
        check_images "$dir"
        at "$dir" | grep -q '^fuse.vmafs ro,nosuid,nodev' || fail "mounted as $(at "$dir")"
        down
    done
done
mount -t vmafs a.vma "$dir" -o rw,defaults,user,nofail,_netdev,noauto,users,group,comment=a,suid,dev \
    -o x-systemd.automount,x-a.b=c,X-d,relatime,noexec,uid=12,mode=0440
check_images "$dir"
same_text '12 440' "$(stat -c '%u %a' "$dir/disk-drive-t71.raw")"
down
# Directly, as mount(8) calls it, options before and behind.
"$helper" -v -o uid=13 a.vma "$dir" -n -s -o ro,nosuchoption -t fuse.vmafs
same_text 13 "$(stat -c %u "$dir/disk-drive-t71.raw")"
down -l

# Values with commas: escaped or quoted.
mkdir 'b,c d'
mount -t vmafs a.vma "$dir" -o 'index_cache="'"$TEST_TMP"'/b,c d",noatime'
[ -n "$(ls 'b,c d')" ] || fail "no index in a folder with a comma"
rm 'b,c d'/*
down
"$helper" a.vma "$dir" -o "index_cache=$TEST_TMP/b\\,c d"
[ -n "$(ls 'b,c d')" ] || fail "no index in a folder with a comma, escaped"
down

# fstab: spaces are \040; once is enough; umount by type.
cp a.vma 'b,c d/my archive.vma'
mkdir 'my dir'
cat >fstab <<END
$TEST_TMP/b,c\\040d/my\\040archive.vma $TEST_TMP/my\\040dir vmafs noauto,nofail,x-systemd.automount 0 0
$TEST_TMP/a.vma $dir fuse.vmafs mode=444,_netdev,nofail 0 0
END
mount -a -T fstab
check_images "$dir"
! at 'my dir' || fail "noauto was mounted"
mount -a -T fstab
same_text 1 "$(findmnt -n -r -o TARGET | grep -cxF "$dir")"
mount -T fstab "$TEST_TMP/my dir"
check_images 'my dir'
umount -a -t fuse.vmafs
check_nothing_left drive-t71 "by umount -a"
mount -a -T fstab
umount -a -O helper=vmafs
same_text "" "$(utab)"
check_nothing_left drive-t71 "by umount -a"

# -f looks, and mounts nothing.
mount -f -t vmafs a.vma "$dir"
! at "$dir" || fail "-f has mounted"
expect_fail 1 'unknown mount option' "$helper" -f a.vma "$dir" -o nosuchoption
"$helper" -f -s a.vma "$dir" -o nosuchoption

# Another mount name space: the archive is ours, the folder is theirs.
mkdir -p hidden
mount -t tmpfs tmpfs hidden
cp a.vma hidden/
unshare --mount --propagation private bash -c "umount '$TEST_TMP/hidden'; echo ready; exec sleep 60" >ready &
other=$!
cleanup_fn kill "$other"
wait_until 10 test -s ready
mount -N "$other" -t vmafs "$TEST_TMP/hidden/a.vma" "$dir"
! at "$dir" || fail "mounted in our own name space"
nsenter -t "$other" -m cmp "$TEST_TMP/disk.raw" "$dir/disk-drive-t71.raw"
umount -N "$other" "$dir"
# With -N nobody waits for the end of vmafs.
wait_until 10 umount -q hidden 2>umount.log || fail "the archive stays in use: $(cat umount.log)"
check_nothing_left drive-t71 "in another name space"

# What is wrong, and which status says so.
expect_fail 1 'needs an archive and a directory' "$helper" a.vma
expect_fail 1 'unknown option' "$helper" -q a.vma "$dir"
expect_fail 1 'unknown option, or without its value' "$helper" a.vma "$dir" -o
expect_fail 1 'cannot be remounted' mount -o remount -t vmafs a.vma "$dir"
expect_fail 1 'unknown mount option' mount -t vmafs a.vma "$dir" -o nosuchoption
expect_fail 1 '-o uid=x: ' mount -t vmafs a.vma "$dir" -o uid=x
expect_fail 32 'mount point does not exist.*mkdir' "$helper" a.vma nodir
expect_fail 32 'not a directory' "$helper" a.vma a.vma
expect_fail 32 'No such file' "$helper" none.vma "$dir"
head -c 200000 a.vma >cut.vma
expect_fail 32 'mount with -o salvage' "$helper" cut.vma "$dir"
expect_fail 2 'is vmafs installed' env VMAFS=/nonexistent/vmafs "$helper" a.vma "$dir"
"$helper" --help | grep -q 'part=N|root'
"$helper" --version | grep -q '^mount.vmafs '
expect_fail 1 'needs one directory' /sbin/umount.vmafs
expect_fail 32 '.' umount "$dir"
check_nothing_left drive-t71 "by failures"

# In use.
mount -t vmafs a.vma "$dir"
exec 8<"$dir/disk-drive-t71.raw"
expect_fail 32 'in use .fuser' umount "$dir"
umount -l "$dir"
exec 8<&-
check_nothing_left drive-t71 "by umount -l"

# A dead mount.
mount -t vmafs a.vma "$dir"
kill -KILL "$(vmafs_processes | sed 's/ .*//')"
expect_fail 32 'dead mount is in the way .*umount -l' "$helper" a.vma "$dir"
umount -l "$dir"
check_nothing_left drive-t71 "by SIGKILL"
mount -t vmafs a.vma "$dir"
kill -TERM "$(vmafs_processes | sed 's/ .*//')"
check_nothing_left drive-t71 "by SIGTERM"

# A directory of archives.
mkdir -p dump
cp -p a.vma dump/one.vma
mount -t vmafs dump "$dir"
same_bytes disk.raw "$dir/one/disk-drive-t71.raw"
down
expect_fail 32 'name one archive' "$helper" dump "$dir" -o part=root

# fstab's "user": who is not root mounts and unmounts images, and nothing more.
requires setpriv fusermount3
mkdir -m 755 /run/user-test
cp -p a.vma "$VMAFS" /run/user-test
mknod -m 666 /run/user-test/fuse c 10 229
mount --bind /run/user-test/fuse /dev/fuse
mkdir /run/user-test/dir
chown -R 65534:65534 /run/user-test
echo "/run/user-test/a.vma /run/user-test/dir vmafs noauto,user,index_cache=none,x-a.b 0 0" >fstab
mount --bind fstab /etc/fstab
as_user()
{
    (cd /run/user-test && VMAFS=/run/user-test/vmafs XDG_CACHE_HOME=/run/user-test/cache \
        setpriv --reuid 65534 --regid 65534 --clear-groups "$@")
}
for umount in "umount dir" "umount /run/user-test/dir" "umount -l dir" "fusermount3 -u dir"; do
    as_user mount dir
    as_user cmp dir/disk-drive-t71.raw - <disk.raw
    # shellcheck disable=SC2086
    as_user $umount
    ! at /run/user-test/dir || fail "mounted after $umount"
    check_nothing_left drive-t71 "by $umount of a user"
done
expect_fail 32 "user_allow_other' is set in /etc/fuse.conf" as_user /sbin/mount.vmafs a.vma dir \
    -o allow_other,index_cache=none
expect_fail 1 'only root can mount' as_user /sbin/mount.vmafs a.vma dir -o part=1
umount /etc/fstab /dev/fuse
