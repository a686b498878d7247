#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=300
# The driver is confined: a parser that has been taken over reaches nothing but the archive and its
# index; so are commands of vmatool; the system shows what was given up; unmounting and all kinds of mounts work in spite of it.

. "$(dirname "$0")/lib/functions.sh"
requires_fuse
requires_root
requires setpriv jq unshare pgrep mount.fuse3

# shellcheck disable=SC2154
[ "${TEST_VARIANT:-plain}" = plain ] || skip "no sandbox in builds with sanitizers"

# In a mount name space of its own, where users may have FUSE.
if [ "${SANDBOX_NAMESPACE:-}" != yes ]; then
    export SANDBOX_NAMESPACE=yes
    run=0
    unshare --mount --propagation private "$tests/$(basename "$0")" || run=$?
    exit "$run"
fi
drop_foreign_mounts
mkdir devices
mount -t tmpfs tmpfs devices
mknod -m 666 devices/fuse c 10 229
mount --bind devices/fuse /dev/fuse
cleanup_fn umount devices
cleanup_fn umount /dev/fuse

mkdir home mnt out temporary
export TMPDIR=$TEST_TMP/temporary
home=$TEST_TMP/home mnt=$TEST_TMP/mnt
cp "$fixtures/tiny.vma" "$fixtures/tiny.vma.zst" home/
"${CC:-cc}" -shared -fPIC -O1 -Wall -o hijack.so "$lib/hijack.c" -ldl
sleep 600 &
prey=$!
cleanup_fn kill "$prey"
cleanup_fn stop_vmafs "$mnt"

status()
{
    jq -r "$1" "$mnt/.vmafs/status"
}

# Mounts with a library that takes over whoever reads $2, and reads all of it through the mount.
hijacked() # NAME FILE ARCHIVE [OPTION...]
{
    local name=$1 file=$2 archive=$3
    shift 3
    echo secret >home/beside
    echo precious >home/victim
    HIJACK_OUT=$TEST_TMP/out/$name HIJACK_FILE=$home/$file HIJACK_HOME=$home HIJACK_PID=$prey \
        LD_PRELOAD=$TEST_TMP/hijack.so "$VMAFS" "$archive" "$mnt" "$@"
    find "$mnt" -name '*.raw' -exec cat {} + >/dev/null
    state=$(status .sandbox.state)
    stop_vmafs "$mnt"
}

# Everything that was tried was in vain, in threads too, and left no trace.
held() # NAME WHERE...: where it must have come in
{
    local name=$1 where
    shift
    same_text on "$state"
    for where; do
        grep -qx "$where end -" "out/$name" || fail "$name: nobody was taken over in $where"
    done
    if grep ' done$' "out/$name"; then
        fail "$name: the sandbox did not hold"
    fi
    cmp -s home/tiny.vma "$fixtures/tiny.vma" || fail "$name: the archive was changed"
    same_text precious "$(cat home/victim)"
    [ ! -e home/made ] && [ ! -L home/link ] || fail "$name: something was made"
}

# Without the sandbox all of it succeeds: or the test would prove nothing.
hijacked none tiny.vma home/tiny.vma --index-cache=none -o no_sandbox
same_text off "$state"
for what in read-shadow read-beside list-root write-archive write-victim make-file make-link \
    truncate-victim chmod-victim rename-victim delete-victim start-program start-process connect-tcp connect-unix \
    trace-process read-process open-process open-self signal-process unshare run-written-memory \
    make-memory-code have-capabilities; do
    grep -qx "main $what done" out/none || fail "without a sandbox: $(grep "main $what" out/none)"
done
rm -f home/made home/link

hijacked plain tiny.vma home/tiny.vma
held plain main thread
hijacked uncached tiny.vma home/tiny.vma --index-cache=none
held uncached main thread
hijacked packed tiny.vma.zst home/tiny.vma.zst --index-cache=none
held packed thread
hijacked directory tiny.vma home
grep -v ' read-beside ' out/directory >out/directory2 # what else is in the directory may be read
held directory2 thread
[ -z "$(ls temporary)" ] || fail "a temporary file was left"
# The overlay lies beside the archive, and is new: its directory is none that can be written to.
hijacked overlay tiny.vma home/tiny.vma -o "overlay=$home/new.overlay,parts"
held overlay main thread
[ -s home/new.overlay ] || fail "the overlay was not made"
hijacked overlay2 tiny.vma home/tiny.vma -o "overlay=$home/new.overlay"
held overlay2 main thread
hijacked temporary tiny.vma home/tiny.vma -o overlay
held temporary main thread

# The commands of vmatool that only read and print; one that makes files cannot be confined like that.
hijacked_tool() # NAME FILE COMMAND [ARGUMENT...]
{
    local name=$1 file=$2
    shift 2
    HIJACK_OUT=$TEST_TMP/out/$name HIJACK_FILE=$home/$file HIJACK_HOME=$home HIJACK_PID=$prey \
        LD_PRELOAD=$TEST_TMP/hijack.so "$VMATOOL" "$@" >/dev/null
    state=on
}
for command in list config info map parts verify; do
    hijacked_tool "$command" tiny.vma "$command" home/tiny.vma
    held "$command" main
done
hijacked_tool verify-packed tiny.vma.zst verify --index-cache=none home/tiny.vma.zst
held verify-packed thread
hijacked_tool extract tiny.vma extract home/tiny.vma extract
grep -q ' read-shadow done$' out/extract || fail "extract does not tell anything"
rm -rf home/made home/link
echo precious >home/victim

