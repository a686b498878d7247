#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How long it takes from the command to the first file of a guest, out of a large archive with a saved index.
#
#   bench/first-file.sh [FOLDER [GB [RUNS]]]
#
# FOLDER (default: a new one in $TMPDIR) takes an archive of GB (default 100) gigabytes, which is sparse: a
# guest's ext4 of 400 MiB stands in it, and the rest are extents full of stored zeros.  Each run mounts with
# mount.vmafs, reads a file, and unmounts.  In the same rounds the same is done with the disk as a raw file and
# mount -o loop, which is what a guest's file costs without an archive.  vmatool cat reads the file without a mount:
# from that archive, and from a compressed one of the guest's 400 MiB, whose checkpoints are saved.  Needs root;
# medians.

set -euo pipefail

folder=${1:-} gigabytes=${2:-100} runs=${3:-9}
top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILDDIR:-$top/build}
export VMAFS=${VMAFS:-$build/fuse/vmafs}
helper=$build/mount-helper/mount.vmafs umount=$build/mount-helper/umount.vmafs
[ "$(id -u)" = 0 ] || { echo "first-file.sh: needs root" >&2 && exit 1; }
made=$(mktemp -d "${folder:-${TMPDIR:-/tmp}}/vmafs-bench.XXXXXX")
cleanup()
{
    umount -q "$made/mnt" || true
    rm -rf "$made"
}
trap cleanup EXIT
cd "$made"
export XDG_CACHE_HOME=$made/cache
mkdir mnt tree tree/etc
echo 'NAME=Bench' >tree/etc/os-release
cp -r /usr/share/doc tree/ 2>/dev/null || true

python3 "$top/tests/lib/vmagen.py" huge large.vma --size $((gigabytes * 1000 * 1000 * 1000)) >large.json
size=$(jq .disk_size large.json)
truncate -s "$size" disk.raw
sfdisk -q --no-reread --no-tell-kernel disk.raw >/dev/null <<<$'label: gpt\nstart=2048, size=400M, type=L\n'
truncate -s 400M part.raw
mkfs.ext4 -q -d tree part.raw
dd if=part.raw of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none

# In such an archive the clusters stand in order, 59 in an extent, each extent behind 512 bytes of its own.
python3 - large.json <<'END'
import json, os, sys
info = json.load(open(sys.argv[1]))
extent = 512 + 59 * 65536
header = info["archive_size"] - info["extents"] * extent
with open("disk.raw", "rb") as disk, open("large.vma", "r+b") as archive:
    end = 0
    while True:
        try:
            start = os.lseek(disk.fileno(), end, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(disk.fileno(), start, os.SEEK_HOLE)
        for cluster in range(start // 65536, (end + 65535) // 65536):
            disk.seek(cluster * 65536)
            archive.seek(header + cluster // 59 * extent + 512 + cluster % 59 * 65536)
            archive.write(disk.read(65536))
END
"$build/tool/vmatool" index large.vma
"$build/tool/vmatool" create small.vma part.raw
zstd -q -3 --rsyncable --rm small.vma
"$build/tool/vmatool" index small.vma.zst

milliseconds()
{
    local us=$((($(date +%s%N) - start) / 1000))
    printf '%d.%02d\n' $((us / 1000)) $((us % 1000 / 10))
}

for ((i = 0; i < runs; i++)); do
    start=$(date +%s%N)
    "$helper" large.vma mnt -o part=root
    cat mnt/etc/os-release >/dev/null
    milliseconds >>ours
    start=$(date +%s%N)
    "$umount" mnt
    milliseconds >>down
    for archive in large.vma small.vma.zst; do
        start=$(date +%s%N)
        "$build/tool/vmatool" cat "$archive:/etc/os-release" >/dev/null
        milliseconds >>"cat-$archive"
    done
    start=$(date +%s%N)
    mount -o loop,offset=1048576,sizelimit=419430400,ro,noload disk.raw mnt
    cat mnt/etc/os-release >/dev/null
    milliseconds >>raw
    umount mnt
done

median()
{
    sort -n "$1" | sed -n "$((runs / 2 + 1))p"
}
printf '%-48s %8s ms   (%s to %s)\n' \
    "mount.vmafs to the first file, $gigabytes GB" "$(median ours)" \
    "$(sort -n ours | head -n 1)" "$(sort -n ours | tail -n 1)" \
    "umount.vmafs, until the archive is closed" "$(median down)" \
    "$(sort -n down | head -n 1)" "$(sort -n down | tail -n 1)" \
    "vmatool cat of the file, $gigabytes GB" "$(median cat-large.vma)" \
    "$(sort -n cat-large.vma | head -n 1)" "$(sort -n cat-large.vma | tail -n 1)" \
    "vmatool cat of the file, zstd" "$(median cat-small.vma.zst)" \
    "$(sort -n cat-small.vma.zst | head -n 1)" "$(sort -n cat-small.vma.zst | tail -n 1)" \
    "mount -o loop of the raw disk to the first file" "$(median raw)" \
    "$(sort -n raw | head -n 1)" "$(sort -n raw | tail -n 1)"
awk -v ours="$(median ours)" 'BEGIN { print (ours < 500 ? "pass" : "MISS") ": less than 500 ms" }'
