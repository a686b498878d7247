#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What checksums of a plain archive cost: taking them, their size, and reads through a mount with and without.
#
#   bench/checksums.sh [FOLDER [MIB [RUNS]]]
#
# FOLDER (default: a new one in $TMPDIR) takes a disk of MIB (default 1024) mebibytes of random data, and its
# archive.  Both are in the page cache, where a check costs most.  In each round the disk is read once through a
# fresh mount of each kind ("first"), then once more ("again": what the kernel kept of the mount is dropped
# before); then at random places, 4 KiB each, through fresh mounts.  Milliseconds; medians, and their range.

set -euo pipefail

folder=${1:-} mebibytes=${2:-1024} runs=${3:-7}
top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILDDIR:-$top/build}
made=$(mktemp -d "${folder:-${TMPDIR:-/tmp}}/vmafs-bench.XXXXXX")
cleanup()
{
    fusermount3 -u -q "$made/mnt" || true
    rm -rf "$made"
}
trap cleanup EXIT
cd "$made"
mkdir mnt
head -c "${mebibytes}M" /dev/urandom >disk.raw
"$build/tool/vmatool" create disk.vma drive-scsi0=disk.raw >/dev/null 2>&1
rm disk.raw
cat disk.vma >/dev/null

timed() # NAME COMMAND...: adds the milliseconds it takes to NAME.ms
{
    local start end name=$1
    shift
    start=$(date +%s%N)
    "$@" >/dev/null
    end=$(date +%s%N)
    echo $(((end - start) / 1000000)) >>"$name.ms"
}

disk=mnt/disk-drive-scsi0.raw
read_all()
{
    dd if=$disk bs=1M status=none
}

read_random() # 4000 places, the same in each round
{
    python3 - "$disk" <<'END'
import os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
places = random.Random(1).sample(range(os.fstat(fd).st_size // 4096), 4000)
for place in places:
    os.pread(fd, 4096, place * 4096)
END
}

forget() # what the kernel has cached of the disk
{
    dd of=$disk oflag=nocache conv=notrunc,fdatasync count=0 status=none 2>/dev/null ||
        dd if=$disk iflag=nocache count=0 status=none
}

mount_it() # NAME: with the cache of that name
{
    XDG_CACHE_HOME=$made/$1 "$build/fuse/vmafs" disk.vma mnt -o wait
}

unmount_it()
{
    fusermount3 -u mnt
}

XDG_CACHE_HOME=$made/plain "$build/tool/vmatool" index disk.vma
for ((run = 0; run < runs; run++)); do
    rm -rf checked
    timed index env XDG_CACHE_HOME="$made/checked" "$build/tool/vmatool" index disk.vma
    timed checksums env XDG_CACHE_HOME="$made/checked" "$build/tool/vmatool" index --checksums disk.vma
    for kind in plain checked; do
        mount_it "$kind"
        timed "$kind-first" read_all
        forget
        timed "$kind-again" read_all
        unmount_it
        mount_it "$kind"
        timed "$kind-random" read_random
        unmount_it
        timed "$kind-verify" env XDG_CACHE_HOME="$made/$kind" "$build/tool/vmatool" verify disk.vma
    done
done

median()
{
    sort -n "$1.ms" | sed -n "$(((runs + 1) / 2))p"
}

line() # NAME
{
    echo "$1: $(median "$1") ms ($(sort -n "$1.ms" | head -1) to $(sort -n "$1.ms" | tail -1))"
}

line index
line checksums
for what in first again random verify; do
    line "plain-$what"
    line "checked-$what"
    awk -v a="$(median "plain-$what")" -v b="$(median "checked-$what")" -v what="$what" \
        'BEGIN { printf "%s, checked / plain: %.2f\n", what, b / (a > 0 ? a : 1) }'
done
find checked -name '*.vmasums' -printf '%s\n' | awk -v size="$(stat -c %s disk.vma)" \
    '{ printf "file: %d bytes, %.1f MiB for a TiB of archive\n", $1, $1 / size * 1024 * 1024 }'
