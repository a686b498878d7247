#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=1500 serial long
# The packages' own tests, run by autopkgtest in a bare Debian; and the rpm packages, as far as they can be built
# without Fedora: with its macros, and without its dependencies.

. "$(dirname "$0")/lib/functions.sh"
requires autopkgtest dpkg-buildpackage debootstrap rpmbuild
requires_root
[ "${TEST_VARIANT:-plain}" = plain ] || skip "not with a sanitizer"

mkdir source
(cd "$tests/.." && tar -c --exclude='./build*' --exclude=./.git .) | tar -x -C source

echo "--- rpm"
mkdir -p rpm/SOURCES
tar -czf rpm/SOURCES/vmafs-0.1.0.tar.gz --transform 's|^source|vmafs-0.1.0|' source
rpmbuild --load "$lib/fedora.macros" --define "_topdir $PWD/rpm" --nodeps -ba source/packaging/vmafs.spec \
    >rpm.log 2>&1 || fail "$(tail -n 20 rpm.log)"
same_text 'nbdkit-vma-plugin vmafs vmafs-devel vmafs-libs' \
    "$(cd rpm/RPMS/*/ && printf '%s\n' ./*.rpm | sed 's|^\./||; s|-0\.1\.0-.*||' | sort | xargs)"
rpm -qp --requires rpm/RPMS/*/vmafs-devel*.rpm | grep -q '^vmafs-libs' || fail "vmafs-devel needs no vmafs-libs"

echo "--- autopkgtest"
root=$TEST_BIG/debian
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
(cd source && dpkg-buildpackage -us -uc -b -j2) >build.log 2>&1 || fail "$(tail -n 30 build.log)"
rm ./*dbgsym*
debootstrap --variant=minbase "$suite" "$root" >debootstrap.log 2>&1 || fail "$(tail -n 5 debootstrap.log)"
cleanup_chroot()
{
    umount -l "$root/dev/fuse" "$root/proc" 2>/dev/null || true
}
cleanup_fn cleanup_chroot
# A chroot is no machine, but what the restriction is about is there.
mount -t proc proc "$root/proc"
[ -e "$root/dev/fuse" ] || touch "$root/dev/fuse"
mount --bind /dev/fuse "$root/dev/fuse"
env -u TMPDIR autopkgtest --ignore-restrictions=isolation-machine --no-built-binaries ./*.deb source/ \
    -- chroot "$root" >autopkgtest.log 2>&1 || fail "$(tail -n 40 autopkgtest.log)"
for name in mount-fixture tool library nbdkit; do
    grep -qE "^$name +PASS" autopkgtest.log || fail "$name: $(tail -n 20 autopkgtest.log)"
done
