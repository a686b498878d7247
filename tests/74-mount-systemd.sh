#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fstab lines through systemd: the generator makes units of them that systemd-analyze accepts; and a systemd of our
# own, in name spaces, mounts them: as a mount unit, and by automount at the first look, with idle time.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/mounthelper.sh"
generator=/lib/systemd/system-generators/systemd-fstab-generator
requires mkfs.ext4 systemd-analyze systemd-escape systemctl "$generator" /lib/systemd/systemd

mkdir -p tree/etc
echo 'NAME=Test' >tree/etc/os-release
truncate -s 8M ext4.raw
mkfs.ext4 -q -d tree ext4.raw
"$VMATOOL" create a.vma drive-t74=ext4.raw
cp -p a.vma 'my archive.vma'

mkdir -p units root images guest
cat >fstab <<END
$TEST_TMP/my\\040archive.vma $TEST_TMP/root vmafs part=root,nofail,_netdev 0 0
$TEST_TMP/a.vma $TEST_TMP/images fuse.vmafs nofail,x-systemd.automount,x-systemd.idle-timeout=1 0 0
$TEST_TMP/a.vma $TEST_TMP/guest vmafs disk=t74,noauto,x-systemd.automount,x-systemd.idle-timeout=1 0 0
END
SYSTEMD_FSTAB=$TEST_TMP/fstab "$generator" "$TEST_TMP/units" "$TEST_TMP/units" "$TEST_TMP/units"
unit() # NAME SUFFIX
{
    systemd-escape -p --suffix="$2" "$TEST_TMP/$1"
}
for name in root images guest; do
    mount=$(unit $name mount)
    grep -qE '^Type=(fuse\.)?vmafs$' "units/$mount" || fail "no type in $mount"
    mkdir "units/$mount.d"
    # Our own programs and folders; and no other unit shall be started.
    cat >"units/$mount.d/test.conf" <<END
[Unit]
DefaultDependencies=no
[Mount]
Environment=VMAFS=$VMAFS XDG_CACHE_HOME=$XDG_CACHE_HOME TEST_TMP=$TEST_TMP
END
done
[ -e "units/$(unit images automount)" ] || fail "no automount unit"
systemd-analyze verify "units/$(unit root mount)" "units/$(unit images automount)" \
    "units/$(unit guest automount)" 2>&1 | tee verify
[ ! -s verify ] || fail "systemd-analyze finds fault"

# The real thing.  It gets its own processes, mounts and cgroups, and starts nothing but this.
cat >units/test.target <<END
[Unit]
DefaultDependencies=no
Wants=test.service
END
cat >units/test.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=$TEST_TMP/inside
StandardOutput=file:$TEST_TMP/log
StandardError=file:$TEST_TMP/log
Environment=TEST_TMP=$TEST_TMP
END
cat >inside <<END
#!/bin/bash
cd "$TEST_TMP"
touch started
finish() { echo "\$*" >result; exit; }
eventually() { for i in {1..200}; do ! "\$@" || return 0; sleep 0.1; done; return 1; }
gone() { [ -z "\$(pgrep -x vmafs)" ] && ! losetup -l -n -O BACK-FILE | grep -qF /disk-drive-t74; }
systemctl start '$(unit root mount)' || finish "start of a mount unit"
[ -e root/etc/os-release ] || finish "what the mount unit mounted"
systemctl stop '$(unit root mount)' || finish "stop of a mount unit"
[ ! -e root/etc ] || finish "the mount unit's mount is still there"
gone || finish "left behind by a mount unit"
for name in images guest; do
    case \$name in
    images) unit='$(unit images automount)' file=images/disk-drive-t74.raw ;;
    guest) unit='$(unit guest automount)' file=guest/etc/os-release ;;
    esac
    systemctl start "\$unit" || finish "start of an automount unit"
    gone || finish "automount mounts before anyone looks"
    timeout 20 cat "\$file" >/dev/null || finish "automount of \$name"
    eventually gone || finish "left behind when idle: \$name"
    timeout 20 cat "\$file" >/dev/null || finish "automount of \$name again"
    systemctl stop "\$unit" || finish "stop of an automount unit"
    eventually gone || finish "left behind by an automount unit: \$name"
done
finish ok
END
chmod +x inside
cat >boot <<'END'
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
umount -l /sys/fs/cgroup
mount -t tmpfs tmpfs /sys/fs/cgroup
if ! mount -t cgroup2 cgroup2 /sys/fs/cgroup || [ ! -w /sys/fs/cgroup/cgroup.subtree_control ]; then
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
hostname vmafs-test
export container=unshare SYSTEMD_UNIT_PATH=$TEST_TMP/units
exec /lib/systemd/systemd --system --unit=test.target --log-target=console
END
unshare --mount --pid --uts --ipc --cgroup --fork --kill-child bash boot >boot.log 2>&1 &
container=$!
cleanup_fn kill -KILL "$container"
if ! wait_until 30 test -e started; then
    tail -n 20 boot.log
    echo "note: systemd does not start in a name space here; only its units were looked at"
    exit 0
fi
wait_until 90 test -s result || { cat log boot.log; fail "no end inside systemd"; }
[ "$(cat result)" = ok ] || { cat log; fail "$(cat result)"; }
kill -KILL "$container"
wait "$container" 2>/dev/null || true
check_nothing_left drive-t74 "by systemd"
