#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# extract writes what the archive holds, sparse, and leaves nothing half done.

. "$(dirname "$0")/lib/functions.sh"

for layout in interleaved vmstate vmstate-short unaligned backwards many-configs zero devices-254; do
    make_archive "$layout" a.vma --disks true >/dev/null
    "$VMATOOL" extract a.vma out >stdout 2>stderr
    [ ! -s stdout ] && [ ! -s stderr ] || fail "extract of $layout is not silent"
    diff -r true out || fail "$layout"
    # Through a pipe, which cannot be read twice.
    # shellcheck disable=SC2002
    cat a.vma | "$VMATOOL" extract - piped
    diff -r true piped || fail "$layout through a pipe"
    rm -r true out piped
done

# Holes stay holes: 60 pieces of 3000 bytes touch at most 120 blocks, or 480 KiB.
make_archive sparse a.vma --disks true >/dev/null
"$VMATOOL" extract a.vma out
diff -r true out
[ "$(du -k out/disk-drive-sata0.raw | cut -f 1)" -le 600 ] || fail "$(du -k out/*.raw)"
rm -r true out

# A target that exists is not touched.
mkdir out
expect_fail 1 'out' "$VMATOOL" extract a.vma out
[ -z "$(ls out)" ] || fail "files in a refused target"
rmdir out
expect_fail 1 'nosuch' "$VMATOOL" extract a.vma nosuch/out

# -v: the reference's lines.
"$VMATOOL" extract -v "$fixtures/tiny.vma" out >verbose
grep -qE '^progress [0-9]+% \(read [0-9]+ bytes, duration [0-9]+ sec\)$' verbose || fail "$(cat verbose)"
grep -qE '^progress 100% ' verbose || fail "it never says 100%"
grep -qE 'bytes read [0-9]+, sparse bytes [0-9]+' verbose || fail "no summary: $(cat verbose)"
rm -r out

# -d: only these drives.
make_archive interleaved b.vma --disks true >/dev/null
"$VMATOOL" extract b.vma -d drive-scsi1,drive-scsi3 out
same_text "disk-drive-scsi1.raw disk-drive-scsi3.raw" "$(cd out && echo disk-*)"
same_bytes true/disk-drive-scsi1.raw out/disk-drive-scsi1.raw
same_bytes true/disk-drive-scsi3.raw out/disk-drive-scsi3.raw
rm -r out
expect_fail 1 'nosuch' "$VMATOOL" extract b.vma -d nosuch out
[ ! -e out ] || fail "a refused -d left something"

# --jobs does not change the result.
"$VMATOOL" extract --jobs 4 b.vma out
diff -r true out
rm -r out

# No room: an error, and no disk under its final name.
if [ "$(id -u)" = 0 ]; then
    mkdir small
    mount -t tmpfs -o size=1m none small
    cleanup_fn umount small
    expect_fail 1 '.' "$VMATOOL" extract b.vma small/out
    [ -z "$(find small -type f)" ] || fail "left: $(find small)"
fi
