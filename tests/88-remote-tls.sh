#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Archives on servers that want TLS, with certificates and with shared keys; and NBD URIs given to mount(8).

. "$(dirname "$0")/lib/functions.sh"
requires nbdkit certtool psktool
. "$lib/mounthelper.sh"
. "$lib/tls.sh"

export VMAFS_NBD_TIMEOUT=3
make_archive random-masks a.vma >sums
"$VMATOOL" extract a.vma local
if ! "$VMATOOL" list "nbd+unix:///?socket=$PWD/nosuch" 2>error; then
    ! grep -q 'without libnbd' error || skip "built without libnbd"
fi
make_certificates pki
make_certificates stranger
psktool -u vma -p keys.psk >/dev/null
psktool -u vma -p wrong.psk >/dev/null
mkdir keys # what a client needs, and no more
cp pki/ca-cert.pem pki/client-cert.pem pki/client-key.pem keys/

start_server() # NAME NBDKIT-ARGUMENT...: on a port of its own the first time; $port
{
    local name=$1
    shift
    [ -s "$name.port" ] || python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])' >"$name.port"
    port=$(cat "$name.port")
    rm -f "$name.pid"
    nbdkit -r -f -i 127.0.0.1 -p "$port" -P "$PWD/$name.pid" "$@" 2>"$name.log" &
    cleanup_fn stop_server "$name"
    wait_until 10 test -s "$name.pid" || fail "$(cat "$name.log")"
}

stop_server() # NAME
{
    local pid
    pid=$(cat "$1.pid" 2>/dev/null) || return 0
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -f "$1.pid"
}

check() # URI
{
    "$VMATOOL" verify --index-cache=none "$1"
    "$VMATOOL" extract -j 4 "$1" out
    diff -r local out || fail "extract differs"
    rm -r out
    start_vmafs "$1" mnt -o index_cache=none
    for file in local/*; do
        same_bytes "$file" "mnt/$(basename "$file")"
    done
    stop_vmafs mnt
}

refused() # REGEX URI
{
    expect_fail 1 "^vmatool: ${2%%\?*}.*: cannot connect: .*$1" "$VMATOOL" list "$2"
}

echo "--- certificates"
x509=(--tls=require --tls-certificates="$PWD/pki" --tls-verify-peer file a.vma)
start_server x509 "${x509[@]}"
check "nbds://localhost:$port/?tls-certificates=$PWD/keys"
refused '\(the server wants encryption: nbds://\)' "nbd://localhost:$port/"
refused "the server's certificate must be for the name" "nbds://localhost:$port/?tls-certificates=$PWD/stranger"
refused "the server's certificate must be for the name" "nbds://127.0.0.1:$port/?tls-certificates=$PWD/keys"
mkdir none
cp pki/ca-cert.pem none/
refused '\(the keys do not fit: see tls-certificates= and tls-psk-file=\)' \
    "nbds://localhost:$port/?tls-certificates=$PWD/none"
# As a source of disks, too.
start_server raw --tls=require --tls-certificates="$PWD/pki" file local/disk-drive-scsi0.raw
"$VMATOOL" create new.vma "d=nbds://localhost:$port/?tls-certificates=$PWD/keys"
"$VMATOOL" extract new.vma new
same_bytes local/disk-drive-scsi0.raw new/disk-d.raw

echo "--- shared keys"
start_server psk --tls=require --tls-psk="$PWD/keys.psk" file a.vma
check "nbds://vma@localhost:$port/?tls-psk-file=$PWD/keys.psk"
refused '\(the keys do not fit: ' "nbds://vma@localhost:$port/?tls-psk-file=$PWD/wrong.psk"
refused 'username joe was not found' "nbds://joe@localhost:$port/?tls-psk-file=$PWD/keys.psk"
refused 'nosuch: No such file' "nbds://vma@localhost:$port/?tls-psk-file=$PWD/nosuch"

echo "--- keys by relative paths, when the connection is made again"
uri="nbds://vma@localhost:$port/?tls-psk-file=keys.psk"
start_vmafs "$uri" mnt -o wait,index_cache=none
stop_server psk
start_server psk --tls=require --tls-psk="$PWD/keys.psk" file a.vma
cmp mnt/disk-drive-scsi0.raw local/disk-drive-scsi0.raw || fail "$(cat mnt/.vmafs/errors)"
stop_vmafs mnt

echo "--- no encryption where some is wanted"
start_server plain file a.vma
refused '\(the server has no encryption: nbd://\)' "nbds://localhost:$port/?tls-certificates=$PWD/keys"

echo "--- mount(8) and fstab"
truncate -s 20M disk
mkdir -p tree/etc
echo guest >tree/etc/hostname
mkfs.ext4 -q -F -d tree disk
"$VMATOOL" create guest.vma drive-t88=disk
start_server guest --tls=require --tls-psk="$PWD/keys.psk" file guest.vma
uri="nbds://vma@localhost:$port/?tls-psk-file=keys.psk"
down()
{
    umount "$dir"
    check_nothing_left drive-t88 "by umount"
    same_text "" "$(utab)"
}
mount -t vmafs "$uri" "$dir"
same_bytes disk "$dir/disk-drive-t88.raw"
at "$dir" | grep -q '^fuse.vmafs ro' || fail "$(at "$dir")"
down
mount -t vmafs "$uri" "$dir" -o disk=drive-t88
same_text guest "$(cat "$dir/etc/hostname")"
down
echo "${uri%keys.psk}$PWD/keys.psk $dir vmafs part=root,_netdev,noauto 0 0" >fstab
cd /
mount -T "$TEST_TMP/fstab" "$dir"
same_text guest "$(cat "$dir/etc/hostname")"
down
cd "$TEST_TMP"
expect_fail 32 'mount.vmafs: nbds://joe@localhost.*cannot connect: .*username joe was not found' \
    mount -t vmafs "nbds://joe@localhost:$port/?tls-psk-file=keys.psk" "$dir" -o part=root
expect_fail 32 'vmafs: nbds://joe@localhost.*cannot connect: .*username joe was not found' \
    mount -t vmafs "nbds://joe@localhost:$port/?tls-psk-file=keys.psk" "$dir"
! at "$dir" || fail "mounted"
check_nothing_left drive-t88 "by a mount that failed"
