#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=900 serial
# The Debian packages are built, installed into a bare Debian, and work there; nothing of them stays behind
# when they are removed.

. "$(dirname "$0")/lib/functions.sh"
requires dpkg-buildpackage debootstrap lintian dh rpmspec
[ "$(id -u)" = 0 ] || skip "debootstrap needs root"
[ "${TEST_VARIANT:-plain}" = plain ] || skip "not with a sanitizer"

root=$TEST_BIG/debian # on a disk: TEST_BIG may be a tmpfs without device files
cleanup_chroot()
{
    local mount
    for mount in dev/fuse proc sys dev; do
        umount -l "$root/$mount" 2>/dev/null || true
    done
}
cleanup_fn cleanup_chroot

# Of the rpm packages what does not need minutes; 91-packages-more builds them.
rpmspec --load "$lib/fedora.macros" --parse "$tests/../packaging/vmafs.spec" >spec.log 2>&1 || fail "$(cat spec.log)"
! grep '^ *%' spec.log | grep -vE '^ *%(package|description|prep|build|install|post|preun|postun|files|license|doc|changelog)' ||
    fail "macros that nobody knows"

# --- building -----------------------------------------------------------------------------------------

mkdir source
(cd "$tests/.." && tar -c --exclude='./build*' --exclude=./.git .) | tar -x -C source
(cd source && dpkg-buildpackage -us -uc -b -j2) >build.log 2>&1 || fail "$(tail -n 30 build.log)"
ls ./*.deb
lintian --fail-on error,warning --tag-display-limit 0 --allow-root --suppress-tags \
    initial-upload-closes-no-bugs ./*.changes || fail "lintian is not content"

# --- in a bare Debian ---------------------------------------------------------------------------------

in_root() # COMMAND...
{
    env -u TMPDIR DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$root" "$@"
}

check_release() # SUITE
{
    rm -rf "$root"
    debootstrap --variant=minbase "$1" "$root" >debootstrap.log 2>&1 || fail "$(tail -n 5 debootstrap.log)"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --make-rslave "$root/dev"
    mkdir "$root/packages" "$root/quick"
    cp ./*.deb "$root/packages/"
    rm "$root"/packages/*dbgsym*
    cp "$tests/../quickstart" "$root/quick/"
    mkdir "$root/quick/debian"
    cp -r "$tests/../debian/tests" "$root/quick/debian/tests"
    mkdir -p "$root/quick/tests"
    cp -r "$fixtures" "$root/quick/tests/fixtures"
    in_root apt-get -q update >apt.log 2>&1
    # What stands there before: all but what packages leave by design.
    in_root find /usr /etc/alternatives /var/cache /lib/systemd -xdev -path /usr/share/doc -prune -o -print |
        sort >before
    in_root sh -c 'apt-get -q -y --no-install-recommends install /packages/*.deb' >apt.log 2>&1 ||
        fail "$(tail -n 20 apt.log)"

    # The programs, from their packages alone.
    [ "$(in_root readlink -f /usr/bin/vma)" = /usr/bin/vmatool ] || fail "no alternative for vma"
    in_root vma list /quick/tests/fixtures/tiny.vma | grep -q DEV
    in_root sh -c 'apt-get -q -y --no-install-recommends install fdisk e2fsprogs mount' >apt.log 2>&1
    in_root env VMAFS_BUILD=/quick/build /quick/quickstart --installed >quick.log 2>&1 ||
        fail "$(cat quick.log)"
    grep -q 'All went well' quick.log
    in_root umount /quick/build/demo/mnt
    in_root sh -c 'apt-get -q -y --no-install-recommends install libnbd-bin' >apt.log 2>&1
    for name in mount-fixture tool nbdkit; do
        in_root "/quick/debian/tests/$name" >autopkgtest.log 2>&1 || fail "$name: $(cat autopkgtest.log)"
    done
    in_root nbdkit vma --dump-plugin | grep -q '^name=vma$'
    in_root sh -c 'vmafs --version && vmabackup --version && mount.vmafs --version'

    # Proxmox's own program keeps its name.
    in_root apt-get -q -y purge vmafs >apt.log 2>&1
    [ ! -e "$root/usr/bin/vma" ] || fail "the alternative is left"
    printf '#!/bin/sh\necho own\n' >"$root/usr/bin/vma"
    chmod +x "$root/usr/bin/vma"
    in_root sh -c 'dpkg -i /packages/vmafs_*.deb' >apt.log 2>&1 || fail "$(cat apt.log)"
    same_text own "$(in_root vma)"
    in_root apt-get -q -y purge vmafs libvma0 libvma-dev nbdkit-plugin-vma >apt.log 2>&1 ||
        fail "$(cat apt.log)"
    same_text own "$(in_root vma)"
    rm "$root/usr/bin/vma"
    in_root find /usr /etc/alternatives /var/cache /lib/systemd -xdev -path /usr/share/doc -prune -o -print |
        sort >after
    comm -13 before after | grep vma >left || true
    [ ! -s left ] || fail "left behind: $(cat left)"
    cleanup_chroot
}

# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
check_release "$suite"
