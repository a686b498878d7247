#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# ls, cat and cp of a guest that means harm, and of a damaged archive: nothing lands outside the target, what is whole is copied, what is not is told.

. "$(dirname "$0")/lib/functions.sh"
. "$lib/guestdisks.sh"
requires jq mkfs.ext4 debugfs

# --- names: as no kernel would write them
mkdir -p evil/dir/sub evil/dir/loop
for name in dotdot-name slash/name; do
    mkdir -p "evil/$(dirname "$name")"
done
printf 'good\n' >evil/good
printf 'bad\n' >evil/XXYYYYYY
printf 'bad\n' >evil/dir/ZZ
printf 'bad\n' >evil/dir/QQQQ
printf 'fine\n' >evil/dir/fine
ln -s / evil/link
ln -s ../../../../../../../../etc/hostname evil/up
printf '\033]0;title\007' >evil/"$(printf 'a\033b')"
truncate -s 16M evil.raw
mkfs.ext4 -q -O ^metadata_csum,^dir_index,^has_journal -d evil evil.raw
python3 - <<'END'
data = bytearray(open("evil.raw", "rb").read())
def rename(old, new):
    at = data.find(b"%c\x01" % len(old) + old)          # length, type: a regular file
    assert at > 0 and len(old) == len(new), (old, at)
    data[at + 2:at + 2 + len(new)] = new
rename(b"XXYYYYYY", b"../owned")
rename(b"ZZ", b"..")
rename(b"QQQQ", b"a\0bc")
# A directory that contains the root.
at = data.find(b"\x04\x02loop")
assert at > 0
data[at - 6:at - 2] = (2).to_bytes(4, "little")
open("evil.raw", "wb").write(data)
END
"$VMATOOL" create evil.vma evil.raw

mkdir -p jail/target
status=0
"$VMATOOL" cp -a evil.vma:/ jail/target 2>messages || status=$?
same_text 1 "$status"
same_text target "$(ls jail)"
same_text good "$(cat jail/target/good)"
same_text fine "$(cat jail/target/dir/fine)"
[ -L jail/target/link ] && [ ! -e jail/target/owned ] || fail "a name led out"
grep -q "'../owned' is no name for a file" messages
grep -qE '/dir/loop: the directory stands in the file system twice' messages
same_text bad "$(cat jail/target/dir/a)"
same_text '' "$(find . -name '.vmatool-*')"
# Symlinks end inside the guest; a terminal gets no control characters.
expect_fail 1 '/up: no such file' "$VMATOOL" cat evil.vma:/up
expect_fail 1 'no such file' "$VMATOOL" cp evil.vma:/link/etc/passwd jail/target
expect_fail 1 'twice' "$VMATOOL" ls -R evil.vma:/
script -qec "'$VMATOOL' ls evil.vma:/" /dev/null </dev/null >shown
! grep -q "$(printf '\033')" shown || fail "a control character on the terminal"
grep -q 'a?b' shown

# --- a broken file system is an error
cp evil.raw broken.raw
# All of the inode table.
table=$(dumpe2fs evil.raw 2>/dev/null | sed -n 's/.*Inode table at \([0-9]*\)-.*/\1/p' | head -1)
python3 - "$table" <<'END'
import sys
with open("broken.raw", "r+b") as f:
    f.seek(int(sys.argv[1]) * 1024)
    f.write(b"\xff" * 8192)
END
"$VMATOOL" create broken.vma broken.raw
for command in "ls -lR" cat "cp -r"; do
    status=0
    # shellcheck disable=SC2086
    timeout 60 "$VMATOOL" $command broken.vma:/ out 2>messages >/dev/null || status=$?
    [ "$status" = 1 ] || [ "$status" = 2 ] || fail "status $status: $command"
done

# --- lost clusters: what is in them is told, the rest is copied
mkdir lost
for i in $(seq 8); do
    head -c 1000000 /dev/urandom >"lost/file$i"
done
truncate -s 24M lost.raw
mkfs.ext4 -q -b 4096 -d lost lost.raw
"$VMATOOL" create lost.vma lost.raw
python3 - <<'END'
disk = open("lost.raw", "rb").read()
piece = open("lost/file5", "rb").read()[200000:204096]
archive = bytearray(open("lost.vma", "rb").read())
at = archive.find(piece[:512])
assert at > 0
# The header of the extent that it is in.
head = archive.rfind(b"VMAE", 0, at)
archive[head + 30] ^= 1
open("lost.vma", "wb").write(archive)
END
expect_fail 1 'checksum mismatch.*\(--salvage reads the rest\)' "$VMATOOL" cp -r lost.vma:/ out
status=0
"$VMATOOL" cp -r --salvage lost.vma:/ rest 2>messages || status=$?
same_text 1 "$status"
[ ! -e rest/file5 ] || fail "a file that lost data got its name"
grep -qE 'file5.*(missing|damaged)' messages
copied=0
for file in rest/file*; do
    same_bytes "lost/${file##*/}" "$file"
    copied=$((copied + 1))
done
[ "$copied" -ge 3 ] || fail "only $copied files were copied"
same_text '' "$(find rest -name '.vmatool-*')"

# --- an interrupted copy leaves nothing half-written
truncate -s 40M many.raw
mkfs.ext4 -q many.raw
truncate -s 900G huge
echo 'write huge huge' | debugfs -w -f - many.raw >/dev/null 2>&1
"$VMATOOL" create many.vma many.raw
mkdir halfway
("$VMATOOL" cat many.vma:/huge | head -c 1000 >/dev/null) 2>/dev/null || true
"$VMATOOL" cat many.vma:/huge >/dev/null 2>&1 &
pid=$!
sleep 0.3
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
same_text 143 "$status"
# It is one hole, and copied at once.
"$VMATOOL" cp many.vma:/huge halfway
same_text 966367641600 "$(stat -c %s halfway/huge)"

# --- attributes that only a kernel writes
if [ "$(id -u)" = 0 ]; then
    truncate -s 40M live.raw
    mkfs.ext4 -q live.raw
    mkdir live
    if mount -o loop,commit=1 live.raw live; then
        cleanup_fn umount "$TEST_TMP/live"
        printf 'before\n' >live/file
        setfattr -n user.key -v value live/file
        touch -d '2001-02-03 04:05:06.789' live/file
        sync live/file
        umount live
        cleanup_commands=()
        "$VMATOOL" create clean.vma live.raw
        "$VMATOOL" cp -a clean.vma:/file kept 2>messages
        same_text '' "$(cat messages)"
        same_text before "$(cat kept)"
        same_text value "$(getfattr --only-values -n user.key kept)"
        same_text "$(date -u -d '2001-02-03 04:05:06.789' +%s.%N)" "$(date -u -r kept +%s.%N)"
    fi
fi
