#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
# libvma as others use it: installed, found by pkg-config, linked by a C program and loaded by Python; and
# what it exports is what its map and its header say, no more and no less.

. "$(dirname "$0")/lib/functions.sh"
requires meson pkg-config python3 nm

top=$(cd "$tests/.." && pwd)
dest=$TEST_TMP/dest

# --- what it exports ----------------------------------------------------------------------------------

library=$BUILDDIR/libvma/libvma.so.0
sed -n 's/^    \(vma_[a-z_]*\);$/\1/p' "$top/libvma/libvma.map" | sort >wanted
[ "$(wc -l <wanted)" -gt 25 ] || fail "the map has no names"
nm -D --defined-only "$library" | sed -n 's/.* [TDBR] \(.*\)@@LIBVMA_0$/\1/p' | sort >exported
diff wanted exported || fail "the library does not export what its map says"
nm -D --defined-only "$library" | grep -v ' A LIBVMA_0$' | grep -v '@@LIBVMA_0$' |
    grep -vE ' [TDBWV] _*(asan|ubsan|tsan|_odr)' >other || true
[ "${TEST_VARIANT:-plain}" != plain ] || [ ! -s other ] || fail "it exports more: $(cat other)"
grep -o 'vma_[a-z_]* (' "$top/include/vma.h" | sed 's/ (//' | grep -vxE 'vma_(public)' | sort -u >declared
diff wanted <(grep -xFf wanted declared) || fail "not all that is exported is declared"
readelf -d "$library" | grep -q 'soname: \[libvma.so.0\]' || fail "no soname"

# Each thing in the header is described.
if [ "${TEST_VARIANT:-plain}" = plain ]; then
    requires doxygen
    (cat "$top/libvma/Doxyfile" && echo "INPUT = $top/include/vma.h" && echo "OUTPUT_DIRECTORY = doc") |
        doxygen - || fail "the header is not documented as it should"
    [ -e doc/html/vma_8h.html ] || fail "no reference"
fi

# --- the installed library ------------------------------------------------------------------------------

DESTDIR=$dest meson install -C "$BUILDDIR" --no-rebuild >install.log 2>&1 || {
    cat install.log
    fail "meson install failed"
}
pc=$(find "$dest" -name libvma.pc)
[ -n "$pc" ] || fail "libvma.pc is not installed"
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$dest
libdir=$dest$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=libdir libvma)
[ -e "$libdir/libvma.so.0" ] || fail "the library is not in $libdir"
read -ra flags < <(pkg-config --cflags --libs libvma)
compiler=("${CC:-cc}")
case ${TEST_VARIANT:-plain} in
asan) compiler+=("-fsanitize=address,undefined") ;;
esac
"${compiler[@]}" -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror "$top/examples/vma-copy.c" -o vma-copy "${flags[@]}"
if command -v c++ >/dev/null; then
    printf '#include <vma.h>\nint main () { return vma_version () == nullptr; }\n' >plus.cc
    c++ -Wall -Wextra -Werror plus.cc -o plus "${flags[@]}"
fi
export LD_LIBRARY_PATH=$libdir
readelf -d vma-copy | grep -q 'libvma.so.0' || fail "the example is not linked with the library"

"$VMATOOL" extract "$fixtures/multi-disk.vma" true >/dev/null
for archive in multi-disk.vma multi-disk.vma.zst; do
    rm -f copy.raw
    ./vma-copy "$fixtures/$archive" scsi0 copy.raw
    same_bytes true/disk-drive-scsi0.raw copy.raw
done
same_text "$(printf '%s\n' 'config qemu-server.conf 134' 'config qemu-server.fw 20' \
    'disk drive-efidisk0 1050112' 'disk drive-scsi0 50331648' 'disk drive-scsi1 3145728')" \
    "$(./vma-copy "$fixtures/multi-disk.vma" | sort)"

./vma-copy --create made.vma.zst true/disk-drive-efidisk0.raw
"$VMATOOL" verify made.vma.zst
./vma-copy made.vma.zst drive-scsi0 again.raw
same_bytes true/disk-drive-efidisk0.raw again.raw

expect_fail 1 '^vma-copy: .*no disk .nothing.: there is disk-drive' \
    ./vma-copy "$fixtures/multi-disk.vma" nothing never.raw
expect_fail 1 '^vma-copy: /dev/null: header at 0: ' ./vma-copy /dev/null
expect_fail 1 '^vma-copy: .*missing' ./vma-copy "$fixtures/edge/57_trunc_at_extent.vma" scsi0 never.raw
[ ! -e never.raw ] || fail "a copy that failed is left behind"
expect_fail 1 '^vma-copy: .*made.vma.zst.*exists' ./vma-copy --create made.vma.zst true/disk-drive-scsi1.raw

# --- from Python ----------------------------------------------------------------------------------------

if [ "${TEST_VARIANT:-plain}" = plain ]; then # a sanitizer would have to be in Python itself
    same_text "$(cd true && sha256sum disk-*.raw)" \
        "$("$top/examples/vma-hash.py" "$fixtures/multi-disk.vma.zst" | sort -k 2)"
    expect_fail 1 '^vma-hash: /dev/null: header at 0: ' "$top/examples/vma-hash.py" /dev/null
fi
