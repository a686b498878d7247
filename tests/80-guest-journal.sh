#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# A file system of a guest that was running: cp gives what the guest's own kernel would show after it had
# carried out the journal (e2fsck does it for us), with checksums and without, over revoked blocks,
# through data in the journal; a journal that is broken is told, and read past.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/guestdisks.sh"
requires_root
requires mkfs.ext4 e2fsck debugfs losetup python3

# Works on a mounted file system, in the way that leaves most to the journal.
cat >work.py <<'END'
import os, random, sys
base, rng = sys.argv[1], random.Random(7)
def put(name, data):
    with open(os.path.join(base, name), "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
for i in range(60):
    os.makedirs(f"{base}/dir{i % 7}/sub{i}", exist_ok=True)
    put(f"dir{i % 7}/sub{i}/file{i}", rng.randbytes(rng.randrange(1, 30000)))
    if i % 3 == 0:
        os.rename(f"{base}/dir{i % 7}/sub{i}/file{i}", f"{base}/moved{i}")
    if i % 5 == 0:                      # directories whose blocks become those of files: revoked
        for n in range(40):
            put(f"dir{i % 7}/sub{i}/{n:0200}", b"")
        os.system(f"rm -r {base}/dir{i % 7}/sub{i}")
        put(f"again{i}", rng.randbytes(40000))
put("magic", bytes.fromhex("c03b3998") * 5000)   # looks like the journal's own blocks
put("last", b"written last\n")
END

check() # NAME MKFS-OPTION... -- MOUNT-OPTIONS
{
    local name=$1 options=()
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    rm -rf live.raw mnt target wanted
    mkdir -p mnt target wanted
    truncate -s 40M live.raw
    mkfs.ext4 -q "${options[@]}" live.raw
    mount -o "loop,commit=300,$2" live.raw mnt || fail "cannot mount"
    cleanup_fn umount "$TEST_TMP/mnt"
    python3 work.py mnt
    # As a backup takes it: the disk as the guest left it, in a moment.
    sync -f live.raw 2>/dev/null || true
    cp --sparse=always live.raw "$name.raw"
    umount mnt
    cleanup_commands=()
    dumpe2fs -h "$name.raw" 2>/dev/null | grep -q needs_recovery || fail "the journal is empty"

    "$VMATOOL" create "$name.vma" "$name.raw"
    "$VMATOOL" cp -a "$name.vma:/" target 2>messages || fail "$(cat messages)"
    same_text '' "$(cat messages)"
    # The truth.  Without its journal the file system is another one, or this would prove nothing.
    cp --sparse=always "$name.raw" replayed.raw
    e2fsck -fy replayed.raw >/dev/null 2>&1 || [ $? -le 1 ] || fail "e2fsck"
    mount -o loop,ro replayed.raw mnt
    cleanup_fn umount "$TEST_TMP/mnt"
    list()
    {
        (cd "$1" && find . -mindepth 1 -printf '%P %y %m %U\n' | sort &&
            find . -type f -exec stat -c '%n %s %Y' {} + | sort)
    }
    same_text "$(list mnt)" "$(list target)"
    diff -r mnt target
    umount mnt
    cleanup_commands=()
    same_text 'written last' "$("$VMATOOL" cat "$name.vma:/last")"
    debugfs -R 'cat /last' "$name.raw" >plain 2>&1
    ! grep -q 'written last' plain || fail "nothing was left to the journal"
}

check csum3 -b 4096 -- noatime
check small -b 1024 -O ^metadata_csum,^64bit -- noatime
check ext3 -t ext3 -b 1024 -- noatime
check inside -b 4096 -O ^64bit -- noatime,data=journal
check csum2 -b 4096 -J size=4 -- noatime,journal_checksum

# A journal that is damaged: its checksums do not fit.
debugfs -R 'blocks <8>' csum3.raw >blocks 2>/dev/null
python3 - <<'END'
blocks = [int(word) for word in open("blocks").read().split()]
with open("csum3.raw", "r+b") as f:
    def block(n):
        f.seek(blocks[n] * 4096)
        return f.read(4096)
    at = int.from_bytes(block(0)[28:32], "big")
    while block(at)[:8] != bytes.fromhex("c03b399800000001"):       # the first descriptor
        at += 1
    f.seek(blocks[at + 1] * 4096 + 100)                             # its first block of data
    old = f.read(1)
    f.seek(-1, 1)
    f.write(bytes([old[0] ^ 1]))
END
"$VMATOOL" create broken.vma csum3.raw
"$VMATOOL" ls broken.vma:/ >/dev/null 2>messages || true
grep -qE '^vmatool: note: broken.vma:disk0/whole: the journal: checksum mismatch; what the guest' messages ||
    fail "$(cat messages)"
