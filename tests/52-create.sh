#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create: archives of raw disks in every shape satisfy our verify and the independent reader, and give back
# the same disks; names, configs and vmstate; the same input and flags give the same bytes.

. "$(dirname "$0")/lib/functions.sh"
requires python3 zstd

# Disks of odd sizes, with data at edges, partly zero clusters, holes and written zeros.
python3 - <<'END'
import os, random
rng = random.Random(50)
def disk(name, size, pieces):
    with open(name, "wb") as f:
        f.truncate(size)
        for _ in range(pieces):
            at = rng.randrange(size)
            f.seek(at)
            f.write(rng.randbytes(min(size - at, rng.choice([1, 4096, 65536, 300000]))))
        f.seek(size // 2)
        f.write(bytes(min(size - size // 2, 200000)))   # zeros that are no hole
disk("one.raw", 1, 1)
disk("block.raw", 4097, 1)
disk("cluster.raw", 65536, 2)
disk("odd.raw", 9 * 2**20 + 12345, 20)
disk("sparse.raw", 200 * 2**20, 12)
disk("full.raw", 5 * 2**20, 60)
disk("extent.raw", 59 * 65536, 9)
open("ram", "wb").write(rng.randbytes(300001))
END
truncate -s 70M empty.raw
printf 'cores: 2\n' >qemu-server.conf
: >qemu-server.fw

disks=(one=one.raw block=block.raw cluster=cluster.raw odd=odd.raw sparse=sparse.raw full=full.raw
    extent=extent.raw empty=empty.raw)

check_archive() # ARCHIVE
{
    "$VMATOOL" verify "$1"
    case $1 in
    *.zst) zstd -dcq "$1" >plain ;;
    *) cp "$1" plain ;;
    esac
    python3 "$lib/vmaread.py" check plain
    rm -rf out
    "$VMATOOL" extract "$1" out
    local disk
    for disk in "${disks[@]}"; do
        same_bytes "${disk#*=}" "out/disk-${disk%%=*}.raw"
    done
}

"$VMATOOL" create a.vma -c qemu-server.conf -c qemu-server.fw -c renamed=qemu-server.conf \
    "${disks[@]}" vmstate=ram
check_archive a.vma
cmp -n 300001 ram out/vmstate.bin
[ "$(stat -c %s out/vmstate.bin)" = 327680 ]
same_bytes qemu-server.conf out/qemu-server.conf
same_bytes qemu-server.fw out/qemu-server.fw
same_bytes qemu-server.conf out/renamed
same_text "qemu-server.conf qemu-server.fw renamed" "$("$VMATOOL" list a.vma |
    sed -n 's/^CFG:.*name: //p' | paste -sd ' ')"

# An archive is nobody else's business.
[ "$(stat -c %a a.vma)" = 640 ] || [ "$(umask)" != 0022 ] || fail "mode $(stat -c %a a.vma)"

# 58 slots, and the option's short form of the reference's arguments.
"$VMATOOL" create b.vma --slots 58 -v -d format=raw:odd=odd.raw -d "format=raw:sparse=$PWD/sparse.raw" >v
grep -qE '^progress 100% \(read [0-9]+ bytes, duration [0-9]+ sec\)$' v
grep -qE '^total bytes read [0-9]+, sparse bytes [0-9]+ \([0-9.]+%\)$' v
python3 "$lib/vmaread.py" check b.vma
python3 - "$lib" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import vmaread
class Count(vmaread.Reader):
    most = 0
    def slots(self, at):
        used = super().slots(at)
        self.most = max(self.most, len(used[0]))
        return used
def most(path):
    return Count(open(path, "rb").read()).most
assert most("b.vma") == 58, most("b.vma")
assert most("a.vma") == 59, most("a.vma")
END

# Names: by position where there is none; a '=' behind a '/' belongs to the path.
mkdir 'x=y'
cp one.raw 'x=y/z.raw'
"$VMATOOL" create names.vma one.raw named=one.raw './x=y/z.raw' "$PWD/x=y/z.raw"
same_text "disk0 named disk2 disk3" "$("$VMATOOL" list names.vma | sed -n 's/^DEV:.*devname: //p' |
    paste -sd ' ')"

# Configs only.
"$VMATOOL" create config.vma -c qemu-server.conf
same_text "cores: 2" "$("$VMATOOL" config config.vma)"

