#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=240
# docs/libvirt.md, done to a guest of a real libvirtd: its XML, its commands, full and incremental, and a job
# that ends under the client.

. "$(dirname "$0")/lib/functions.sh"
requires jq libvirtd virsh qemu-system-x86_64 qemu-img unshare
requires_root

# A libvirt of our own: what it uses of the system is hidden under empty file systems.
if [ "${1:-}" != private ]; then
    [ -n "${own_tmp:-}" ] || own_tmp=no
    mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt
    status=0
    own_tmp=no unshare -m --propagation private "$tests/$(basename "$0")" private || status=$?
    exit "$status"
fi
drop_foreign_mounts
cp -a /etc/libvirt etc-libvirt # before it is hidden
for folder in /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt; do
    mount -t tmpfs none "$folder"
done
cp -a etc-libvirt/. /etc/libvirt/
for file in passwd group; do
    cp /etc/$file $file
    grep -q '^libvirt-qemu:' $file || echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' |
        if [ $file = group ]; then sed 's/:64055:.*/::/; s/x::/x:64055:/'; else cat; fi >>$file
    mount --bind $file /etc/$file
done
cat >/etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
END
cat >libvirtd.conf <<'END'
auth_unix_rw = "none"
log_outputs = "3:stderr"
END
libvirtd -f libvirtd.conf --pid-file "$PWD/libvirtd.pid" 2>libvirtd.log &
libvirtd=$!
end_libvirt()
{
    virsh destroy vm >/dev/null 2>&1 || true
    kill "$libvirtd"
    wait "$libvirtd" || true
}
cleanup_fn end_libvirt
export LIBVIRT_DEFAULT_URI=qemu:///system
wait_until 30 virsh -q version >/dev/null 2>&1 || fail "libvirtd does not come up: $(tail -3 libvirtd.log)"

# A guest without a system: what it would write is written by QEMU on its behalf.
mkdir -p /var/lib/libvirt/images /var/lib/libvirt/backup
for disk in vda vdb; do
    qemu-img create -q -f qcow2 /var/lib/libvirt/images/$disk.qcow2 200M
done
cat >guest.xml <<'END'
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/vda.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/vdb.qcow2'/>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
END
virsh -q define guest.xml
virsh -q start vm

guest_io() # DISK-NUMBER COMMAND
{
    virsh qemu-monitor-command vm --hmp "qemu-io -d /machine/peripheral/virtio-disk$1/virtio-backend \"$2\"" >io 2>&1
    if grep -qiE 'error|fail|not found' io; then fail "$(cat io)"; fi
}

# The page's files and commands.  A command that fails ends its block.
page=$tests/../docs/libvirt.md
mkdir blocks
python3 "$lib/pages.py" "$page" blocks
mv blocks/*.xml /var/lib/libvirt/backup/
PATH=$(dirname "$VMATOOL"):$PATH
block() # NUMBER
{
    bash "blocks/block-$1" >block.log 2>&1 || fail "block $1 of the page: $(cat block.log)"
}

echo "--- full"
guest_io 0 "write -P 1 0 20M"
guest_io 0 "write -P 2 150M 3M"
guest_io 1 "write -P 9 0 1M"
block 0
cd /var/lib/libvirt/backup
same_text "CFG: size: $(stat -c %s vm.xml) name: vm.xml" "$(vmatool list monday.vma | grep CFG)"
same_text 1 "$(vmatool list monday.vma | grep -c '^DEV:')"
vmatool extract monday.vma monday
qemu-io -r -f raw -c 'read -P 1 0 20M' -c 'read -P 2 150M 3M' -c 'read -P 0 20M 130M' monday/disk-vda.raw >io
! grep -q 'verification failed' io || fail "$(cat io)"

echo "--- names and granularity"
cd "$TEST_TMP"
virsh qemu-monitor-command vm '{"execute": "query-named-block-nodes"}' >nodes
grep -q '"name":"monday"' nodes || fail "no bitmap called monday"
grep -oE '"granularity":[0-9]+' nodes | sort -u | grep -qx '"granularity":65536' || fail "$(cat nodes)"
sed 's/<name>.*/<name>odd<\/name>/; s/checkpoint=.bitmap./& bitmap="other"/' \
    /var/lib/libvirt/backup/monday.xml >odd.xml
