#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# -o parts: each partition is a file with the bytes, size and holes of that part of the disk; programs work
# on it; a mount whose index is not finished comes up at once, and who asks for a partition waits.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/guestdisks.sh"
requires sfdisk jq mkfs.ext4 debugfs zstd
requires_fuse

make_tree tree
make_disk gpt.raw 120M <<END
label: gpt
first-lba: 34
start=35, size=8001
start=65536, size=40M
size=30M
END
part_image gpt.raw 2 part.raw
mkfs.ext4 -q -d tree part.raw
put_part gpt.raw 2 part.raw
head -c 4096512 /dev/urandom | dd of=gpt.raw bs=512 seek=35 conv=notrunc status=none
head -c 70000 /dev/urandom | dd of=gpt.raw bs=512 seek=$((65536 + 81920 + 1000)) conv=notrunc status=none
truncate -s 10M bare.raw
mkfs.ext4 -q bare.raw
printf 'a: b\n' >clash
"$VMATOOL" create a.vma drive-scsi0=gpt.raw drive-scsi1=bare.raw \
    -c disk-drive-scsi0.p3.raw=clash
zstd -q -1 a.vma -o a.vma.zst
check() # ARCHIVE
{
    local n offset size
    start_vmafs "$1" mnt -o parts,wait
    # A bare file system is the disk itself; the config keeps its name.
    same_text "disk-drive-scsi0.p1.raw disk-drive-scsi0.p2.raw disk-drive-scsi0.p3.raw \
disk-drive-scsi0.raw disk-drive-scsi1.raw" "$(find mnt -mindepth 1 -printf '%f\n' | sort | xargs)"
    same_text 'a: b' "$(cat mnt/disk-drive-scsi0.p3.raw)"
    partition_places gpt.raw | while read -r n offset size; do
        [ "$n" != 3 ] || continue
        same_text "$size" "$(stat -c %s "mnt/disk-drive-scsi0.p$n.raw")"
        dd if=gpt.raw of=want bs=1M iflag=skip_bytes,count_bytes skip="$offset" count="$size" status=none
        same_bytes want "mnt/disk-drive-scsi0.p$n.raw"
    done
    same_text guest "$(debugfs -R 'cat /etc/hostname' mnt/disk-drive-scsi0.p2.raw 2>/dev/null)"
    # Holes: never where there is data, and there are some.
    python3 - mnt/disk-drive-scsi0.p2.raw part.raw <<'END'
import os, sys
window, wanted = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], "rb").read()
size, at, holes, got = os.fstat(window).st_size, 0, 0, b""
while at < size:
    data = min(os.lseek(window, at, os.SEEK_HOLE), size)
    got += os.pread(window, data - at, at)
    if data == size:
        break
    try:
        at = os.lseek(window, data, os.SEEK_DATA)
    except OSError:
        at = size
    assert at > data
    holes += 1
    got += bytes(at - data)
assert got == wanted.ljust(size, b"\0") and holes > 3, holes
END
    expect_fail 1 'No such file' cat mnt/disk-drive-scsi0.p4.raw
    expect_fail 1 'Read-only|Permission' cp clash mnt/disk-drive-scsi0.p1.raw
    stop_vmafs mnt
}
check a.vma
check a.vma
check a.vma.zst

# Without the option there are none.
start_vmafs a.vma mnt
[ ! -e mnt/disk-drive-scsi0.p2.raw ] || fail "partitions without -o parts"
stop_vmafs mnt

# Damage costs what is whole nothing.
cp a.vma cut.vma
truncate -s -300000 cut.vma
start_vmafs cut.vma mnt -o parts,wait,salvage
dd if=gpt.raw of=want bs=512 skip=35 count=8001 status=none
same_bytes want mnt/disk-drive-scsi0.p1.raw
stop_vmafs mnt

# While the scan runs: the mount is there at once, the listing has no partitions, a look-up waits.
make_slow_archive 20
mkdir -p slow
cleanup_fn stop_vmafs "$TEST_TMP/slow"
slow_vmafs "$TEST_TMP/slow.vma" slow -o parts,index_cache=none
[ -e slow/.vmafs/status ]
jq -e '.index.state == "building"' slow/.vmafs/status >/dev/null || fail "not slow enough"
ls slow >/dev/null
status=0
timeout 1 cat "$(echo slow/disk-*.raw | sed 's/.raw$/.p1.raw/')" >/dev/null 2>&1 || status=$?
same_text 124 "$status"
jq -e '.index.state == "building"' slow/.vmafs/status >/dev/null || fail "not slow enough"
stop_vmafs slow
