#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create: images in other formats and NBD exports give the archive that the raw disk gives; no child and
# no socket stays behind; an image that refers to other files is not taken unasked.

. "$(dirname "$0")/lib/functions.sh"
requires qemu-img qemu-nbd python3

python3 - <<'END'
import random
rng = random.Random(51)
with open("disk.raw", "wb") as f:
    f.truncate(40 * 2**20)
    for _ in range(40):
        f.seek(rng.randrange(40 * 2**20 - 200000) // 512 * 512)
        f.write(rng.randbytes(rng.choice([512, 4096, 65536, 200000])))
END
same=(--uuid 01234567-89ab-cdef-0123-456789abcdef --ctime 1)
if ! "$VMATOOL" create raw.vma "${same[@]}" d=disk.raw 2>error; then
    fail "$(cat error)"
fi
qemu-img convert -O qcow2 disk.raw probe.qcow2
if ! "$VMATOOL" create probe.vma d=probe.qcow2 2>error; then
    grep -q 'without libnbd' error && skip "built without libnbd"
    fail "$(cat error)"
fi

# Each of our children has the image's path among its arguments.
no_children()
{
    ! pgrep -f "qemu-nbd --read-only.*$TEST_TMP" >/dev/null
}

export TMPDIR=$TEST_TMP/tmp
mkdir tmp
for format in qcow2 vmdk vdi vhdx qed parallels qcow; do
    qemu-img convert -O "$format" disk.raw "image.$format" 2>/dev/null || continue
    size=$(qemu-img info --output=json "image.$format" | jq '.["virtual-size"]')
    [ "$size" = 41943040 ] || continue
    # As it is found out, and as it is given.
    "$VMATOOL" create "$format.vma" "${same[@]}" "d=image.$format"
    same_bytes raw.vma "$format.vma"
    "$VMATOOL" create "$format-2.vma" "${same[@]}" -d "format=$format:d=image.$format"
    same_bytes raw.vma "$format-2.vma"
    no_children || fail "a qemu-nbd is left"
    same_text "" "$(ls tmp)"
done
[ -e qcow2.vma ] && [ -e vmdk.vma ] || fail "not even qcow2 and vmdk were tried"

# Several at once, with a raw one between.
"$VMATOOL" create many.vma a=image.qcow2 b=disk.raw c=image.vmdk d=image.qcow2 e=disk.raw f=image.vdi
"$VMATOOL" verify many.vma
"$VMATOOL" extract many.vma out
for name in a b c d e f; do
    same_bytes disk.raw "out/disk-$name.raw"
done

# An empty image of a terabyte is as quick as an empty file.
qemu-img create -q -f qcow2 huge.qcow2 1T
start=$SECONDS
"$VMATOOL" create huge.vma huge.qcow2
[ $((SECONDS - start)) -le "$(slower 10)" ] || fail "an empty terabyte took $((SECONDS - start)) s"
rm huge.vma

# What the guest writes into its raw disk is no header: *.raw is raw, other names are looked at.
cp image.qcow2 guest.raw
"$VMATOOL" create guest.vma g=guest.raw
"$VMATOOL" extract guest.vma guest
same_bytes guest.raw guest/disk-g.raw
qemu-img create -q -f qcow2 -b "$PWD/disk.raw" -F raw overlay.qcow2
expect_fail 1 'refers to other files.*format=qcow2' "$VMATOOL" create x.vma overlay.qcow2
"$VMATOOL" create overlay.vma "${same[@]}" -d format=qcow2:d=overlay.qcow2
same_bytes raw.vma overlay.vma
qemu-img create -q -f qcow2 -o data_file=data.bin data.qcow2 1M
expect_fail 1 'refers to other files' "$VMATOOL" create x.vma data.qcow2
qemu-img convert -O vmdk -o subformat=twoGbMaxExtentSparse disk.raw split.vmdk
expect_fail 1 'refers to other files' "$VMATOOL" create x.vma split.vmdk
"$VMATOOL" create split.vma "${same[@]}" -d format=vmdk:d=split.vmdk
same_bytes raw.vma split.vma

# An image that is broken: one line, and it names the image.
cp image.qcow2 version.qcow2
printf '\231' | dd of=version.qcow2 bs=1 seek=7 conv=notrunc status=none
expect_fail 1 "disk 'disk0' \(version\.qcow2\): .*version" "$VMATOOL" create x.vma version.qcow2
expect_fail 1 "disk 'disk0' \(disk\.raw\): .*nosuch" "$VMATOOL" create x.vma -d format=nosuch:disk.raw
# The tables are gone: an error while it is read, with its place.
cp image.qcow2 torn.qcow2
truncate -s $(($(stat -c %s torn.qcow2) / 2)) torn.qcow2
status=0
"$VMATOOL" create torn.vma torn.qcow2 2>error || status=$?
if [ "$status" != 0 ]; then
    grep -qE "^vmatool: disk 'disk0' \(torn\.qcow2\): " error || fail "$(cat error)"
    [ ! -e torn.vma ]
fi
no_children || fail "a qemu-nbd is left after errors"
same_text "" "$(ls tmp)"

# Foreign NBD servers.
qemu-nbd -r -t -f qcow2 --shared=8 -k "$PWD/nbd.sock" "$PWD/image.qcow2" &
cleanup_fn kill $!
wait_until 10 test -S nbd.sock
"$VMATOOL" create nbd.vma "${same[@]}" "d=nbd+unix:///?socket=$PWD/nbd.sock"
same_bytes raw.vma nbd.vma
# One that takes one client only.
qemu-nbd -r -t -f qcow2 --shared=1 -k "$PWD/one.sock" -x name "$PWD/image.qcow2" &
cleanup_fn kill $!
wait_until 10 test -S one.sock
"$VMATOOL" create one.vma "${same[@]}" "d=nbd+unix:///name?socket=$PWD/one.sock"
same_bytes raw.vma one.vma
expect_fail 1 "disk 'd' \(nbd\+unix:.*\): cannot connect: " \
    "$VMATOOL" create x.vma "d=nbd+unix:///nosuch?socket=$PWD/nbd.sock"
expect_fail 1 "disk 'd' .*: cannot connect: " \
    "$VMATOOL" create x.vma "d=nbd+unix:///?socket=$PWD/nosuch.sock"
port=$((20000 + $$ % 20000))
qemu-nbd -r -t -f raw --shared=8 -b 127.0.0.1 -p "$port" "$PWD/disk.raw" &
cleanup_fn kill $!
wait_until 10 "$VMATOOL" create tcp.vma "${same[@]}" "d=nbd://127.0.0.1:$port" 2>/dev/null
same_bytes raw.vma tcp.vma

# A server that goes away in the middle.
truncate -s 64G big.raw
qemu-nbd -r -t -f raw --shared=8 -k "$PWD/dying.sock" "$PWD/disk.raw" &
server=$!
wait_until 10 test -S dying.sock
"$VMATOOL" create dying.vma --speed 4M "d=nbd+unix:///?socket=$PWD/dying.sock" 2>error &
child=$!
sleep 1
kill -9 "$server"
status=0
wait "$child" || status=$?
same_text 1 "$status"
grep -qE "^vmatool: disk 'd' \(nbd.*\): cannot .* at offset [0-9]+: " error || fail "$(cat error)"
same_text 1 "$(wc -l <error)"
[ ! -e dying.vma ]

# A signal while qemu-nbd reads: it goes too.
"$VMATOOL" create stopped.vma --speed 1M d=image.qcow2 2>error &
child=$!
sleep 0.7
kill -TERM "$child"
status=0
wait "$child" || status=$?
same_text 143 "$status"
wait_until 3 no_children || fail "qemu-nbd survives SIGTERM"
"$VMATOOL" create stopped.vma --speed 1M d=image.qcow2 &
child=$!
sleep 0.7
no_children && fail "there should be a qemu-nbd"
kill -KILL "$child"
wait "$child" 2>/dev/null || true
wait_until 3 no_children || fail "qemu-nbd survives our SIGKILL"
same_text "" "$(ls tmp)"
[ ! -e stopped.vma ]
