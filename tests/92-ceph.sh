#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=900 serial long
# An archive in an image of Ceph RBD: docs/remote.md's recipe, with a cluster of one node that has its data in
# memory. All of Ceph is in a chroot, and in name spaces of its own.

. "$(dirname "$0")/lib/functions.sh"
requires debootstrap unshare ip nbdinfo
requires_root
root=$TEST_BIG/debian
if [ "${1:-}" != private ]; then
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase "$suite" "$root" >debootstrap.log 2>&1 || fail "$(tail -n 5 debootstrap.log)"
    env -u TMPDIR DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$root" sh -c 'apt-get -q update &&
        apt-get -q -y --no-install-recommends install ceph-mon ceph-mgr ceph-osd ceph-common qemu-utils \
        qemu-block-extra' >apt.log 2>&1 || fail "$(tail -n 5 apt.log)"
    status=0
    own_tmp=no unshare -mnpf --kill-child --mount-proc --propagation private \
        "$tests/$(basename "$0")" private || status=$?
    exit "$status"
fi

ip link set lo up
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/var/lib/ceph"
make_archive random-masks a.vma >sums
cp a.vma "$root/root/"
cluster=$(cat /proc/sys/kernel/random/uuid)
addresses='[v2:127.0.0.1:3300,v1:127.0.0.1:6789]'
mkdir -p "$root/etc/ceph"
cat >"$root/etc/ceph/ceph.conf" <<END
[global]
fsid = $cluster
mon initial members = a
mon host = $addresses
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
osd objectstore = memstore
memstore device bytes = 268435456
ms bind ipv6 = false
END

inside() # COMMAND...
{
    env -u TMPDIR timeout 120 chroot "$root" "$@" >>cluster.log 2>&1 || fail "$*: $(tail -n 15 cluster.log)"
}

echo "--- a cluster"
mkdir -p "$root/run/ceph" "$root"/var/lib/ceph/{mon/ceph-a,mgr/ceph-x,osd/ceph-0}
inside monmaptool --create --addv a "$addresses" --fsid "$cluster" /root/monmap
inside ceph-mon -i a --mkfs --monmap /root/monmap
inside ceph-mon -i a
disk=$(cat /proc/sys/kernel/random/uuid)
inside ceph osd new "$disk"
inside ceph-mgr -i x
inside ceph-osd -i 0 --mkfs --osd-uuid "$disk"
inside ceph-osd -i 0
inside ceph osd pool create pool 8
inside rbd pool init pool
inside rbd import /root/a.vma pool/backup

echo "--- the recipe"
grep -qxF 'qemu-nbd -r -t --fork -f raw -k /run/a.sock rbd:pool/backup' "$tests/../docs/remote.md" ||
    fail "the page has another command"
inside qemu-nbd -r -t --fork -f raw -k /run/a.sock rbd:pool/backup
uri="nbd+unix:///?socket=$root/run/a.sock"
"$VMATOOL" verify "$uri"
"$VMATOOL" extract a.vma local
"$VMATOOL" extract "$uri" out
diff -r local out || fail "other bytes"
