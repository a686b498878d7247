#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Holes are visible: st_blocks, SEEK_DATA and SEEK_HOLE, and the tools that rely on them.

. "$(dirname "$0")/lib/functions.sh"
requires qemu-img tar jq
requires_fuse

check_disk() # LAYOUT FILE
{
    make_archive "$1" "$1.vma" --disks true >/dev/null
    start_vmafs "$TEST_TMP/$1.vma" "$TEST_TMP/mnt"
    blocks=$(python3 - "$lib" "$1.vma" "$2" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import vmaread
reader = vmaread.load(sys.argv[2])
print(reader.data_blocks(reader.files()[sys.argv[3]]))
END
    )
    same_text $((blocks * 8)) "$(stat -c %b "mnt/$2")"
    same_text "$(stat -c %s "true/$2")" "$(stat -c %s "mnt/$2")"
    python3 - "mnt/$2" "true/$2" <<'END'
import errno, os, sys

# Every boundary that SEEK_DATA and SEEK_HOLE report, against the bytes.
with open(sys.argv[2], "rb") as f:
    true = f.read()
fd = os.open(sys.argv[1], os.O_RDONLY)
has = [true[i:i + 4096].count(0) != len(true[i:i + 4096]) for i in range(0, len(true), 4096)]
at = 0
while at < len(true):
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        assert error.errno == errno.ENXIO, error
        assert not any(has[-(-at // 4096):]), f"data behind {at} are not found"
        break
    assert not any(has[at // 4096:data // 4096]), f"data between {at} and {data} pass for a hole"
    hole = os.lseek(fd, data, os.SEEK_HOLE)
    assert hole > data, (data, hole)
    assert hole == len(true) or hole % 4096 == 0, hole
    # These archives store no zero blocks, so that data and holes are known exactly.
    assert all(has[data // 4096:-(-hole // 4096)]), f"a hole between {data} and {hole} passes for data"
    at = hole
for where in (len(true), len(true) + 1):
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        try:
            os.lseek(fd, where, whence)
            raise AssertionError(f"lseek behind the end gave {where}")
        except OSError as error:
            assert error.errno == errno.ENXIO, error
END

    # The tools that users have.
    cp --sparse=auto "mnt/$2" copy
    same_bytes "true/$2" copy
    [ "$(du -k copy | cut -f 1)" -le $((blocks * 4 + 64)) ] || fail "cp wrote the holes of $1"
    # Through cat: GNU tar does not read at all what it writes to /dev/null.
    size=$(tar -c -S -f - -C mnt "$2" | cat | wc -c)
    [ "$size" -le $((blocks * 4096 + blocks * 64 + 65536)) ] || fail "tar -S stored the holes of $1"
    [ "$size" -ge $((blocks * 4096)) ] || fail "tar -S did not store the data of $1"
    mkdir unpacked
    tar -c -S -f - -C mnt "$2" | tar -x -f - -C unpacked
    same_bytes "true/$2" "unpacked/$2"
    qemu-img map --output=json -f raw "mnt/$2" >map.json
    mapped=$(jq '[.[] | select(.data) | .length] | add // 0' map.json)
    [ "$mapped" -le $((blocks * 4096)) ] || fail "qemu-img map sees $mapped bytes of data in $1"
    [ "$mapped" -ge $((blocks * 4096 - 4095)) ] || fail "qemu-img map sees only $mapped bytes in $1"
    qemu-img convert -f raw -O qcow2 "mnt/$2" disk.qcow2
    qemu-img convert -f qcow2 -O raw disk.qcow2 back
    cmp -n "$(stat -c %s "true/$2")" "true/$2" back
    rm -r copy unpacked disk.qcow2 back true
    stop_vmafs "$TEST_TMP/mnt"
}

check_disk sparse disk-drive-sata0.raw
check_disk zero disk-drive-ide0.raw
check_disk out-of-order disk-drive-scsi0.raw
check_disk unaligned disk-drive-n69632.raw
check_disk unaligned disk-drive-n1000.raw

# vmatool map tells the same as qemu-img does.
"$VMATOOL" map --output=json sparse.vma drive-sata0 >map.json
jq -e . map.json >/dev/null || fail "map --output=json is no JSON"
data=$(jq '[.[] | select(.data) | .length] | add // 0' map.json)
start_vmafs "$TEST_TMP/sparse.vma" "$TEST_TMP/mnt"
same_text "$(($(stat -c %b mnt/disk-drive-sata0.raw) * 512))" "$data"
"$VMATOOL" map sparse.vma drive-sata0 >map
[ "$(wc -l <map)" -gt 10 ] || fail "$(cat map)"
"$VMATOOL" map sparse.vma >map
