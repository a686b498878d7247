#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# What happens to the archive under a mount: deleted it stays readable, truncated it gives EIO where it
# ended and right bytes elsewhere; never zeros, never a dead mount.

. "$(dirname "$0")/lib/functions.sh"
requires_fuse

mnt=$TEST_TMP/mnt
make_archive ordered a.vma --disks true >/dev/null
disk="disk-drive-scsi0.raw"

start_vmafs "$TEST_TMP/a.vma" "$mnt" -o wait
mv a.vma elsewhere.vma
rm elsewhere.vma
same_bytes "true/$disk" "$mnt/$disk"
stop_vmafs "$mnt"

make_archive ordered a.vma >/dev/null
start_vmafs "$TEST_TMP/a.vma" "$mnt" -o wait
truncate -s 2000000 a.vma
python3 - "$mnt/$disk" "true/$disk" <<'END'
import errno, os, sys
with open(sys.argv[2], "rb") as f:
    true = f.read()
fd = os.open(sys.argv[1], os.O_RDONLY)
assert os.fstat(fd).st_size == len(true), "the size has changed"
failed = 0
for at in range(0, len(true), 65536):
    try:
        got = os.pread(fd, 65536, at)
        # Short where the archive ends inside of this cluster; the next read fails.
        assert got and got == true[at:at + len(got)], f"wrong bytes at {at}"
        failed += len(got) < min(65536, len(true) - at)
    except OSError as error:
        assert error.errno == errno.EIO, error
        failed += 1
assert failed > 3, f"only {failed} clusters failed"
assert failed < len(true) / 65536 - 3, "nothing can be read any more"
END
stat "$mnt" >/dev/null
stop_vmafs "$mnt"
