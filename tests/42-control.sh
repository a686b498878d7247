#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# .vmafs/status is JSON that tells the truth; .vmafs/errors lists what is lost and what failed.

. "$(dirname "$0")/lib/functions.sh"
requires jq
requires_fuse

mnt=$TEST_TMP/mnt
start_vmafs "$fixtures/multi-disk.vma" "$mnt" -o wait
jq -e . "$mnt/.vmafs/status" >status || fail "status is no JSON"
uuid=$(od -An -t x1 -j 8 -N 16 "$fixtures/multi-disk.vma" | tr -d ' \n')
same_text "$uuid" "$(jq -r .uuid status | tr -d -)"
jq -r .archive status | grep -q 'multi-disk\.vma$' || fail "archive: $(cat status)"
same_text complete "$(jq -r .index.state status)"
same_text "3" "$(jq '.disks | length' status)"
same_text "" "$(cat "$mnt/.vmafs/errors")"
before=$(jq .reads.bytes status)
dd if="$mnt/disk-drive-scsi1.raw" of=/dev/null bs=64k count=1 status=none
after=$(jq .reads.bytes "$mnt/.vmafs/status")
[ "$after" -ge $((before + 65536)) ] || fail "reads are not counted: $before, $after"
stop_vmafs "$mnt"

start_vmafs "$fixtures/edge/57_trunc_at_extent.vma" "$mnt" -o salvage,wait
same_text "lost: disk-drive-scsi0.raw: 131072-262144" "$(grep '^lost:' "$mnt/.vmafs/errors")"
if cat "$mnt/disk-drive-scsi0.raw" >/dev/null 2>stderr; then
    fail "a missing cluster could be read"
fi
grep -q 'Input/output error' stderr || fail "$(cat stderr)"
[ "$(jq .errors.reads "$mnt/.vmafs/status")" -ge 1 ] || fail "the failed read is not counted"
[ "$(wc -l <"$mnt/.vmafs/errors")" -ge 2 ] || fail "the failed read is not listed"
dd if="$mnt/disk-drive-scsi0.raw" bs=64k count=2 status=none of=got
python3 - "$lib" "$fixtures/edge/57_trunc_at_extent.vma" >wanted <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import vmaread
reader = vmaread.load(sys.argv[2], salvage=True)
sys.stdout.buffer.write(reader.cluster(1, 0) + reader.cluster(1, 1))
END
same_bytes wanted got
stop_vmafs "$mnt"

start_vmafs "$fixtures/edge/40_ext_badmd5.vma" "$mnt" -o salvage,wait
grep -q '^archive: 12800-' "$mnt/.vmafs/errors" || fail "$(cat "$mnt/.vmafs/errors")"
same_text true "$(jq .salvage "$mnt/.vmafs/status")"
