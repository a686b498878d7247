#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# parts: GPT and MBR with logical partitions, large sectors, bare file systems; every kind of file system
# is told by type, label and uuid as blkid tells it of the disk itself.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/guestdisks.sh"
requires sfdisk jq blkid mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat mkntfs mkswap zstd

make_tree tree
make_disk gpt.raw 700M <<END
label: gpt
size=64M, type=U, name="EFI"
size=40M, type=L, name="rootpart"
size=320M, type=L
size=120M, type=L
size=8M, type=S
size=20M, type=L
END
fill() # DISK NUMBER COMMAND...: makes a file system and puts it into a partition
{
    local disk=$1 number=$2
    shift 2
    part_image "$disk" "$number" part.raw
    "$@" part.raw >/dev/null 2>&1
    put_part "$disk" "$number" part.raw
}
fill gpt.raw 1 mkfs.vfat -F 32 -n EFISYS
fill gpt.raw 2 mkfs.ext4 -q -L rootfs -d tree
fill gpt.raw 3 mkfs.xfs -q -L xdata
fill gpt.raw 4 mkfs.btrfs -q -L bdata
fill gpt.raw 5 mkswap -q -L swp
fill gpt.raw 6 mkntfs -qq -F -L windows
make_disk mbr.raw 200M <<END
label: dos
size=20M, type=7
size=170M, type=5
5: size=20M, type=83
6: size=60M, type=83
7: size=40M, type=c
END
fill mbr.raw 1 mkntfs -qq -F -L winmbr
fill mbr.raw 5 mkfs.ext2 -q -L logical5
fill mbr.raw 6 mkfs.ext3 -q -L 'log "6"'
fill mbr.raw 7 mkfs.vfat -n LOGICAL7
truncate -s 50M bare.raw
mkfs.ext4 -q -L bare bare.raw
truncate -s 5M nothing.raw

# Sectors of 4 KiB: sfdisk does not write these into a file, so the table is made here.
python3 - <<'END'
import struct, zlib, uuid
S, N = 4096, 20 * 2**20 // 4096
entry = struct.pack("<16s16sQQQ72s", uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4").bytes_le,
                    uuid.UUID(int=7).bytes_le, 256, N - 65, 0, "big".encode("utf-16-le"))
entries = entry.ljust(128 * 128, b"\0")
def header(own, other, table):
    h = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, own, other, 6, N - 6,
                    uuid.UUID(int=9).bytes_le, table, 128, 128, zlib.crc32(entries))
    return h[:16] + struct.pack("<I", zlib.crc32(h)) + h[20:]
with open("large.raw", "wb") as f:
    f.truncate(S * N)
    f.write(bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xee, b"\xff" * 3, 1, N - 1)
            + bytes(48) + b"\x55\xaa")
    f.seek(S), f.write(header(1, N - 1, 2))
    f.seek(2 * S), f.write(entries)
    f.seek((N - 5) * S), f.write(entries)
    f.seek((N - 1) * S), f.write(header(N - 1, 1, N - 5))
END
truncate -s $((20 * MIB - 321 * 4096 + 4096)) part.raw
mkfs.ext4 -q -L bigsector part.raw
dd if=part.raw of=large.raw bs=4096 seek=256 conv=notrunc,sparse status=none

disks=(drive-scsi0=gpt.raw drive-scsi1=mbr.raw drive-scsi2=bare.raw drive-scsi3=nothing.raw
    drive-scsi4=large.raw)
"$VMATOOL" create a.vma "${disks[@]}"
zstd -q -1 a.vma -o a.vma.zst

"$VMATOOL" parts --json a.vma >a.json
jq -r '.disks[] | .file as $f | .volumes[] | [$f, .name, .offset, .size, .type, .label, .uuid] |
    map(. // "-") | @tsv' a.json >found
# What sfdisk and blkid say of the disks themselves.
{
    for disk in scsi0=gpt.raw scsi1=mbr.raw scsi4=large.raw; do
        file=${disk#*=}
        if [ "$file" = large.raw ]; then
            echo "1 $((256 * 4096)) $((20 * MIB - 320 * 4096))"
        else
            partition_places "$file"
        fi | while read -r n offset size; do
            probe()
            {
                blkid -p -O "$offset" -S "$size" -o value -s "$1" "$file" || true
            }
            type=$(probe TYPE)
            if [ -z "$type" ]; then
                offset=
            fi
            label=$(offset=${offset:-0} probe LABEL) uuid=$(offset=${offset:-0} probe UUID)
            printf 'disk-drive-%s.raw\tp%s\t%s\t%s\t%s\t%s\t%s\n' "${disk%=*}" "$n" "${offset:--}" \
                "$size" "${type:--}" "${label:--}" "${uuid:--}"
        done
    done
    printf 'disk-drive-scsi2.raw\twhole\t0\t%s\text4\tbare\t%s\n' $((50 * MIB)) \
        "$(blkid -p -o value -s UUID bare.raw)"
    printf 'disk-drive-scsi3.raw\twhole\t0\t%s\t-\t-\t-\n' $((5 * MIB))
} | sort >wanted
sort found >found.sorted
diff wanted found.sorted || fail "not what sfdisk and blkid say"
for type in vfat ext2 ext3 ext4 xfs btrfs ntfs swap; do
    grep -q "	$type	" found || fail "no $type among them"
done
same_text '4096' "$(jq '.disks[4].sector_size' a.json)"
same_text 'disk-drive-scsi0.raw p2 it has an os-release file' \
    "$(jq -r '.root | "\(.disk) \(.volume) \(.rule)"' a.json)"
same_text 'ro,norecovery,nouuid' \
    "$(jq -r '.disks[0].volumes[2].mount_options' a.json)"

# Compressed, with and without a saved index; one disk; the text.
"$VMATOOL" parts --json a.vma.zst | jq .disks >zst.json
same_text "$(jq .disks a.json)" "$(cat zst.json)"
"$VMATOOL" parts --json --index-cache=none a.vma.zst | jq .disks >zst.json
same_text "$(jq .disks a.json)" "$(cat zst.json)"
"$VMATOOL" parts a.vma scsi1 >text
grep -qE '^disk-drive-scsi1.raw: 200 MiB, dos$' text
grep -qE '^  p6 +60.0 MiB  ext3 .*"log "6""$' text
grep -qE '^  p2 .* extended$' text
same_text 1 "$(grep -c ^disk text)"
expect_fail 1 "no disk 'scsi9': there is .*scsi4" "$VMATOOL" parts a.vma scsi9
expect_fail 2 "needs a file" bash -c "'$VMATOOL' parts - < <(cat a.vma)"
