# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Tests of mount(8) with our helpers.  Sourced right after functions.sh: the test begins anew in a mount name
# space of its own, in which the helpers stand in /sbin; what it mounts, no one else sees.

requires_root
requires_fuse
requires unshare mount umount losetup findmnt pgrep

if [ "${MOUNT_HELPER_NAMESPACE:-}" != yes ]; then
    export MOUNT_HELPER_NAMESPACE=yes
    status=0
    unshare --mount --propagation private "$tests/$(basename "$0")" || status=$?
    exit "$status"
fi

drop_foreign_mounts

# mount(8) looks into /sbin and nowhere else.  A folder of links to what is there takes its place.
install_helpers()
{
    local sbin name
    sbin=$(readlink -f /sbin)
    mkdir "$TEST_TMP/sbin" "$TEST_TMP/sbin.old"
    mount --bind "$sbin" "$TEST_TMP/sbin.old"
    find "$TEST_TMP/sbin.old/" -mindepth 1 -maxdepth 1 ! -name '*mount*vmafs' \
        -exec ln -st "$TEST_TMP/sbin" {} +
    for name in mount umount; do
        cp "$(find_program "$name.vmafs" mount-helper)" "$TEST_TMP/sbin/$name.vmafs"
        ln -s "$name.vmafs" "$TEST_TMP/sbin/$name.fuse.vmafs"
    done
    mount --bind "$TEST_TMP/sbin" "$sbin"
    mount -t tmpfs tmpfs /run # for utab
}
install_helpers
helper=/sbin/mount.vmafs
mkdir -p "$TEST_TMP/dir"
dir=$TEST_TMP/dir
cleanup_fn umount -q -l "$dir"

at() # DIR: what is mounted there, as "TYPE OPTIONS"
{
    findmnt -n -r -o FSTYPE,OPTIONS --mountpoint "$1"
}

# Loop devices, processes and mounts of this test.  A detached mount shows its files without a folder, so
# that the disks of a test have names of their own.
leftovers() # DISK-PREFIX
{
    losetup -l -n -O NAME,BACK-FILE | grep -F " /disk-$1" || true
    vmafs_processes
    grep -F "$TEST_TMP/" /proc/self/mounts | grep -vF "$TEST_TMP/sbin" | grep -v ' /usr/sbin ' || true
}

# What umount(8) is told of mounts; stays behind if one goes without it.
utab()
{
    [ ! -e /run/mount/utab ] || cat /run/mount/utab
}

# Those of this test that have not ended.
vmafs_processes()
{
    local pid
    for pid in $(pgrep -x vmafs); do
        # One that has ended, but was not waited for yet, has no environment.
        if tr '\0' '\n' <"/proc/$pid/environ" | grep -qxF "TEST_TMP=$TEST_TMP"; then
            echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
        fi
    done 2>/dev/null
}

nothing_left() # DISK-PREFIX
{
    [ -z "$(leftovers "$1")" ]
}

check_nothing_left() # DISK-PREFIX WHEN
{
    wait_until 10 nothing_left "$1" || {
        leftovers "$1"
        fail "left behind $2"
    }
}
