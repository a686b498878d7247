#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=300
# ls, cat and cp read ext2, ext3 and ext4 of a guest without mounting: all kinds of files, with their
# attributes, plain and compressed; paths in every form; nothing is overwritten unasked.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/guestdisks.sh"
requires sfdisk jq mkfs.ext4 mkfs.xfs debugfs zstd setfattr getfattr

make_tree tree
setfattr -n user.color -v blue tree/data/small
make_disk gpt.raw 480M <<END
label: gpt
size=80M, type=L
size=320M, type=L
size=30M, type=L
size=30M, type=L
END
part_image gpt.raw 1 part.raw
mkfs.ext4 -q -L rootfs -I 256 -d tree part.raw
# More than 4 GiB, nearly all a hole; a file in the inode; old times.
truncate -s 5G big
printf end | dd of=big bs=1 seek=$((5 * 1024 * MIB - 3)) conv=notrunc status=none
printf 'Abc' | dd of=big bs=1 seek=4294967290 conv=notrunc status=none
{
    echo 'write big data/big'
    echo 'set_inode_field /data/small mtime @0x92345678'
    echo 'set_inode_field /data/small mtime_extra 0'
    echo 'cd /data'
    echo 'mknod device c 1 3'
} | debugfs -w -f - part.raw >/dev/null 2>&1
put_part gpt.raw 1 part.raw
part_image gpt.raw 2 part.raw
mkfs.xfs -q part.raw
put_part gpt.raw 2 part.raw
part_image gpt.raw 3 part.raw
mkfs.ext2 -q -b 1024 -d tree part.raw
put_part gpt.raw 3 part.raw
part_image gpt.raw 4 part.raw
mkfs.ext4 -q -O inline_data,^metadata_csum -L 'in:line' -d tree part.raw
put_part gpt.raw 4 part.raw
truncate -s 30M bare.raw
mkfs.ext3 -q -d tree bare.raw
"$VMATOOL" create 'a:b.vma' drive-scsi0=gpt.raw drive-virtio0=bare.raw
zstd -q -1 'a:b.vma' -o c.vma.zst

# --- cat: every form of a path.
for path in a:b.vma:/etc/hostname a:b.vma:scsi0/p1/etc/hostname a:b.vma:scsi0/1/etc/hostname \
    a:b.vma:drive-scsi0/root/etc/hostname a:b.vma:scsi0/etc/hostname \
    a:b.vma:disk-drive-scsi0.raw/3/etc//hostname c.vma.zst:p4/etc/hostname \
    a:b.vma:label=in:line/etc/hostname a:b.vma:virtio0/whole/etc/hostname c.vma.zst:virtio0/etc/hostname; do
    same_text guest "$("$VMATOOL" cat "$path")"
done
same_text 'guest
root:x:0:0' "$("$VMATOOL" cat c.vma.zst:/etc/hostname c.vma.zst:/data/absolute)"
same_text "$(cat tree/usr/lib/os-release)" "$("$VMATOOL" cat a:b.vma:/etc/os-release)"
for part in p1 p3 p4 virtio0/whole; do
    for file in random small empty sparse 'grün und leer'; do
        # mkfs itself forgets the hole at the end where it may put data into inodes.
        [ "$part/$file" != p4/sparse ] || continue
        "$VMATOOL" cat "a:b.vma:$part/data/$file" >got
        same_bytes "tree/data/$file" got
    done
done
expect_fail 1 'p1: /etc/nosuch: no such file' "$VMATOOL" cat a:b.vma:/etc/nosuch
expect_fail 1 'p1: /etc/hostname/x: no such file' "$VMATOOL" cat a:b.vma:/etc/hostname/x
expect_fail 1 '/etc: is a directory' "$VMATOOL" cat a:b.vma:/etc
expect_fail 1 "scsi0/p2 is xfs.*mount -t vmafs a:b.vma DIR -o disk=scsi0,part=2" \
    "$VMATOOL" cat a:b.vma:p2/etc/passwd
expect_fail 1 "no disk or partition 'etc'.*p2 xfs" "$VMATOOL" cat a:b.vma:etc/passwd
expect_fail 1 "no label 'nosuch': there is disk-drive-virtio0" "$VMATOOL" cat a:b.vma:virtio0/label=nosuch/x
expect_fail 1 'nosuch.vma: cannot open' "$VMATOOL" cat nosuch.vma:/etc/passwd
expect_fail 2 'is not ARCHIVE:' "$VMATOOL" cat nosuch.vma

