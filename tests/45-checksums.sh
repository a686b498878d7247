#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
# Checksums of plain archives: a bit that changed later is found by verify, extract, repack, reads of a
# mount and of libvma, and never read; sums that are stale or damaged are told of, and not trusted.

. "$(dirname "$0")/lib/functions.sh"
requires jq
requires_fuse

mnt=$TEST_TMP/mnt
dir=$TEST_TMP/cache/vmafs
disk="disk-drive-scsi0.raw"
mismatch='data at [0-9]+ to [0-9]+: checksum mismatch'

head -c 3M /dev/urandom >disk.raw
"$VMATOOL" create a.vma drive-scsi0=disk.raw
cp -p a.vma good.vma

flip() # OFFSET: changes a bit of a.vma, and neither its size nor its time
{
    python3 - "$1" <<'END'
import sys
with open("a.vma", "r+b") as f:
    f.seek(int(sys.argv[1]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[1]))
    f.write(bytes([byte ^ 4]))
END
    touch -r good.vma a.vma
}

restore()
{
    cp -p good.vma a.vma
}

sums()
{
    find "$dir" -name '*.vmasums'
}

# Without sums nothing can be found, which is what they are for.
flip 1000000
"$VMATOOL" verify a.vma
same_text false "$("$VMATOOL" verify --json a.vma | jq .checksums)"
restore

"$VMATOOL" index --checksums a.vma
same_text 1 "$(sums | wc -l)"
"$VMATOOL" verify a.vma
same_text true "$("$VMATOOL" verify --json a.vma | jq .checksums)"
"$VMATOOL" index show a.vma >out
grep -q 'vmasums: .*checksums of an archive of' out || fail "index show: $(cat out)"
same_text 2 "$("$VMATOOL" index list | wc -l)"
"$VMATOOL" index verify a.vma
"$VMATOOL" index verify
expect_fail 2 "goes with build and rebuild" "$VMATOOL" index show --checksums a.vma

start_vmafs "$TEST_TMP/a.vma" "$mnt"
same_bytes disk.raw "$mnt/$disk"
same_text true "$(jq '.checksums.checked > 3000000 and .checksums.checked <= .checksums.bytes' "$mnt/.vmafs/status")"
stop_vmafs "$mnt"

# Everything that reads data finds it, wherever it is: also where the identity of the saved index is taken.
size=$(stat -c %s a.vma)
for offset in 1000000 20000 $((size - 1)); do
    flip "$offset"
    expect_fail 1 "a\\.vma: $mismatch" "$VMATOOL" verify a.vma
    expect_fail 1 "a\\.vma: $mismatch" "$VMATOOL" extract a.vma folder
    [ ! -e "folder/$disk" ] || fail "extract leaves a damaged disk"
    expect_fail 1 "a\\.vma: $mismatch" "$VMATOOL" extract --jobs=2 a.vma folder
    expect_fail 1 "a\\.vma: $mismatch" "$VMATOOL" repack a.vma new.vma
    [ ! -e new.vma ] || fail "repack leaves a damaged archive"
    restore
done

flip 1000000
bad=$((1000000 / 262144 * 262144))
expect_fail 1 "lost data" "$VMATOOL" verify --salvage a.vma
grep -qx "archive: unreadable at $bad-$((bad + 262144))" "$TEST_TMP/stdout" || fail "$(cat "$TEST_TMP/stdout")"
# `index --checksums` must not take what is there now for what has to be.
"$VMATOOL" index --checksums a.vma
expect_fail 1 "$mismatch" "$VMATOOL" verify a.vma
# --quick reads no data.
"$VMATOOL" verify --quick a.vma

# A mount: an error for what changed, a line for it, and all else as it was.
start_vmafs "$TEST_TMP/a.vma" "$mnt" 2>/dev/null
python3 - "$mnt/$disk" <<'END'
import errno, os, sys
want = open("disk.raw", "rb").read()
fd = os.open(sys.argv[1], os.O_RDONLY)
lost = 0
for repeat in range(2):
    for at in range(0, len(want), 4096):
        try:
            assert os.pread(fd, 4096, at) == want[at:at + 4096], f"wrong data at {at}"
        except OSError as e:
            assert e.errno == errno.EIO, e
            lost += 4096
# a chunk, and what the kernel asked for in one piece with it
assert 2 * (256 << 10) - 65536 <= lost <= 2 * (768 << 10), lost
END
same_text 1 "$(grep -cE "^read: .*a\\.vma: data at $bad to $((bad + 262144)): checksum mismatch" "$mnt/.vmafs/errors")"
same_text 1 "$(wc -l <"$mnt/.vmafs/errors")"
stop_vmafs "$mnt"
# Who wants the bytes as they are, right or wrong, gets them.
start_vmafs "$TEST_TMP/a.vma" "$mnt" --index-cache=none
same_text 1 "$({ cmp -l disk.raw "$mnt/$disk" || true; } | wc -l)"
stop_vmafs "$mnt"

# libvma.
if [ "${TEST_VARIANT:-plain}" = plain ]; then # a sanitizer would have to be in Python itself
    LD_LIBRARY_PATH=$BUILDDIR/libvma expect_fail 1 "^vma-hash: a\\.vma: $mismatch" \
        "$tests/../examples/vma-hash.py" a.vma
fi
restore
"$VMATOOL" verify a.vma

# Sums that are damaged, or of an archive that somebody changed: a note, and no checks.
file=$(sums)
cp "$file" saved
for place in 0 20 60 $(($(stat -c %s saved) - 1)); do
    printf '\xa7' | dd of="$file" bs=1 seek="$place" conv=notrunc status=none
    expect_fail 1 "the checksums are damaged" "$VMATOOL" index verify a.vma
    "$VMATOOL" verify a.vma 2>notes
    grep -qE '^vmatool: note: a\.vma: the checksums are damaged; (its data|some of its data) are not checked$' notes ||
        fail "at $place: $(cat notes)"
    same_text 1 "$(wc -l <notes)"
    cp saved "$file"
done
head -c 70 saved >"$file"
"$VMATOOL" verify a.vma 2>notes
grep -q 'the checksums are damaged' notes || fail "$(cat notes)"
# Taken anew where they are of no use.
"$VMATOOL" index --checksums a.vma
"$VMATOOL" verify a.vma 2>notes
[ ! -s notes ] || fail "$(cat notes)"

touch a.vma
start_vmafs "$TEST_TMP/a.vma" "$mnt" 2>notes
same_bytes disk.raw "$mnt/$disk"
same_text null "$(jq .checksums "$mnt/.vmafs/status")"
grep -q 'the checksums are stale (the archive has changed since); its data are not checked' notes ||
    fail "$(cat notes)"
stop_vmafs "$mnt"
"$VMATOOL" index rebuild --checksums a.vma
"$VMATOOL" verify a.vma 2>notes
[ ! -s notes ] || fail "$(cat notes)"

# The cache: saved indexes go first, then sums.
"$VMATOOL" index prune --max-size=$(($(stat -c %s "$file") + 20)) >out
same_text "$file" "$(find "$dir" -type f)"
touch -d '2 days ago' "$dir/x.vmasums.abcdef"
"$VMATOOL" index prune --max-size=0 >out
same_text "" "$(find "$dir" -type f)"

# A compressed archive has its own.
zstd -q a.vma -o b.vma.zst
"$VMATOOL" index --checksums b.vma.zst 2>notes
grep -q 'note: b.vma.zst: no checksums taken: it is compressed' notes || fail "$(cat notes)"
same_text "" "$(sums)"
