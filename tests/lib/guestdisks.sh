# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Disks with real partitions and file systems.  Needs neither root nor loop devices: a file system is
# made in a file of its own, and put at its place.  After functions.sh.

MIB=1048576

# Prints "NUMBER OFFSET SIZE" of each partition, as sfdisk understands the disk.
partition_places() # DISK
{
    sfdisk --json "$1" | jq -r '.partitiontable | .partitions[] |
        "\(.node | capture("(?<n>[0-9]+)$").n) \(.start * 512) \(.size * 512)"'
}

# Makes a disk; the table is sfdisk's script on standard input.
make_disk() # DISK SIZE
{
    rm -f "$1"
    truncate -s "$2" "$1"
    sfdisk -q --no-reread --no-tell-kernel "$1" >/dev/null
}

# Puts a file system's image into a partition; it is cut or grown to the partition's size first by the
# `part_size` that its maker asked for.
put_part() # DISK NUMBER IMAGE
{
    local offset
    offset=$(partition_places "$1" | awk -v n="$2" '$1 == n { print $2 }')
    dd if="$3" of="$1" bs=1M seek="$offset" oflag=seek_bytes conv=notrunc,sparse status=none
}

part_size() # DISK NUMBER
{
    partition_places "$1" | awk -v n="$2" '$1 == n { print $3 }'
}

# An empty file as large as a partition, for mkfs.
part_image() # DISK NUMBER IMAGE
{
    rm -f "$3"
    truncate -s "$(part_size "$1" "$2")" "$3"
}

# A root-like tree with all that is hard about files.
make_tree() # DIR
{
    local d=$1
    mkdir -p "$d/etc" "$d/bin" "$d/data/deep/er" "$d/usr/lib" "$d/var/log"
    printf 'NAME=Test\n' >"$d/usr/lib/os-release"
    ln -s ../usr/lib/os-release "$d/etc/os-release"
    printf '/dev/sda2 / ext4 defaults 0 1\n' >"$d/etc/fstab"
    printf 'guest\n' >"$d/etc/hostname"
    printf 'root:x:0:0\n' >"$d/etc/passwd"
    head -c 3000000 /dev/urandom >"$d/data/random"
    head -c 100 /dev/urandom >"$d/data/small"
    : >"$d/data/empty"
    truncate -s 20M "$d/data/sparse"
    printf middle | dd of="$d/data/sparse" bs=1 seek=10000000 conv=notrunc status=none
    ln "$d/data/small" "$d/data/deep/hardlink"
    ln -s /etc/passwd "$d/data/absolute"
    ln -s nowhere "$d/data/dangling"
    printf 'umlaut\n' >"$d/data/grün und leer"
    printf 'script\n' >"$d/bin/tool"
    chmod 4755 "$d/bin/tool"
    chmod 640 "$d/etc/passwd"
    touch -d '2001-02-03 04:05:06.789' "$d/data/small"
    mkfifo "$d/data/fifo"
}

# LVM on these devices and no others. No device mapper is needed.
lvm_on() # DEVICE-PATTERN: defines lvm_do
{
    config="devices { filter=[\"a|^($1)\$|\",\"r|.*|\"] use_devicesfile=0 } backup { backup=0 archive=0 }
        global { locking_dir=\"$TEST_TMP\" } activation { udev_sync=0 udev_rules=0 monitoring=0 }"
    lvm_do()
    {
        LVM_SUPPRESS_FD_WARNINGS=1 lvm "$1" --config "$config" --driverloaded n "${@:2}"
    }
}