# --- ls
same_text "$(find tree/etc -mindepth 1 -printf '%f\n' | sort)" "$("$VMATOOL" ls a:b.vma:/etc)"
"$VMATOOL" ls -l c.vma.zst:/data >long
grep -qE '^-rw-r--r-- +2 .* 1911-08-18 19:37:28 small$' long
grep -qE '^lrwxrwxrwx .* absolute -> /etc/passwd$' long
grep -qE '^c.* 1, 3 .* device$' long
grep -qE '^prw' long
grep -qE ' 5368709120 .* big$' long
"$VMATOOL" ls -l -d a:b.vma:/data/absolute | grep -q -- '-> /etc/passwd$'
"$VMATOOL" ls -l a:b.vma:/bin/tool | grep -q '^-rwsr-xr-x'
"$VMATOOL" ls -R a:b.vma:p3/data >list
same_text '/data /data/deep /data/deep/er' "$(grep '^/' list | tr -d : | xargs)"
# The bare archive name is its root.
"$VMATOOL" ls c.vma.zst | grep -qx etc
"$VMATOOL" ls --json -R a:b.vma:/ >list.json
same_text "$(cd tree && find . -mindepth 1 -printf '/%P\n' | sort)" \
    "$(jq -r '.[].path' list.json | grep -vE '^/(lost\+found|data/(big|device))$' | LC_ALL=C sort)"
same_text '-1842063752 100 0644 2' \
    "$(jq -r '.[] | select(.path == "/data/small") | "\(.mtime) \(.size) \(.mode) \(.nlink)"' list.json)"
same_text /etc/passwd "$(jq -r '.[] | select(.path == "/data/absolute").target' list.json)"

# --- cp
state() # DIR: all that -a keeps
{
    (cd "$1" && find . -mindepth 1 ! -name lost+found ! -name big ! -name device \
        -printf '%P %y %m %U %G %l %n\n' | sort &&
        find . -type f ! -name big ! -path './data/small' ! -path ./data/deep/hardlink \
            -exec stat -c '%n %s %Y' {} + | sort)
}
mkdir all
"$VMATOOL" cp -a --specials a:b.vma:p3/ all
if [ "$(id -u)" = 0 ]; then
    same_text "$(state tree)" "$(state all)"
fi
diff -r --no-dereference --exclude=fifo --exclude=lost+found tree all
[ all/data/small -ef all/data/deep/hardlink ] || fail "hard links are lost"
same_text blue "$(getfattr --only-values -n user.color all/data/small)"
[ -p all/data/fifo ] || fail "no FIFO"

# Old times, and the file over 4 GiB with its holes; without -a neither links nor times.
"$VMATOOL" cp -a 'a:b.vma:/data/' deep
same_text -1842063752 "$(stat -c %Y deep/small)"
# All of it but the two places is a hole, which need not be read.
same_text 5368709120 "$(stat -c %s deep/big)"
same_text end "$(tail -c 3 deep/big)"
same_text Abc "$(dd if=deep/big bs=1 skip=4294967290 count=3 status=none)"
[ "$(stat -c %b deep/big)" -lt 1000 ] || fail "no holes"
"$VMATOOL" cp -r c.vma.zst:p4/data plain 2>note
grep -qE "note: 1 devices, sockets or FIFOs were left out" note
[ ! plain/small -ef plain/deep/hardlink ] || fail "a hard link without -a"
[ "$(stat -c %Y plain/small)" -gt 1700000000 ] || fail "times are kept without -p"
diff -r --no-dereference --exclude=fifo --exclude=sparse tree/data plain
"$VMATOOL" cp a:b.vma:/bin/tool tool
[ "$(stat -c %a tool)" = 755 ] || fail "mode $(stat -c %a tool) without -p"
"$VMATOOL" cp -p a:b.vma:/bin/tool tool-p
if [ "$(id -u)" = 0 ]; then
    same_text 4755 "$(stat -c %a tool-p)"
fi

# Several into a directory; a link that is named is followed, with -r it is copied.
mkdir into
"$VMATOOL" cp a:b.vma:/etc/os-release a:b.vma:scsi0/3/etc/hostname into
same_bytes tree/usr/lib/os-release into/os-release
"$VMATOOL" cp -r a:b.vma:/etc/os-release into/link
same_text ../usr/lib/os-release "$(readlink into/link)"

# What is there stays, unless -f says so.
printf mine >into/hostname
expect_fail 1 'into/hostname: exists already \(-f' "$VMATOOL" cp a:b.vma:/etc/hostname into
same_text mine "$(cat into/hostname)"
"$VMATOOL" cp -f a:b.vma:/etc/hostname into
same_text guest "$(cat into/hostname)"
expect_fail 1 '/etc: is a directory \(-r' "$VMATOOL" cp a:b.vma:/etc into
expect_fail 1 'nosuch: cannot copy there' "$VMATOOL" cp a:b.vma:/etc/hostname a:b.vma:/etc/passwd nosuch
expect_fail 1 'nosuch/x: cannot copy there' "$VMATOOL" cp a:b.vma:/etc/hostname nosuch/x
expect_fail 2 'missing argument' "$VMATOOL" cp a:b.vma:/etc/hostname

# A symlink of the host in the way is not followed, not even with -f.
mkdir trap victim
ln -s ../victim trap/etc
expect_fail 1 'trap/etc: what is there is no directory' "$VMATOOL" cp -rf a:b.vma:/etc trap
same_text '' "$(ls victim)"
ln -s ../victim/hostname trap/hostname
"$VMATOOL" cp -f a:b.vma:/etc/hostname trap/hostname
[ ! -L trap/hostname ] && [ ! -e victim/hostname ] || fail "a link was followed"
same_text '' "$(find . -name '.vmatool-*')"
