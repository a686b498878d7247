#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create --base --bitmap: only what a dirty bitmap names is read, and the archive is that of the whole disk.

. "$(dirname "$0")/lib/functions.sh"
requires qemu-img qemu-nbd qemu-io

same=(--uuid 01234567-89ab-cdef-0123-456789abcdef --ctime 1)
qemu-img create -q -f qcow2 disk.qcow2 300M
qemu-io -f qcow2 -c 'write -P 17 0 20M' -c 'write -P 18 100M 3M' -c 'write -P 19 299M 1M' disk.qcow2 >/dev/null
"$VMATOOL" create base.vma d=disk.qcow2 2>error || {
    ! grep -q 'without libnbd' error || skip "built without libnbd"
    fail "$(cat error)"
}
"$VMATOOL" create base.vma.zst --compress zstd d=disk.qcow2
qemu-img bitmap --add -f qcow2 disk.qcow2 since -g 64k
# Overwritten, half a cluster, discarded, newly written; and the last one.
qemu-io -f qcow2 -c 'write -P 33 1M 2M' -c 'write -P 34 5000000 5000' -c 'discard 10M 2M' \
    -c 'write -P 35 200M 100k' -c 'write -P 36 299M 512' disk.qcow2 >/dev/null

serve() # NAME [qemu-nbd option...]
{
    local name=$1
    shift
    qemu-nbd -r -t -f qcow2 --shared=8 -k "$PWD/$name.sock" -x vda "$@" "$PWD/disk.qcow2" &
    cleanup_fn kill $!
    wait_until 10 test -S "$name.sock"
    uri="nbd+unix:///vda?socket=$PWD/$name.sock"
}

serve whole
"$VMATOOL" create whole.vma "${same[@]}" "d=$uri"
plain=$uri
serve changes -B since
for base in base.vma base.vma.zst; do
    rm -f new.vma
    "$VMATOOL" create new.vma "${same[@]}" --base "$base" --bitmap since "d=$uri"
    "$VMATOOL" verify new.vma
    "$VMATOOL" diff new.vma whole.vma
done
# What the bitmap does not name does come from the base: one of other content shows through.
qemu-img create -q -f raw other.raw 300M
qemu-io -f raw -c 'write -P 99 50M 64k' other.raw >/dev/null
"$VMATOOL" create other.vma d=other.raw
"$VMATOOL" create mixed.vma --base other.vma --bitmap since "d=$uri"
"$VMATOOL" extract mixed.vma out
qemu-io -r -f raw -c 'read -P 99 50M 64k' -c 'read -P 33 1M 2M' -c 'read -P 0 100M 3M' \
    -c 'read -P 36 299M 512' out/disk-d.raw >io
! grep -q 'verification failed' io || fail "$(cat io)"

expect_fail 1 "disk 'd' .*: the server shows no bitmap 'since' with this export \(make a full backup\)" \
    "$VMATOOL" create x.vma --base base.vma --bitmap since "d=$plain"
expect_fail 1 "disk 'd' .*: the server shows no bitmap 'foo'" \
    "$VMATOOL" create x.vma --base base.vma --bitmap foo "d=$uri"
expect_fail 1 "disk 'e' .*: base.vma has no disk of that name" \
    "$VMATOOL" create x.vma --base base.vma --bitmap since "e=$uri"
expect_fail 1 'needs an NBD export' "$VMATOOL" create x.vma --base base.vma --bitmap since d=other.raw
expect_fail 2 'belong together' "$VMATOOL" create x.vma --bitmap since "d=$uri"
truncate -s 200M small.raw
"$VMATOOL" create small.vma d=small.raw
expect_fail 1 'is of 314572800 bytes, and in small.vma it is of 209715200 \(make a full backup\)' \
    "$VMATOOL" create x.vma --base small.vma --bitmap since "d=$uri"
[ ! -e x.vma ] || fail "x.vma is there"
