#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The generator and the independent reader, on which the other tests lean, agree with each other and
# with the true contents of the reference archives.

NEEDS_PROGRAMS=no
. "$(dirname "$0")/lib/functions.sh"

for layout in $(python3 "$lib/vmagen.py" --list); do
    make_archive "$layout" a.vma >wanted
    python3 "$lib/vmaread.py" sha256 a.vma >got
    same_bytes wanted got
    make_archive "$layout" b.vma >/dev/null
    same_bytes a.vma b.vma
done

# DISKS.sha256 has lines like "SUM  tiny: disk-drive-scsi0.raw (6291968 bytes)".
while read -r sum archive file _; do
    python3 "$lib/vmaread.py" sha256 "$fixtures/${archive%:}.vma" >got
    grep -qxF "$sum  $file" got ||
        fail "$archive $file"
done <"$fixtures/DISKS.sha256"