# What the system says of the driver.
setpriv --groups 4,24 "$VMAFS" home/tiny.vma "$mnt"
pid=$(vmafs_pid "$mnt")
grep -qx 'NoNewPrivs:[[:space:]]*1' "/proc/$pid/status" || fail "no_new_privs is not set"
grep -qx 'Seccomp:[[:space:]]*2' "/proc/$pid/status" || fail "there is no filter"
grep -qx 'Groups:[[:space:]]*' "/proc/$pid/status" || fail "it has supplementary groups"
for task in "/proc/$pid/task"/*; do
    [ "$(grep -c '^Cap\(Prm\|Eff\|Bnd\|Amb\):[[:space:]]*0*$' "$task/status")" = 4 ] ||
        fail "a thread has capabilities"
    grep -qx 'Seccomp:[[:space:]]*2' "$task/status" || fail "a thread has no filter"
done
same_text on "$(status .sandbox.state)"
same_text true "$(status .sandbox.seccomp)"
[ "$(status .sandbox.landlock)" -ge 1 ] || fail "Landlock is not in force"
stop_vmafs "$mnt"

# Demanded, and had.  A kernel without Landlock: said in the status, and refused if demanded.
start_vmafs home/tiny.vma "$mnt" -o sandbox
stop_vmafs "$mnt"
"${CC:-cc}" -shared -fPIC -O1 -Wall -o no-landlock.so "$lib/no-landlock.c" -ldl
LD_PRELOAD=$TEST_TMP/no-landlock.so start_vmafs home/tiny.vma "$mnt"
same_text 'partial 0 true' "$(status '.sandbox | "\(.state) \(.landlock) \(.seccomp)"')"
same_text 'the kernel has no Landlock' "$(status .sandbox.missing)"
stop_vmafs "$mnt"
LD_PRELOAD=$TEST_TMP/no-landlock.so expect_fail 1 '-o sandbox: the kernel has no Landlock' \
    "$VMAFS" -o sandbox home/tiny.vma "$mnt"

# mount.fuse3's way: it mounts, gives up everything, and hands over the connection.
mkdir bin
ln -s "$(readlink -f "$VMAFS")" bin/vmafs
PATH=$TEST_TMP/bin:$PATH mount.fuse3 "vmafs#$TEST_TMP/home/tiny.vma" "$mnt" -o drop_privileges,parts
same_text on "$(status .sandbox.state)"
"$VMATOOL" extract home/tiny.vma dropped
same_bytes dropped/disk-drive-scsi0.raw "$mnt/disk-drive-scsi0.raw"
pid=$(status .pid)
umount "$mnt"
ended()
{
    ! kill -0 "$1" 2>/dev/null
}
wait_until 10 ended "$pid" || fail "it does not end with its mount"

# An archive of somebody else that only capabilities open: that one is kept, and no other.
chmod 600 home/tiny.vma
chown 65534:65534 home/tiny.vma
start_vmafs home/tiny.vma "$mnt"
same_text 0000000000000004 "$(status .sandbox.capabilities)"
cat "$mnt"/*.raw >/dev/null
stop_vmafs "$mnt"
start_vmafs home "$mnt"
same_text 0000000000000004 "$(status .sandbox.capabilities)"
cat "$mnt"/tiny.vma/*.raw >/dev/null
stop_vmafs "$mnt"
chown 0:0 home/tiny.vma
chmod 644 home/tiny.vma

# An archive that is a link out of the directory.
mkdir elsewhere links
mv home/tiny.vma elsewhere/
ln -s "$TEST_TMP/elsewhere/tiny.vma" links/a.vma
start_vmafs links "$mnt"
"$VMATOOL" extract elsewhere/tiny.vma extracted
same_bytes extracted/disk-drive-scsi0.raw "$mnt/a/disk-drive-scsi0.raw"
stop_vmafs "$mnt"

# A mount that fails leaves no overlay, and nobody behind.
head -c 100000 elsewhere/tiny.vma >home/broken.vma
expect_fail 1 'broken\.vma: ' "$VMAFS" -o "overlay=$home/failed.overlay,wait" home/broken.vma "$mnt"
[ ! -e home/failed.overlay ] || fail "a failed mount leaves its overlay"
! pgrep -f "vmafs-keeper: $mnt" >/dev/null || fail "a keeper is left"

# Who kills the keeper has to unmount by himself, and is told.
start_vmafs elsewhere/tiny.vma "$mnt"
kill -KILL "$(pgrep -f "vmafs-keeper: $mnt")"
cat "$mnt"/*.raw >/dev/null
fusermount3 -u "$mnt"
wait_until 10 gone "$mnt" || fail "without its keeper vmafs does not end"

# A user's mount: fusermount3 does it, started by the keeper.
mkdir user user/mnt
cp elsewhere/tiny.vma user/
cp "$VMAFS" user/vmafs # it may be in a place that is not for everybody
VMAFS=$TEST_TMP/user/vmafs
chown -R 65534:65534 user
chmod 755 "$TEST_TMP"
as_user()
{
    setpriv --reuid 65534 --regid 65534 --clear-groups env XDG_CACHE_HOME="$TEST_TMP/user/cache" "$@"
}
cleanup_fn stop_vmafs "$TEST_TMP/user/mnt"
as_user "$VMAFS" user/tiny.vma "$TEST_TMP/user/mnt"
pid=$(vmafs_pid "$TEST_TMP/user/mnt")
grep -qx 'Seccomp:[[:space:]]*2' "/proc/$pid/status" || fail "a user's driver has no filter"
same_text on "$(as_user jq -r .sandbox.state user/mnt/.vmafs/status)"
kill -TERM "$pid"
wait_until 10 gone "$TEST_TMP/user/mnt" || fail "SIGTERM does not unmount a user's mount"
