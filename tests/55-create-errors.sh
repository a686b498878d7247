#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create fails at any point: a clear line, a status, nothing under the final name, nothing temporary.

. "$(dirname "$0")/lib/functions.sh"
requires python3

head -c 40M /dev/urandom >disk.raw
truncate -s 100M disk.raw

nothing_left() # FOLDER: nothing at all, hidden or not
{
    local left
    left=$(find "$1" -mindepth 1 ! -name lost+found)
    [ -z "$left" ] || fail "left behind: $left"
}

# All ways of compression, and none, meet the same errors.
each_way() # STATUS PATTERN FOLDER [create argument...]
{
    local status=$1 pattern=$2 folder=$3 way
    shift 3
    for way in none zstd lz4; do
        expect_fail "$status" "$pattern" \
            "$VMATOOL" create "$folder/x.vma" --compress "$way" "$@" disk.raw
        nothing_left "$folder"
    done
}

# The input: shrinks, is unreadable.
mkdir out
cp disk.raw shrinking.raw
"$VMATOOL" create out/x.vma --speed 10M s=shrinking.raw 2>error &
child=$!
sleep 1
truncate -s 20M shrinking.raw
status=0
wait "$child" || status=$?
same_text 1 "$status"
same_text "vmatool: disk 's' (shrinking.raw): has shrunk: nothing left at offset 20971520" "$(cat error)"
nothing_left out

# The output ends early.
set +o pipefail
"$VMATOOL" create - disk.raw 2>error | head -c 100000 >/dev/null
same_text 1 "${PIPESTATUS[0]}"
set -o pipefail
same_text "vmatool: -: cannot write: Broken pipe" "$(cat error)"
expect_fail 1 'exec:false: ' "$VMATOOL" create exec:false disk.raw
expect_fail 1 'exec:head.*Broken pipe' "$VMATOOL" create 'exec:head -c 1000 >/dev/null' disk.raw
expect_fail 1 'status 7' "$VMATOOL" create 'exec:cat >/dev/null; exit 7' disk.raw
# shellcheck disable=SC2016  # the command's own $$
expect_fail 1 'signal 9' "$VMATOOL" create 'exec:cat >/dev/null; kill -9 $$' disk.raw
expect_fail 1 '/dev/full: cannot write: No space' "$VMATOOL" create /dev/full disk.raw
expect_fail 1 '/dev/full: cannot write: No space' "$VMATOOL" create /dev/full --compress zstd disk.raw
# A file of the shell's is as empty as before.
status=0
(
    ulimit -f 20000
    trap '' XFSZ
    "$VMATOOL" create - disk.raw >partial.vma 2>error
) || status=$?
same_text 1 "$status"
same_text "vmatool: -: cannot write: File too large" "$(cat error)"
same_text 0 "$(stat -c %s partial.vma)"

# Signals.
start_create() # ARGUMENT...: sets $child, when it is at work
{
    "$VMATOOL" create "$@" --speed 5M disk.raw 2>error &
    child=$!
    sleep 0.7
    kill -0 "$child" || fail "$(cat error)"
}
stop_create() # SIGNAL STATUS
{
    local status=0
    kill -"$1" "$child" 2>/dev/null || true # it may have ended by an earlier one
    wait "$child" 2>/dev/null || status=$?
    same_text "$2" "$status"
    # A sanitizer may take so long to end that it is said twice.
    [ "$1" = KILL ] || same_text "vmatool: interrupted" "$(sort -u error)"
}
for way in none zstd; do
    for signal in TERM:143 HUP:129; do
        start_create out/x.vma --compress "$way"
        stop_create "${signal%:*}" "${signal#*:}"
        nothing_left out
    done
    start_create out/x.vma --compress "$way"
    stop_create KILL 137
    nothing_left out
done
# A command is told to stop before its input ends, and may not take it for a whole archive.
start_create "exec:exec 2>/dev/null; trap 'exit 1' TERM; cat >part; : >ended"
started=$(date +%s%N)
stop_create TERM 143
[ -e part ] && [ ! -e ended ] || fail "the command saw the end of its input"
[ $((($(date +%s%N) - started) / 1000000)) -lt "$(slower 3)000" ] || fail "slow to end"
# One that does not read.
"$VMATOOL" create "exec:sleep 1000" disk.raw 2>error &
child=$!
sleep 0.7
stop_create TERM 143
# A pipe that nobody reads.
mkfifo stuck
sleep 1000 <>stuck &
sleeper=$!
cleanup_fn kill "$sleeper"
"$VMATOOL" create stuck disk.raw 2>error &
child=$!
sleep 0.7
stop_create TERM 143
# A second signal does not wait.
started=$(date +%s%N)
"$VMATOOL" create stuck disk.raw 2>error &
child=$!
sleep 0.7
kill -TERM "$child"
sleep 0.1
stop_create TERM 143
[ $((($(date +%s%N) - started) / 1000000)) -lt "$(slower 2)500" ] || fail "slow to end"

[ "$(id -u)" = 0 ] || { echo "the rest needs root"; exit 0; }

# File systems that are full, broken, or know no unnamed files.
mounted() # FOLDER: to be unmounted in the end
{
    cleanup_fn umount -l "$1"
}
mkdir small
if mount -t tmpfs -o size=8m none small 2>/dev/null; then
    mounted small
    each_way 1 'small/x\.vma: cannot write: No space left on device' small
fi
truncate -s 16M ext4.img
mkdir ext4
if mkfs.ext4 -q ext4.img && mount -o loop ext4.img ext4 2>/dev/null; then
    mounted ext4
    each_way 1 'ext4/x\.vma: cannot write: No space left on device' ext4
fi

# The medium itself is full: write-back fails, and fsync must tell.  The loop's file is in a tmpfs that
# is smaller than the file system it holds.
mkdir thin thin-fs
if mount -t tmpfs -o size=24m none thin 2>/dev/null; then
    mounted thin
    truncate -s 400M thin/image
    # No journal: its own errors would make the file system read-only first.
    if mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1 thin/image &&
        mount -o loop thin/image thin-fs 2>/dev/null; then
        mounted thin-fs
        expect_fail 1 'thin-fs/x\.vma: cannot write: ' "$VMATOOL" create thin-fs/x.vma disk.raw
        nothing_left thin-fs
    fi
fi
