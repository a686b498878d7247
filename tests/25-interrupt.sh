#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# Ctrl-C in the middle of verify and extract: they end soon, with 128 + signal, and leave nothing.

. "$(dirname "$0")/lib/functions.sh"

make_archive slots-58 a.vma >/dev/null
mkfifo pipe

interrupt() # SIGNAL STATUS COMMAND...: the command reads its archive from a pipe that stalls
{
    local signal=$1 wanted=$2 status=0 writer child
    shift 2
    # sleep takes the writer's place, so that killing the one ends the other.
    { head -c 6000000 a.vma && exec sleep 60; } >pipe &
    writer=$!
    # Without job control a shell lets its children ignore SIGINT; env undoes that.
    env --default-signal=INT "$@" <pipe >stdout 2>stderr &
    child=$!
    sleep 1
    kill -0 "$child" || fail "it ended before it was interrupted: $(cat stderr)"
    kill -"$signal" "$child"
    ended()
    {
        ! kill -0 "$child" 2>/dev/null
    }
    wait_until 3 ended || fail "SIG$signal does not end $*"
    wait "$child" || status=$?
    kill "$writer" 2>/dev/null || true
    wait "$writer" || true
    same_text "$wanted" "$status"
    ! grep -qiE 'damaged|mismatch|truncated' stderr || fail "blames the archive: $(cat stderr)"
}

mkdir target
for signal in INT:130 TERM:143; do
    interrupt "${signal%:*}" "${signal#*:}" "$VMATOOL" verify -
    interrupt "${signal%:*}" "${signal#*:}" "$VMATOOL" extract - target/out
    [ -z "$(ls target)" ] || fail "left after SIG${signal%:*}: $(find target)"
done
