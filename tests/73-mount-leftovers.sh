#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
# Nothing is left of a guest's mount: after umount in any way, SIGTERM and SIGKILL of the daemon, SIGKILL of
# mount.vmafs at any moment, failures half way, and the end of a container.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/mounthelper.sh"
requires mkfs.ext4

mkdir -p tree/etc
echo 'NAME=Test' >tree/etc/os-release
head -c 3000000 /dev/urandom >tree/random
truncate -s 24M ext4.raw
mkfs.ext4 -q -d tree ext4.raw
"$VMATOOL" create a.vma drive-t73=ext4.raw

up()
{
    "$helper" a.vma "$dir" -o part=root
    same_bytes tree/random "$dir/random"
}

drop_caches() # so that a read reaches the daemon
{
    sync
    echo 1 >/proc/sys/vm/drop_caches
}

# Each way to unmount.  umount(8) waits for the end, the others need not.
up
umount "$dir"
same_text "" "$(leftovers drive-t73)$(utab)"
up
umount -i "$dir"
check_nothing_left drive-t73 "by umount -i"
up
python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).umount2(sys.argv[1].encode(), 0))' "$dir"
check_nothing_left drive-t73 "by umount2(2)"
up
exec 8<"$dir/random"
expect_fail 32 'in use' umount "$dir"
umount -l "$dir"
cmp tree/random - <&8 || fail "a file that is open is not readable after umount -l"
[ -n "$(vmafs_processes)" ] || fail "the daemon ended while a file was open"
exec 8<&-
check_nothing_left drive-t73 "by umount -l"

# Both places of a file system that is mounted twice must go.
up
mkdir again
mount --bind "$dir" again
umount "$dir"
same_bytes tree/random again/random
umount again
check_nothing_left drive-t73 "by a bind mount"

# The end of the daemon: reads fail, and then umount works as ever.
for signal in TERM KILL; do
    up
    kill -"$signal" "$(vmafs_processes | sed 's/ .*//')"
    wait_until 10 test -z "$(vmafs_processes)"
    drop_caches
    ! cmp -s tree/random "$dir/random" || fail "readable without a daemon"
    expect_fail 32 'dead mount is in the way' "$helper" a.vma "$dir" -o part=root
    umount "$dir"
    check_nothing_left drive-t73 "by SIG$signal"
done

# The end of a container, with its processes and all that was mounted in it.
unshare --mount --propagation private --pid --fork --mount-proc bash -c "'$helper' a.vma '$dir' -o part=root && ls '$dir'" |
    grep -q random
check_nothing_left drive-t73 "by a container"

# mount.vmafs is killed at any moment.
for i in $(seq 40); do
    "$helper" a.vma "$dir" -o part=root &
    killed=$!
    sleep "$(printf 0.%03d "$i")"
    kill -KILL "$killed" 2>/dev/null || true
    wait "$killed" 2>/dev/null || true
    if at "$dir" >/dev/null; then
        umount "$dir"
    fi
    check_nothing_left drive-t73 "by SIGKILL of mount.vmafs"
done

# It fails half way.
expect_fail 32 'cannot mount' "$helper" a.vma "$dir" -o part=root,fs=xfs
mount --bind /dev/null /dev/loop-control
expect_fail 2 'loop-control.*modprobe loop' "$helper" a.vma "$dir" -o part=root
umount /dev/loop-control
mount --bind /dev/null /dev/fuse
expect_fail 2 '.' "$helper" a.vma "$dir" -o part=root
umount /dev/fuse
expect_fail 2 'is vmafs installed' env VMAFS=/nonexistent "$helper" a.vma "$dir" -o part=root
check_nothing_left drive-t73 "by failures"

# What follows preloads a library.
[ "${TEST_VARIANT:-plain}" = plain ] || exit 0

# Broken off while the archive is scanned: status 8, and no mount.
make_slow_archive 30
LD_PRELOAD=$TEST_TMP/slow-pread.so SLOW_PREAD_FILE=$TEST_TMP/slow.vma SLOW_PREAD_US=$slow_us \
    "$helper" slow.vma "$dir" -o part=1 2>errors &
child=$!
sleep 1
kill -TERM "$child"
status=0
wait "$child" || status=$?
same_text "8 mount.vmafs: interrupted" "$status $(cat errors)"
check_nothing_left drive- "by SIGTERM"
[ -z "$(find cache -name '*.tmp*' -o -name '*.new*')" ] || fail "$(find cache)"