# The same bytes each time, also from a copy with other holes, compressed by any number of threads.
same=(--uuid 01234567-89ab-cdef-0123-456789abcdef --ctime 1600000000)
for i in 1 2 3; do
    "$VMATOOL" create "same$i.vma" "${same[@]}" "${disks[@]}"
    same_bytes same1.vma "same$i.vma"
    "$VMATOOL" create "same$i.vma.zst" --threads "$i" "${same[@]}" "${disks[@]}"
    same_bytes same1.vma.zst "same$i.vma.zst"
done
mkdir dense
for disk in "${disks[@]}"; do
    cp --sparse=never "${disk#*=}" dense/
done
(cd dense && "$VMATOOL" create ../dense.vma "${same[@]}" "${disks[@]}")
same_bytes same1.vma dense.vma
"$VMATOOL" create - "${same[@]}" "${disks[@]}" | cmp - same1.vma
"$VMATOOL" list same1.vma | grep -q 'CTIME: Sun Sep 13 12:26:40 2020'
check_archive same1.vma
check_archive same1.vma.zst

# JSON.
"$VMATOOL" create j.vma --json -c qemu-server.conf odd=odd.raw "${same[@]}" >j.json
python3 - <<'END'
import json, os
j = json.load(open("j.json"))
assert j["archive"] == "j.vma"
assert j["bytes"] == j["written"] == os.path.getsize("j.vma"), j
assert j["disks"][0]["name"] == "odd" and j["disks"][0]["format"] == "raw"
assert j["disks"][0]["size"] == os.path.getsize("odd.raw")
END

# Mistakes.
expect_fail 2 'missing argument' "$VMATOOL" create
expect_fail 2 'no disk and no config' "$VMATOOL" create x.vma
expect_fail 2 'slots' "$VMATOOL" create x.vma --slots 57 one.raw
expect_fail 2 'compress' "$VMATOOL" create x.vma --compress gzip one.raw
expect_fail 2 'exec:gzip' "$VMATOOL" create x.vma.gz one.raw
expect_fail 2 'uuid' "$VMATOOL" create x.vma --uuid 123 one.raw
expect_fail 2 'ctime' "$VMATOOL" create x.vma --ctime -5 one.raw
expect_fail 2 'speed' "$VMATOOL" create x.vma --speed fast one.raw
expect_fail 2 'threads' "$VMATOOL" create x.vma --threads 65 one.raw
expect_fail 2 'standard output' "$VMATOOL" create - --json one.raw
expect_fail 1 'level 99' "$VMATOOL" create x.vma --compress zstd:99 one.raw
expect_fail 1 'a\.vma: cannot create: File exists' "$VMATOOL" create a.vma one.raw
expect_fail 1 "disk 'disk0' \(nosuch\.raw\): cannot open: No such file" "$VMATOOL" create x.vma nosuch.raw
expect_fail 1 "two disks named 'a'" "$VMATOOL" create x.vma a=one.raw a=block.raw
expect_fail 1 'size of 0' "$VMATOOL" create x.vma qemu-server.fw
expect_fail 1 'neither a file nor a block device' "$VMATOOL" create x.vma /dev/null
expect_fail 1 'format=F' "$VMATOOL" create x.vma -d format=raw
expect_fail 1 'config nosuch: cannot open' "$VMATOOL" create x.vma -c nosuch one.raw
head -c 65536 /dev/zero >large.conf
expect_fail 1 'large\.conf.*65535' "$VMATOOL" create x.vma -c large.conf one.raw
expect_fail 1 'nosuch/x\.vma: cannot create: No such file' "$VMATOOL" create nosuch/x.vma one.raw
same_text "" "$(find . -name 'x.vma*' -o -name '.*.part')"

# A whole device: as long as it says it is, holes asked for where it can tell.
if [ "$(id -u)" = 0 ] && command -v losetup >/dev/null; then
    loop=$(losetup -f --show sparse.raw) || exit 0
    cleanup_fn losetup -d "$loop"
    "$VMATOOL" create device.vma "${same[@]}" "sparse=$loop"
    "$VMATOOL" create file.vma "${same[@]}" sparse=sparse.raw
    same_bytes file.vma device.vma
fi
