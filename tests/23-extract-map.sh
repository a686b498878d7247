#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Map files (-r): disks go where their lines say, into files and block devices that exist.

. "$(dirname "$0")/lib/functions.sh"

make_archive interleaved a.vma --disks true >/dev/null

# 1: the target may hold anything; 0: it is known to be zero.  The third is left out.
size=$(stat -c %s true/disk-drive-scsi0.raw)
head -c "$size" /dev/urandom >one.img
truncate -s "$(stat -c %s true/disk-drive-scsi1.raw)" two.img
cat >map <<END
format=raw:1:drive-scsi0=$TEST_TMP/one.img
format=raw:cache=writeback:throttling.bps=0:0:drive-scsi1=$TEST_TMP/two.img
skip=drive-scsi2
0:drive-scsi3=$TEST_TMP/three.img
done
this is behind the end of the map
END
truncate -s "$(stat -c %s true/disk-drive-scsi3.raw)" three.img
"$VMATOOL" extract a.vma -r map out
same_bytes true/disk-drive-scsi0.raw one.img
same_bytes true/disk-drive-scsi1.raw two.img
same_bytes true/disk-drive-scsi3.raw three.img
same_text "qemu-server.conf" "$(ls out)"
rm -r out

# A larger target is accepted up to 4 MiB, and the map may come from a pipe.
truncate -s $((size + 4194304)) one.img
{ echo "1:drive-scsi0=$TEST_TMP/one.img" && printf 'skip=drive-scsi%s\n' 1 2 3 && echo; } |
    "$VMATOOL" extract a.vma -r /dev/stdin out
cmp -n "$size" true/disk-drive-scsi0.raw one.img
rm -r out

bad_map() # PATTERN LINE...
{
    local pattern=$1
    shift
    printf '%s\n' "$@" >map
    expect_fail 1 "$pattern" "$VMATOOL" extract a.vma -r map out
    [ ! -e out ] || fail "a refused map left something: $*"
}
truncate -s $((size + 4194304 + 512)) one.img
bad_map 'one\.img' "1:drive-scsi0=$TEST_TMP/one.img" skip=drive-scsi1 skip=drive-scsi2 \
    skip=drive-scsi3 'done'
truncate -s $((size - 512)) one.img
bad_map 'one\.img' "1:drive-scsi0=$TEST_TMP/one.img" skip=drive-scsi1 skip=drive-scsi2 \
    skip=drive-scsi3 'done'
bad_map '.' "2:drive-scsi0=$TEST_TMP/one.img" 'done'
bad_map '.' "rubbish" 'done'
bad_map 'qcow2|format' "format=qcow2:1:drive-scsi0=$TEST_TMP/one.img" 'done'

if [ "$(id -u)" = 0 ] && command -v losetup >/dev/null; then
    head -c "$size" /dev/urandom >backing
    loop=$(losetup -f --show backing) || skip "no loop device"
    cleanup_fn losetup -d "$loop"
    printf 'format=raw:1:drive-scsi0=%s\nskip=drive-scsi1\nskip=drive-scsi2\nskip=drive-scsi3\ndone\n' \
        "$loop" >map
    "$VMATOOL" extract a.vma -r map out
    cmp -n "$size" true/disk-drive-scsi0.raw "$loop" || fail "the block device has other bytes"
fi
