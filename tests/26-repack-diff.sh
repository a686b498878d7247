#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
# repack: order, disks, configs, compression, pipes, putting two damaged copies together.  diff.

. "$(dirname "$0")/lib/functions.sh"
requires python3 zstd lz4

make_archive interleaved a.vma --disks true >/dev/null
uuid=01234567-89ab-cdef-0123-456789abcdef

same_disks() # ARCHIVE: its disks are those of a.vma
{
    rm -rf out
    "$VMATOOL" extract "$1" out
    local disk
    for disk in true/disk-*.raw; do
        same_bytes "$disk" "out/${disk##*/}"
    done
}

# The result depends on the content alone: from whatever order, the same bytes.
"$VMATOOL" repack a.vma b.vma --uuid $uuid --ctime 1700000000
"$VMATOOL" verify b.vma
same_disks b.vma
"$VMATOOL" repack --order keep a.vma kept.vma --uuid $uuid --ctime 1700000000
"$VMATOOL" repack kept.vma c.vma --uuid $uuid --ctime 1700000000
same_bytes b.vma c.vma
# An independent reader takes it.
python3 "$lib/vmaread.py" sha256 b.vma >/dev/null

# Compression, there and back; what other tools make of it is a plain archive.
"$VMATOOL" repack a.vma b.vma.zst --uuid $uuid --ctime 1700000000
zstd -dcq b.vma.zst | cmp - b.vma
"$VMATOOL" repack b.vma.zst b.vma.lz4 --compress lz4:3 --uuid $uuid --ctime 1700000000
lz4 -dcq b.vma.lz4 | cmp - b.vma
same_disks b.vma.lz4

# Pipes on both ends.
"$VMATOOL" repack - - <a.vma | "$VMATOOL" verify -
"$VMATOOL" repack a.vma "exec:cat >piped.vma" --uuid $uuid --ctime 1700000000
same_bytes b.vma piped.vma

# Disks and configs.
"$VMATOOL" repack a.vma picked.vma -d scsi1 -c qemu-server.conf=/dev/null -c more.conf=/dev/null
same_text $'CFG: size: 0 name: qemu-server.conf\nCFG: size: 0 name: more.conf' \
    "$("$VMATOOL" list picked.vma | grep ^CFG)"
same_text 1 "$("$VMATOOL" list picked.vma | grep -c ^DEV)"
"$VMATOOL" repack a.vma rest.vma --drop scsi1
same_text 3 "$("$VMATOOL" list rest.vma | grep -c ^DEV)"
expect_fail 2 'nothere' "$VMATOOL" repack a.vma x.vma -d nothere
expect_fail 1 'cannot create' "$VMATOOL" repack a.vma b.vma
expect_fail 2 'order' "$VMATOOL" repack a.vma x.vma --order random
[ ! -e x.vma ] || fail "a refused repack left something"

# diff finds nothing between the two, and every changed cluster.
"$VMATOOL" diff a.vma b.vma.zst
cp true/disk-drive-scsi0.raw changed.raw
printf 'X' | dd of=changed.raw bs=1 seek=70000 conv=notrunc status=none
"$VMATOOL" create changed.vma drive-scsi0=changed.raw
"$VMATOOL" repack a.vma only0.vma -d scsi0
status=0
"$VMATOOL" diff only0.vma changed.vma >diff.txt || status=$?
same_text 1 "$status"
grep -qx '  65536-131072' diff.txt || fail "diff missed the changed cluster: $(cat diff.txt)"
"$VMATOOL" diff only0.vma changed.vma --json >diff.json || true
python3 - <<'END'
import json
d = json.load(open("diff.json"))
disks = [x for x in d["differences"] if "ranges" in x]
assert not d["same"] and disks[0]["ranges"] == [{"start": 65536, "length": 65536}], d
END
expect_fail 2 'nothere' "$VMATOOL" diff a.vma nothere.vma

# Two copies, each damaged at another place, make a whole one.
python3 - "$lib" <<'END'
import struct
data = open("a.vma", "rb").read()
headers, at = [], struct.unpack(">I", data[56:60])[0]
while at < len(data):
    headers.append(at)
    at += 512 + 4096 * struct.unpack(">H", data[at + 6:at + 8])[0]
assert len(headers) >= 4, headers
def damaged(name, which):
    copy = bytearray(data)
    copy[headers[which] + 100] ^= 0xff
    open(name, "wb").write(copy)
damaged("one.vma", 1)
damaged("two.vma", len(headers) - 1)
damaged("same.vma", 1)
END
# The copies differ from a.vma by nothing that its saved index is bound to but the time.
expect_fail 1 'checksum' "$VMATOOL" repack --index-cache none one.vma x.vma
"$VMATOOL" repack --index-cache none one.vma merged.vma --merge two.vma --uuid $uuid --ctime 1700000000
same_bytes b.vma merged.vma
expect_fail 1 'missing|damaged' "$VMATOOL" repack --index-cache none one.vma x.vma --merge same.vma
expect_fail 2 'uuid' "$VMATOOL" repack --index-cache none one.vma x.vma --merge b.vma
[ ! -e x.vma ] || fail "a failed repack left something"