if virsh backup-begin vm /var/lib/libvirt/backup/full.xml odd.xml 2>error; then
    fail "libvirt lets bitmaps have other names than checkpoints: the page is wrong"
fi
grep -qi 'bitmap' error || fail "$(cat error)"

echo "--- incremental"
guest_io 0 "write -P 3 1M 2M"
guest_io 0 "write -P 4 100M 70k"
guest_io 0 "write -P 0 150M 1M"
block 1
cd /var/lib/libvirt/backup
vmatool extract tuesday.vma tuesday
qemu-io -r -f raw -c 'read -P 1 0 1M' -c 'read -P 3 1M 2M' -c 'read -P 1 3M 17M' -c 'read -P 4 100M 70k' \
    -c 'read -P 0 150M 1M' -c 'read -P 2 151M 2M' tuesday/disk-vda.raw >io
! grep -q 'verification failed' io || fail "$(cat io)"

echo "--- a bitmap with a granularity of its own"
cd "$TEST_TMP"
block 2
virsh qemu-monitor-command vm '{"execute": "query-named-block-nodes"}' >nodes
grep -qE '"name":"fine-1"[^}]*"granularity":4096|"granularity":4096[^}]*"name":"fine-1"' nodes || fail "$(cat nodes)"
guest_io 0 "write -P 5 50M 4k"
guest_io 0 "write -P 6 70M 64k"
block 3
virsh qemu-monitor-command vm '{"execute": "query-named-block-nodes"}' >nodes
! grep -q '"name":"fine-1"' nodes || fail "fine-1 is still there"
grep -q '"name":"fine-2"' nodes || fail "no fine-2"
cd /var/lib/libvirt/backup
vmatool extract fine-1.vma fine-1
cmp fine-1/disk-vda.raw tuesday/disk-vda.raw || fail "the full backup differs"
vmatool extract fine-2.vma fine-2
qemu-io -r -f raw -c 'read -P 1 0 1M' -c 'read -P 3 1M 2M' -c 'read -P 5 50M 4k' -c 'read -P 0 51M 19M' \
    -c 'read -P 6 70M 64k' -c 'read -P 2 151M 2M' fine-2/disk-vda.raw >io
! grep -q 'verification failed' io || fail "$(cat io)"

echo "--- the guest writes while it is read"
virsh -q backup-begin vm full.xml
vmatool create during.vma --speed 20M 'vda=nbd+unix:///vda?socket=vm.sock' &
child=$!
sleep 0.3
(cd "$TEST_TMP" && guest_io 0 "write -P 7 0 200M")
wait "$child" || fail "create has failed"
virsh -q domjobabort vm
vmatool extract during.vma during
cmp during/disk-vda.raw fine-2/disk-vda.raw || fail "not the point in time"

echo "--- the job ends under the client"
virsh -q backup-begin vm full.xml
vmatool create failed.vma --speed 5M 'vda=nbd+unix:///vda?socket=vm.sock' 2>error &
child=$!
sleep 1
virsh -q domjobabort vm
status=0
wait "$child" || status=$?
same_text 1 "$status"
grep -qE "^vmatool: disk 'vda' .*: cannot (read|find out)" error || fail "$(cat error)"
same_text 1 "$(wc -l <error)"
[ ! -e failed.vma ] || fail "failed.vma is there"

echo "--- no room for what the guest overwrites: the guest's write fails, not the backup"
mkdir small
mount -t tmpfs -o size=4M none small
sed 's|/var/lib/libvirt/backup/vda.scratch|/var/lib/libvirt/backup/small/scratch|' full.xml >small.xml
virsh -q backup-begin vm small.xml
virsh qemu-monitor-command vm --hmp \
    'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "write -P 8 100M 50M"' >io 2>&1 || true
tail -n 5 /var/log/libvirt/qemu/vm.log | grep -q 'write failed: No space left' || fail "the page is wrong"
vmatool create small.vma 'vda=nbd+unix:///vda?socket=vm.sock'
virsh -q domjobabort vm
vmatool extract small.vma small-disks
cmp small-disks/disk-vda.raw during/disk-vda.raw && fail "the guest's write was not seen at all"
umount small
cd "$TEST_TMP"
block 4
