#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# A mount of a directory: archives of all kinds, broken ones, ones that come, go, change and grow.

. "$(dirname "$0")/lib/functions.sh"
requires jq
requires_fuse

mnt=$TEST_TMP/mnt
disk="disk-drive-scsi0.raw"
mkdir dump
"$VMATOOL" extract "$fixtures/tiny.vma" true >/dev/null
"$VMATOOL" extract "$fixtures/multi-disk.vma" multi >/dev/null

status() # JQ-FILTER
{
    jq -r "$1" "$mnt/.vmafs/status"
}

state_of() # NAME
{
    status ".archives[] | select(.name == \"$1\") | .state"
}

is_closed() # NAME
{
    [ "$(state_of "$1")" = closed ]
}

# --- what is shown -----------------------------------------------------------------------------------

base=vzdump-qemu-100-2026_11_20-03_00_00
for kind in zst gz lzo lz4; do
    cp "$fixtures/tiny.vma.$kind" "dump/$kind.vma.$kind"
done
cp "$fixtures/multi-disk.vma" "dump/$base.vma"
echo "before the upgrade" >"dump/$base.vma.notes"
echo "INFO: done" >"dump/$base.log"
cp "$fixtures/tiny.vma" dump/twice.vma
cp "$fixtures/tiny.vma.zst" dump/twice.vma.zst
cp "$fixtures/tiny.vma" "$(printf 'dump/two\nlines.vma')"
cp "$fixtures/tiny.vma" dump/.hidden.vma
echo "this is no archive" >dump/bad.vma.zst
: >dump/empty.vma
cp "$fixtures/edge/57_trunc_at_extent.vma" dump/cut.vma
echo "secret" >secret
ln -s ../secret dump/cut.vma.notes
mkfifo dump/pipe.vma
mkdir dump/folder.vma
echo other >dump/other.txt

start_vmafs dump "$mnt"
same_text "$(printf '%s\n' bad cut empty gz lz4 lzo twice.vma twice.vma.zst two%0Alines "$base" zst)" \
    "$(ls "$mnt")"
