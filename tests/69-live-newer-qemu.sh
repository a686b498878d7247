#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: long serial timeout=1800
# The tests of live backups, with the QEMU of Debian's next release.

. "$(dirname "$0")/lib/functions.sh"
requires apt-get dpkg-deb

kit=${TEST_KIT:-$BUILDDIR/guest-kit}
root=$kit/trixie/root
"$tests/../scripts/make-sysroot" --suite trixie amd64 "$kit/trixie" qemu-system-x86 ||
    skip "the packages of trixie could not be had"

# With its own libraries, in place of a chroot: it then sees the tests' files.
cat >qemu <<END
#!/bin/bash
export QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu
exec $root/lib64/ld-linux-x86-64.so.2 --library-path $root/usr/lib/x86_64-linux-gnu \\
    $root/usr/bin/qemu-system-x86_64 -L $root/usr/share/qemu -L $root/usr/share/seabios "\$@"
END
chmod +x qemu
export TEST_QEMU=$TEST_TMP/qemu TEST_KIT=$kit
"$TEST_QEMU" --version

failed=
for test in "$tests"/6[0-7]-*.py; do
    echo "${test##*/}"
    "$test" || failed+=" ${test##*/}"
done
[ -z "$failed" ] || fail "with this QEMU:$failed"
