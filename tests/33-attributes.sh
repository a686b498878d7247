#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# What stat, mount and a would-be writer see.

. "$(dirname "$0")/lib/functions.sh"
requires_fuse

mnt=$TEST_TMP/mnt
start_vmafs "$fixtures/tiny.vma" "$mnt"
seconds=$(od -An -t u8 --endian=big -j 24 -N 8 "$fixtures/tiny.vma" | tr -d ' ')
for file in disk-drive-scsi0.raw qemu-server.conf; do
    same_text "$seconds" "$(stat -c %Y "$mnt/$file")"
    same_text "regular file" "$(stat -c %F "$mnt/$file")"
    same_text "" "$(find "$mnt/$file" -perm /333)"
done
same_text 6291968 "$(stat -c %s "$mnt/disk-drive-scsi0.raw")"
same_text 230 "$(stat -c %s "$mnt/qemu-server.conf")"

# The control folder is there, but a listing (and with it cp -r, tar, rsync) does not show it.
same_text "disk-drive-scsi0.raw qemu-server.conf" "$(find "$mnt" -mindepth 1 -printf '%f\n' | sort | xargs)"
same_text "directory" "$(stat -c %F "$mnt/.vmafs")"
same_text "errors status" "$(find "$mnt/.vmafs" -mindepth 1 -printf '%f\n' | sort | xargs)"

line=$(grep -F " $mnt " /proc/self/mounts)
case $line in
*" fuse.vmafs "*) ;;
*) fail "the file system type is not fuse.vmafs: $line" ;;
esac
echo "$line" | grep -qE ' ro,|,ro[, ]' || fail "not mounted read-only: $line"
echo "$line" | cut -d ' ' -f 1 | grep -q 'tiny\.vma$' || fail "the archive is not the fsname: $line"

# Nothing can be changed, by root neither.
denied() # COMMAND...
{
    local status=0
    "$@" 2>stderr || status=$?
    [ "$status" != 0 ] || fail "succeeded: $*"
    grep -qE 'Read-only file system|Permission denied|Operation not permitted' stderr ||
        fail "$*: $(cat stderr)"
}
denied touch "$mnt/new"
denied mkdir "$mnt/dir"
denied rm -f "$mnt/qemu-server.conf"
denied mv "$mnt/qemu-server.conf" "$mnt/other"
denied ln -s x "$mnt/link"
denied chmod 600 "$mnt/qemu-server.conf"
denied truncate -s 0 "$mnt/disk-drive-scsi0.raw"
denied dd if=/dev/zero of="$mnt/disk-drive-scsi0.raw" bs=512 count=1 conv=notrunc status=none
[ ! -e "$mnt/nosuch" ] || fail "a file that is not there"
[ ! -e "$mnt/.vmafs/nosuch" ] || fail "a file that is not there"
df "$mnt" >/dev/null
stop_vmafs "$mnt"

if [ "$(id -u)" = 0 ]; then
    start_vmafs "$fixtures/tiny.vma" "$mnt" -o uid=1234,gid=2345,mode=440,allow_other
    same_text "1234 2345 440" "$(stat -c '%u %g %a' "$mnt/disk-drive-scsi0.raw")"
    same_text "1234 2345 440" "$(stat -c '%u %g %a' "$mnt/qemu-server.conf")"
    stop_vmafs "$mnt"
    # A mode never grants writing.
    start_vmafs "$fixtures/tiny.vma" "$mnt" -o mode=666
    same_text 444 "$(stat -c %a "$mnt/disk-drive-scsi0.raw")"
    stop_vmafs "$mnt"
fi

# A path relative to where the user stands, and one with characters that mount options split at.
cp "$fixtures/tiny.vma" 'a,b\c d.vma'
mkdir -p 'm,n o'
start_vmafs 'a,b\c d.vma' "$TEST_TMP/m,n o"
same_text 230 "$(stat -c %s 'm,n o/qemu-server.conf')"
