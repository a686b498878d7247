#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: serial
# SIGTERM, SIGINT and SIGHUP unmount cleanly, also during the scan; a busy mount is left lazily; a reader
# that waits for the scan can be killed.

. "$(dirname "$0")/lib/functions.sh"
requires_fuse

mnt=$TEST_TMP/mnt
mkdir mnt
cleanup_fn stop_vmafs "$mnt"

for signal in TERM INT; do
    "$VMAFS" "$fixtures/tiny.vma" "$mnt"
    kill -"$signal" "$(vmafs_pid "$mnt")"
    wait_until 5 gone "$mnt" || fail "SIG$signal does not unmount"
done

# Killed, it leaves a dead mount; with auto_unmount not even that.
"$VMAFS" -o auto_unmount "$fixtures/tiny.vma" "$mnt"
kill -KILL "$(vmafs_pid "$mnt")"
wait_until 10 gone "$mnt" || fail "auto_unmount leaves a dead mount"

# In the foreground the exit status is that of a clean end.
# (Without job control a shell lets its children ignore SIGINT; env undoes that.)
env --default-signal=INT "$VMAFS" -f "$fixtures/tiny.vma" "$mnt" &
child=$!
wait_until 5 is_mounted "$mnt"
kill -INT "$child"
wait_until 5 gone "$mnt" || fail "SIGINT does not end it in the foreground"
status=0
wait "$child" || status=$?
[ "$status" = 0 ] || fail "status $status after SIGINT"

# Busy: somebody stands in it and holds a file open.
"$VMAFS" "$fixtures/tiny.vma" "$mnt"
exec 8<"$mnt/disk-drive-scsi0.raw"
(cd "$mnt" && sleep 60) &
sleeper=$!
cleanup_fn kill "$sleeper"
stands_in_it()
{
    [ "$(readlink "/proc/$sleeper/cwd")" = "$mnt" ]
}
wait_until 5 stands_in_it
kill -TERM "$(vmafs_pid "$mnt")"
not_mounted()
{
    ! is_mounted "$mnt"
}
wait_until 5 not_mounted || fail "a busy mount stays after SIGTERM"
kill "$sleeper"
exec 8<&-
wait_until 10 gone "$mnt" || fail "the process stays when the last user has left"

# During a scan of some ten seconds.
make_slow_archive 10
slow_vmafs slow.vma "$mnt" --index-cache=none
grep -q '"building"' "$mnt/.vmafs/status" || fail "the scan is over already"
# The last cluster is not there yet: its reader waits, and dies at once when told to.
dd if="$mnt/disk-drive-scsi0.raw" of=/dev/null bs=4096 count=1 status=none \
    skip=$(($(stat -c %s "$mnt/disk-drive-scsi0.raw") / 4096 - 1)) &
reader=$!
sleep 0.5
kill -0 "$reader" || fail "a read ahead of the scan did not wait"
kill -KILL "$reader"
dead()
{
    ! kill -0 "$reader" 2>/dev/null
}
wait_until 2 dead || fail "a waiting reader cannot be killed"
# What the scan has passed is there meanwhile.
timeout 2 dd if="$mnt/disk-drive-scsi0.raw" of=/dev/null bs=4096 count=1 status=none ||
    fail "a read behind the scan waits"

start=$(date +%s%N)
kill -TERM "$(vmafs_pid "$mnt")"
wait_until 3 gone "$mnt" || fail "SIGTERM during the scan does not end it"
[ $((($(date +%s%N) - start) / 1000000)) -lt 2500 ] || fail "SIGTERM during the scan took long"

# umount during the scan ends it just as well.
slow_vmafs slow.vma "$mnt" --index-cache=none
fusermount3 -u "$mnt"
wait_until 3 gone "$mnt" || fail "umount during the scan does not end the process"
[ ! -e cache ] || [ -z "$(find cache -type f -newer slow-pread.so)" ] || fail "$(find cache -type f)"
