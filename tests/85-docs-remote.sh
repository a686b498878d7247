#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# docs/remote.md, done as it stands: in name spaces of our own, with the web, ssh and S3 servers that the page
# speaks of, under these names and on their usual ports.

. "$(dirname "$0")/lib/functions.sh"
requires nbdkit curl certtool psktool sshd ssh-keygen ip unshare nbdinfo mkfs.ext4
requires_root
requires_fuse
[ -e "$(nbdkit --dump-config | sed -n 's/^plugindir=//p')/nbdkit-S3-plugin" ] ||
    skip "nbdkit's plugin for S3 is not installed"

if [ "${1:-}" != private ]; then
    [ -n "${own_tmp:-}" ] || own_tmp=no
    status=0
    own_tmp=no unshare -mnpf --kill-child --mount-proc --propagation private "$tests/$(basename "$0")" private || status=$?
    exit "$status"
fi
export MOUNT_HELPER_NAMESPACE=yes
# Neither the page nor the servers may depend on what the user has below $HOME.
PATH=$(dirname "$VMATOOL"):$(dirname "$VMAFS"):/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. "$lib/mounthelper.sh" # also hides /run
. "$lib/tls.sh"
ip link set lo up

echo "--- a machine: /etc, a home, /srv and /mnt"
mkdir etc home srv mnt
cp -a /etc/. etc/
sed -i "s|^\(root:[^:]*:0:0:[^:]*\):[^:]*:|\1:$PWD/home:|" etc/passwd
cat >etc/hosts <<'END'
127.0.0.1 localhost backup.example.com s3.example.com backups.s3.example.com
END
make_certificates pki
mkdir -p etc/pki/nbdkit etc/pki/libnbd
cp pki/{ca-cert,server-cert,server-key}.pem etc/pki/nbdkit/
cp pki/{ca-cert,client-cert,client-key}.pem etc/pki/libnbd/
mkdir -p etc/ssl/certs
cp --remove-destination pki/ca-cert.pem etc/ssl/certs/ca-certificates.crt
mount --bind etc /etc
mount --bind srv /srv
mount --bind mnt /mnt
export HOME=$PWD/home AWS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

mkdir -p tree/etc /srv/dump
echo guest >tree/etc/hostname
truncate -s 20M disk
mkfs.ext4 -q -F -d tree disk
"$VMATOOL" create /srv/dump/a.vma.zst drive-scsi0=disk

echo "--- the servers"
python3 "$lib/webserver.py" /srv/dump web.port --port 443 --tls pki/server-cert.pem pki/server-key.pem \
    --s3 s3.example.com ACCESS SECRET 2>web.log &
wait_until 20 test -s web.port || fail "$(cat web.log)"
mkdir -p /run/sshd home/.ssh home/.aws
ssh-keygen -q -t ed25519 -N '' -f host
ssh-keygen -q -t ed25519 -N '' -f home/.ssh/id_ed25519
cp home/.ssh/id_ed25519.pub home/.ssh/authorized_keys
echo "backup.example.com $(cut -d' ' -f1,2 host.pub)" >home/.ssh/known_hosts
"$(command -v sshd)" -D -e -h "$PWD/host" -f /dev/null -o StrictModes=no -o UsePAM=no -o PidFile=none \
    -o PermitRootLogin=yes -o "Subsystem=sftp internal-sftp" 2>ssh.log &
wait_until 20 ssh -o BatchMode=yes backup.example.com true 2>/dev/null || fail "$(cat ssh.log)"
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' ACCESS SECRET >home/.aws/credentials

stop_servers()
{
    local pid
    for pid in $(pgrep -x nbdkit); do # of our name space
        kill -KILL "$pid" || true
    done
    wait_until 10 sh -c '! pgrep -x nbdkit >/dev/null'
    rm -f /run/a.sock
}

echo "--- the page"
page=$tests/../docs/remote.md
python3 "$lib/pages.py" "$page" . || fail "the page"
same_text 2 "$(grep -c '^<!-- not run' "$page")"
nbdkit -r file /srv/dump/a.vma.zst # what the page begins with is told further down
ran=0
while [ -e "block-$ran" ]; do
    file=block-$ran
    grep -q 'nbd://' "$file" || stop_servers
    [ "$(tail -n +2 "$file")" != 'nbdkit -r file /srv/dump/a.vma.zst' ] || stop_servers
    timeout 60 bash "$file" >log 2>&1 || fail "$(cat "$file" log web.log)"
    is_mounted /mnt && fail "$file leaves its mount"
    ran=$((ran + 1))
done
[ "$ran" -ge 9 ] || fail "only $ran blocks"

echo "--- its line for fstab"
awk '/^```/ { inside = /fstab/; next } inside' "$page" >fstab
same_text 1 "$(wc -l <fstab)"
stop_servers
nbdkit -r file /srv/dump/a.vma.zst
mount -T fstab /mnt
same_text guest "$(cat /mnt/etc/hostname)"
umount /mnt

echo "--- what it says does not work: a signed URL with nbdkit's curl, while all else can use it"
stop_servers
url=$(/usr/bin/python3 -c '
import boto3
from botocore.config import Config
client = boto3.client("s3", endpoint_url="https://s3.example.com", region_name="us-east-1",
                      config=Config(signature_version="s3v4"))
print(client.generate_presigned_url("get_object", Params={"Bucket": "backups", "Key": "a.vma.zst"}))')
curl -sS --fail -o got "$url"
same_bytes got /srv/dump/a.vma.zst
case $(nbdkit --version) in
"nbdkit 1.32."*) # later ones may do better
    # shellcheck disable=SC2016 # it is for nbdkit's shell
    ! nbdkit -r -U - curl "$url" --run 'nbdinfo --size "$uri"' 2>log || fail "it does work: the page is wrong"
    grep -q 'problem doing HEAD request' log || fail "$(cat log)"
    ;;
esac
stop_servers