stat "$mnt"/* >/dev/null
ls -l "$mnt" >/dev/null
same_text 0 "$(status .open)"
same_text "$(stat -c %y "dump/$base.vma")" "$(stat -c %y "$mnt/$base")"

same_text "$(printf '%s\n' disk-drive-efidisk0.raw $disk disk-drive-scsi1.raw log notes \
    qemu-server.conf qemu-server.fw)" "$(ls "$mnt/$base")"
same_text "before the upgrade" "$(cat "$mnt/$base/notes")"
same_text "INFO: done" "$(cat "$mnt/$base/log")"
echo "a second line" >>"dump/$base.vma.notes"
same_text "a second line" "$(tail -1 "$mnt/$base/notes")"
for kind in zst gz lzo lz4 twice.vma twice.vma.zst two%0Alines; do
    same_bytes "true/$disk" "$mnt/$kind/$disk"
    same_bytes true/qemu-server.conf "$mnt/$kind/qemu-server.conf"
done
for file in multi/*.raw; do
    same_bytes "$file" "$mnt/$base/${file#multi/}"
done
same_text complete "$(jq -r .index.state "$mnt/$base/.vmafs/status")"
getfattr --only-values -n user.vmafs.device "$mnt/$base/$disk" >device 2>/dev/null &&
    same_text drive-scsi0 "$(cat device)"
[ "$(stat -c %i "$mnt/$base/$disk")" != "$(stat -c %i "$mnt/twice.vma/$disk")" ] ||
    fail "two files with one inode number"

# --- broken ones ---------------------------------------------------------------------------------------

same_text ERROR "$(ls "$mnt/bad")"
grep -q 'bad.vma.zst: header at 0: not a VMA archive' "$mnt/bad/ERROR" || fail "$(cat "$mnt/bad/ERROR")"
grep -q 'header at 0' "$mnt/empty/ERROR"
same_text "$(printf '%s\n' $disk qemu-server.conf)" "$(ls "$mnt/cut")" # not the link
if cat "$mnt/cut/$disk" >/dev/null 2>&1; then
    fail "an archive that was cut off could be read"
fi
grep -q 'clusters of drive-scsi0 are missing' "$mnt/cut/ERROR" || fail "$(cat "$mnt/cut/ERROR")"
same_text "$(printf '%s\n' ERROR $disk qemu-server.conf)" "$(ls "$mnt/cut")"
same_text "$(printf '%s\n' bad cut empty)" "$(cut -d: -f1 "$mnt/.vmafs/errors")"
same_text broken "$(state_of bad)"
if mkdir "$mnt/new" 2>/dev/null || rm "$mnt/bad/ERROR" 2>/dev/null; then
    fail "the mount can be written to"
fi
for gone in nothing .vmafs/nothing "$base/nothing" "$base/ERROR"; do
    [ ! -e "$mnt/$gone" ] || fail "$gone is there"
done
stop_vmafs "$mnt"
# Options are those of each archive.  A partition that the kernel knows is found again after the archive was
# closed.
mkdir parts
python3 - <<'END'
# A disk with an MBR and one partition of type 83, from sector 8 on.
entry = bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (8).to_bytes(4, "little") + (56).to_bytes(4, "little")
disk = bytearray(64 * 512)
disk[446:462] = entry
disk[510:512] = b"\x55\xaa"
disk[8 * 512:9 * 512] = b"partition".ljust(512, b"!")
with open("parts.raw", "wb") as f:
    f.write(disk)
END
"$VMATOOL" create parts/p.vma drive-scsi0=parts.raw >/dev/null 2>&1
cp dump/cut.vma parts/
start_vmafs parts "$mnt" -o salvage,parts,idle=1
part=$mnt/p/disk-drive-scsi0.p1.raw
same_text "partition" "$(head -c 9 "$part")"
same_text 28672 "$(stat -c %s "$part")"
same_bytes <(head -c 131072 "$mnt/cut/$disk") <(head -c 131072 "$mnt/cut/$disk")
[ ! -e "$mnt/cut/ERROR" ] || fail "ERROR with salvage: $(cat "$mnt/cut/ERROR")"
grep -q '^lost: ' "$mnt/cut/.vmafs/errors" || fail "nothing is lost: $(cat "$mnt/cut/.vmafs/errors")"
wait_until 20 is_closed p || fail "p is not closed"
same_text "partition" "$(dd if="$part" bs=9 count=1 iflag=nocache status=none)"
stop_vmafs "$mnt"

expect_fail 2 '^vmafs: dump: -o overlay needs one archive, and this is a directory$' \
    "$VMAFS" dump "$mnt" -o overlay
expect_fail 2 'max_open=0' "$VMAFS" dump "$mnt" -o max_open=0

# --- ones that come, go and change -----------------------------------------------------------------------

rm -r dump
mkdir dump
start_vmafs dump "$mnt" -o idle=1
same_text "" "$(ls "$mnt")"
cp "$fixtures/tiny.vma" dump/a.vma
wait_until 10 test -e "$mnt/a" || fail "a new archive does not appear"
same_bytes "true/$disk" "$mnt/a/$disk"

exec 5<"$mnt/a/$disk"
mv dump/a.vma dump/b.vma
wait_until 10 test -e "$mnt/b/$disk" || fail "an archive that was renamed does not appear"
wait_until 10 test ! -e "$mnt/a" || fail "the old name does not vanish"
rm dump/b.vma
wait_until 10 test ! -e "$mnt/b" || fail "an archive that was deleted does not vanish"
same_bytes "true/$disk" - <&5
exec 5<&-

# Another file under the same name: whoever has the old one open reads that, all others the new one.
cp "$fixtures/tiny.vma" dump/a.vma
wait_until 10 test -e "$mnt/a/$disk"
exec 5<"$mnt/a/$disk"
cp "$fixtures/multi-disk.vma" a.new
mv a.new dump/a.vma
wait_until 10 test -e "$mnt/a/disk-drive-scsi1.raw" || fail "a replaced archive is not shown"
same_bytes "multi/$disk" "$mnt/a/$disk"
same_bytes "true/$disk" - <&5
exec 5<&-

# The same file with another content: nothing wrong may come from what is open.
python3 - "$mnt/a/disk-drive-scsi1.raw" dump/a.vma "$fixtures/tiny.vma" <<'END'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
with open(sys.argv[3], "rb") as other, open(sys.argv[2], "r+b") as archive:
    archive.write(other.read())
    archive.truncate()
try:
    os.pread(fd, 65536, 1 << 20)
    sys.exit("an archive that was overwritten could be read")
except OSError as error:
    assert error.errno == errno.EIO, error
END
wait_until 10 test ! -e "$mnt/a/disk-drive-scsi1.raw" || fail "an overwritten archive is not seen"
same_bytes "true/$disk" "$mnt/a/$disk"

# A clash of names comes and goes.
cp "$fixtures/tiny.vma.zst" dump/a.vma.zst
wait_until 10 test -e "$mnt/a.vma.zst/$disk" || fail "no whole names"
[ -e "$mnt/a.vma/$disk" ] || fail "only one of two"
rm dump/a.vma.zst
wait_until 10 test -e "$mnt/a/$disk" || fail "the short name does not come back"

# Broken, then whole.
head -c 5000 "$fixtures/tiny.vma" >dump/c.vma
wait_until 10 test -e "$mnt/c/ERROR" || fail "a broken archive without ERROR"
cp "$fixtures/tiny.vma" dump/c.vma
wait_until 10 test -e "$mnt/c/$disk" || fail "the archive is whole now, but not shown"
[ ! -e "$mnt/c/ERROR" ] || fail "ERROR stays"

# Closed when idle, but not while a file is open; and opened again, for those who stand in it, too.
exec 5<"$mnt/c/$disk"
cat "$mnt/a/qemu-server.conf" >/dev/null
wait_until 20 is_closed a || fail "a is not closed: $(cat "$mnt/.vmafs/status")"
same_text open "$(state_of c)"
same_bytes "true/$disk" - <&5
exec 5<&-
(
    cd "$mnt/c"
    wait_until 20 is_closed c || fail "c is not closed"
    same_bytes "$TEST_TMP/true/$disk" "$disk"
)

# The directory itself goes away, and comes back.
mv dump away
cannot_list()
{
    ! ls "$mnt" >/dev/null 2>&1
}
wait_until 10 cannot_list || fail "no directory, but a list"
sleep 1.2 # what the kernel remembers of the attributes is forgotten
[ "$(status .readable)" = false ] || fail "$(cat "$mnt/.vmafs/status")"
mv away dump
wait_until 10 test -e "$mnt/c/$disk" || fail "the directory is back, but not shown"
stop_vmafs "$mnt"

# --- growing ones ------------------------------------------------------------------------------------------

rm -r dump
mkdir dump
size=$(stat -c %s "$fixtures/multi-disk.vma.zst")
head -c $((size / 2)) "$fixtures/multi-disk.vma.zst" >dump/g.vma.dat
head -c 100 "$fixtures/multi-disk.vma.zst" >dump/start.vma.dat
plain=vzdump-qemu-101-2026_11_20-04_00_00 # compressed, vzdump would write a .vma.dat
plain_size=$(stat -c %s "$fixtures/multi-disk.vma")
head -c $((plain_size / 2 + 100)) "$fixtures/multi-disk.vma" >dump/$plain.dat
cp "$fixtures/tiny.vma" dump/whole.vma
start_vmafs dump "$mnt"
same_text "$(printf '%s\n' g start $plain whole)" "$(ls "$mnt")"
[ -e "$mnt/g/$disk" ] || fail "a growing archive is not shown"
cat "$mnt/g/$disk" >grown &
reader=$!
cat "$mnt/$plain/$disk" >grown-plain &
plain_reader=$!
# Nothing of this one can be known yet; who asks waits, and can be interrupted, and the others go on.
cat "$mnt/start/$disk" >/dev/null 2>&1 &
waiting=$!
same_bytes "true/$disk" "$mnt/whole/$disk"
kill -0 $reader || fail "the reader does not wait for the rest"
kill -0 $plain_reader || fail "the reader of a plain archive does not wait for the rest"
kill -0 $waiting || fail "nobody waits for the header"
kill -INT $waiting 2>/dev/null
kill -TERM $waiting
wait $waiting 2>/dev/null || true
tail -c +$((size / 2 + 1)) "$fixtures/multi-disk.vma.zst" >>dump/g.vma.dat
mv dump/g.vma.dat dump/g.vma.zst
tail -c +$((plain_size / 2 + 101)) "$fixtures/multi-disk.vma" >>dump/$plain.dat
mv dump/$plain.dat dump/$plain.vma
wait $reader || fail "the reader of a growing archive failed"
wait $plain_reader || fail "the reader of a growing plain archive failed: $(cat "$mnt/$plain/ERROR")"
same_bytes "multi/$disk" grown-plain
same_bytes "multi/$disk" grown
wait_until 10 test -e "$mnt/g/$disk"
same_bytes "multi/$disk" "$mnt/g/$disk"
same_text g.vma.zst "$(status '.archives[] | select(.name == "g") | .file')"

# --- by mount(8)'s helper ----------------------------------------------------------------------------------

helper=$BUILDDIR/mount-helper/mount.vmafs
if [ "$(id -u)" = 0 ] && [ -x "$helper" ]; then
    mkdir by-helper
    cleanup_fn stop_vmafs "$TEST_TMP/by-helper"
    "$helper" "$TEST_TMP/dump" "$TEST_TMP/by-helper" -o idle=5,max_open=3
    same_bytes "true/$disk" "by-helper/whole/$disk"
    stop_vmafs "$TEST_TMP/by-helper"
fi

# --- ends in the middle of it ------------------------------------------------------------------------------

head -c $((size / 2)) "$fixtures/multi-disk.vma.zst" >dump/h.vma.dat
wait_until 10 test -e "$mnt/h/$disk"
readers=()
for name in h start g; do
    cat "$mnt/$name/$disk" >/dev/null 2>&1 &
    readers+=($!)
done
sleep 0.2
kill -TERM "$(vmafs_pid "$mnt")"
ended()
{
    ! vmafs_pid "$mnt" >/dev/null
}
wait_until 20 ended || fail "SIGTERM does not end it"
# ThreadSanitizer ends the process as soon as libfuse cancels its threads.
[ "${TEST_VARIANT:-plain}" = tsan ] || ! is_mounted "$mnt" || fail "SIGTERM leaves a dead mount"
for reader in "${readers[@]}"; do
    wait "$reader" || true
done
