#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# The saved index: kept after the first mount, used by the second, never trusted when it does not fit.

. "$(dirname "$0")/lib/functions.sh"
requires jq
requires_fuse

mnt=$TEST_TMP/mnt
dir=$TEST_TMP/cache/vmafs
disk="disk-drive-scsi0.raw"
make_archive out-of-order a.vma --disks true >/dev/null

saved()
{
    find "$dir" -type f 2>/dev/null
}

loaded() # whether the mount's index came from the cache
{
    jq .index.loaded "$mnt/.vmafs/status"
}

mount_once() # [OPTION...]: mounts, compares all, unmounts; $was_loaded; messages in ./notes
{
    mkdir -p "$mnt"
    cleanup_fn stop_vmafs "$mnt"
    "$VMAFS" a.vma "$mnt" -o wait "$@" 2>notes
    was_loaded=$(loaded)
    same_bytes "true/$disk" "$mnt/$disk"
    same_bytes true/disk-drive-scsi1.raw "$mnt/disk-drive-scsi1.raw"
    stop_vmafs "$mnt"
}

# None where none is wanted.
mount_once --index-cache=none
same_text false "$was_loaded"
same_text "" "$(saved)"

mount_once
same_text false "$was_loaded"
same_text 1 "$(saved | wc -l)"
[ ! -s notes ] || fail "$(cat notes)"
index=$(saved)
mount_once
same_text true "$was_loaded"
[ ! -s notes ] || fail "$(cat notes)"
mount_once --index-cache=none
same_text false "$was_loaded"

# In a folder of the user's choice, which need not exist yet.
mount_once --index-cache="$TEST_TMP/my/own"
same_text 1 "$(find my/own -type f | wc -l)"
mount_once --index-cache=my/own
same_text true "$was_loaded"

# Nothing beside the archive.
same_text "" "$(find . -maxdepth 1 -name 'a.vma?*')"

# Damage of every kind: noticed at once or when the place is used; the disk is right each time.
size=$(stat -c %s "$index")
cp "$index" pristine
for cut in 0 1 $((size / 2)) $((size - 1)); do
    head -c "$cut" pristine >"$index"
    mount_once
    grep -q 'saved index' notes || fail "no note about an index cut at $cut: $(cat notes)"
    same_text false "$was_loaded"
    cmp -s pristine "$index" || [ "$(stat -c %s "$index")" -gt 0 ] || fail "it was not rebuilt"
    mount_once
    same_text true "$was_loaded"
done
step=$((size / 25 + 1))
for ((at = 0; at < size; at += step)); do
    cp pristine "$index"
    printf '\xa7' | dd of="$index" bs=1 seek="$at" conv=notrunc status=none
    cmp -s pristine "$index" && continue
    mount_once
done
cp pristine "$index"

# Another archive in its place, same size and name.
sleep 0.01
make_archive out-of-order a.vma --disks true --seed 2 >/dev/null
mount_once
same_text false "$was_loaded"
# The same, touched.
touch -d '2001-01-01' a.vma
mount_once
same_text false "$was_loaded"
mount_once
same_text true "$was_loaded"

# A folder that cannot be written must not stop a mount.
: >not-a-folder
mount_once --index-cache="$TEST_TMP/not-a-folder/x"
same_text false "$was_loaded"

# Damaged archives leave no index that a strict mount could trust later.
rm -rf "$dir"
cp "$fixtures/edge/57_trunc_at_extent.vma" bad.vma
start_vmafs "$TEST_TMP/bad.vma" "$mnt" -o salvage,wait
stop_vmafs "$mnt"
expect_fail 1 'bad\.vma' "$VMAFS" bad.vma "$mnt"
expect_fail 1 'bad\.vma' "$VMATOOL" verify bad.vma
