#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The parent returns when the mount answers, or with the error of the child; ready_fd says the same to
# a program; -f stays.

. "$(dirname "$0")/lib/functions.sh"
requires_fuse

mnt=$TEST_TMP/mnt
mkdir mnt

# No waiting: the very next thing works, fifty times.
for _ in $(seq 50); do
    "$VMAFS" "$fixtures/tiny.vma" "$mnt" --index-cache=none
    [ "$(stat -c %s "$mnt/qemu-server.conf")" = 230 ] || fail "not ready after its return"
    fusermount3 -u "$mnt"
    wait_until 5 gone "$mnt" || fail "the process stays after umount"
done

# The daemon holds neither our folder nor our output: a script may pipe us, and $(...) must end.
cleanup_fn stop_vmafs "$mnt"
text=$(timeout 20 "$VMAFS" "$fixtures/tiny.vma" "$mnt" 2>&1) || fail "status $?: $text"
same_text "" "$text"
pid=$(vmafs_pid "$mnt")
same_text / "$(readlink "/proc/$pid/cwd")"
[ "$(ps -o sid= -p "$pid" | tr -d ' ')" != "$(ps -o sid= -p $$ | tr -d ' ')" ] ||
    fail "the daemon is in our session, and would die with our terminal"
stop_vmafs "$mnt"

# Mount points that cannot be.
expect_fail 1 '^vmafs: .*nosuch' "$VMAFS" "$fixtures/tiny.vma" nosuch
: >file
expect_fail 1 '^vmafs: .*file' "$VMAFS" "$fixtures/tiny.vma" file
expect_fail 1 '^vmafs: .*nosuch\.vma' "$VMAFS" nosuch.vma "$mnt"
cp "$fixtures/tiny.vma" private.vma
chmod 0 private.vma
if [ "$(id -u)" != 0 ]; then
    expect_fail 1 '^vmafs: .*private\.vma: .*[Pp]ermission' "$VMAFS" private.vma "$mnt"
fi

# A small damaged archive is refused with its error although the scan is in the background.
expect_fail 1 '40_ext_badmd5\.vma: extent at 12800: checksum mismatch .*salvage' \
    "$VMAFS" "$fixtures/edge/40_ext_badmd5.vma" "$mnt"
! is_mounted "$mnt" || fail "mounted in spite of the error"

# ready_fd: a line when it answers, end of file without one when it fails.
mkfifo ready
"$VMAFS" -f "$fixtures/tiny.vma" "$mnt" -o ready_fd=7 7>ready &
child=$!
line=$(timeout 10 cat ready | head -n 1 || true)
[ -n "$line" ] || fail "nothing came through ready_fd"
[ -e "$mnt/qemu-server.conf" ] || fail "ready_fd spoke too early"
[ "$(vmafs_pid "$mnt")" = "$child" ] || fail "-f does not stay"
fusermount3 -u "$mnt"
wait "$child" || fail "-f ends with $? after umount"

status=0
"$VMAFS" "$fixtures/edge/61_hdr_badmd5.vma" "$mnt" -o ready_fd=7 7>ready 2>/dev/null &
child=$!
same_text "" "$(timeout 10 cat ready)"
wait "$child" || status=$?
same_text 1 "$status"

# -o wait: the index is complete, or there is no mount.
start_vmafs "$fixtures/multi-disk.vma" "$mnt" -o wait --index-cache=none
grep -q '"complete"' "$mnt/.vmafs/status" || fail "-o wait did not wait: $(cat "$mnt/.vmafs/status")"
